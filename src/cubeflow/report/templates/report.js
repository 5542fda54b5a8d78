"use strict";
const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
};
// The run tables: sorted, filtered and shown in pages, so that ten thousand rows stay quick.
(() => {
  const PAGE = 100;
  const cell = (column, row) => ("values" in column ? column.values[row] : column.value);
  const isNumber = (column) => {
    const values = "values" in column ? column.values : [column.value];
    return values.some((value) => typeof value === "number") && !values.some((value) => typeof value === "string");
  };
  const show = (column, row) => {
    const value = cell(column, row);
    if (value === null || value === undefined) return "";
    if (typeof value !== "number" || Number.isInteger(value)) return String(value);
    return String(Number(value.toPrecision(column.digits ?? 3)));
  };
  const compare = (first, second) => {
    const missing = (first === null || first === "") - (second === null || second === "");
    if (missing) return { missing };
    if (typeof first === "number" && typeof second === "number") return { order: first - second };
    return { order: String(first).localeCompare(String(second), "en", { numeric: true }) };
  };
  const TESTS = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => a === b, "!=": (a, b) => a !== b,
  };
  // A filter is words that must all occur, and conditions such as zenith>40; only spaces separate them.
  const parse = (text, columns) => {
    const tight = text.replace(/\s*(<=|>=|!=|=|<|>)\s*/g, "$1").trim().toLowerCase();
    const tests = tight === "" ? [] : tight.split(/\s+/).map((word) => {
      const parts = /^([^<>=!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(word);
      const column = parts && columns.find((each) => each.name.toLowerCase() === parts[1]);
      if (!column) return { word };
      const number = Number(parts[3]);
      return { column, test: TESTS[parts[2]], wanted: Number.isNaN(number) ? parts[3] : number };
    });
    return (row, shown) => tests.every(({ word, column, test, wanted }) => {
      if (column) {
        const value = cell(column, row);
        if (value === null) return false;
        return test(typeof wanted === "number" ? Number(value) : String(value).toLowerCase(), wanted);
      }
      return shown.some((each) => show(each, row).toLowerCase().includes(word));
    });
  };

  const build = (box, number) => {
    const data = JSON.parse(document.getElementById(box.dataset.table).textContent);
    const columns = data.columns.map((column) => ({ ...column, number: isNumber(column) }));
    const status = columns.find((column) => column.name === "status");
    const state = { sort: null, down: false, page: 0, rows: [] };

    const filter = make("input", { type: "search", id: `filter-${number}`, autocomplete: "off", spellcheck: "false", placeholder: "words, or zenith>40" });
    const choice = make("select", {}, make("option", { value: "" }, "all"));
    const found = status ? new Set(Array.from({ length: data.rows }, (_, row) => cell(status, row))) : new Set();
    for (const name of [...found].sort()) choice.append(make("option", { value: name }, name));
    const said = make("span", { role: "status", "aria-live": "polite" });
    const previous = make("button", { type: "button" }, "Previous"), next = make("button", { type: "button" }, "Next");
    const head = make("thead"), body = make("tbody");
    const table = make("table", {}, make("caption", {}, "Selected runs, also those that were not used"), head, body);
    const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Run table" }, table);
    const picker = make("div", { class: "columns" });
    for (const column of columns) {
      const tick = make("input", { type: "checkbox", checked: column.shown });
      tick.addEventListener("change", () => { column.shown = tick.checked; drawHead(); select(); });
      picker.append(make("label", { title: column.description || "" }, tick, column.name));
    }
    box.append(
      make("div", { class: "controls" },
        make("label", {}, "Filter", filter), make("label", {}, "Status", choice), previous, next, said),
      make("p", { class: "hint" }, "A filter is words that a row must hold, and conditions on any column, such as ",
        make("code", {}, "zenith>40 livetime>=1500"), ". A click on a heading sorts."),
      make("details", {}, make("summary", {}, `Columns (${columns.length})`), picker), scroll);

    const shown = () => columns.filter((column) => column.shown);
    const drawHead = () => {
      const line = make("tr");
      for (const column of shown()) {
        const sorted = state.sort === column;
        const arrow = sorted ? (state.down ? " ▼" : " ▲") : "";
        const unit = column.unit ? make("span", { class: "unit" }, ` ${column.unit}`) : "";
        const button = make("button", { type: "button", title: `${column.name}: ${column.description || ""}` }, column.heading ?? column.name, unit, arrow);
        button.addEventListener("click", () => {
          state.down = sorted ? !state.down : false;
          state.sort = column;
          drawHead();
          select();
          head.querySelectorAll("button")[shown().indexOf(column)].focus();
        });
        const order = sorted ? (state.down ? "descending" : "ascending") : "none";
        line.append(make("th", { scope: "col", "aria-sort": order, class: column.number ? "number" : "" }, button));
      }
      head.replaceChildren(line);
    };
    const select = () => {
      const matches = parse(filter.value, columns), visible = shown(), wanted = choice.value;
      state.rows = Array.from({ length: data.rows }, (_, row) => row)
        .filter((row) => (wanted === "" || cell(status, row) === wanted) && matches(row, visible));
      if (state.sort) {
        const column = state.sort, sign = state.down ? -1 : 1;
        state.rows.sort((a, b) => {
          const { missing, order } = compare(cell(column, a), cell(column, b));
          return missing || sign * order || a - b;
        });
      }
      state.page = 0;
      drawBody();
    };
    const drawBody = () => {
      const visible = shown(), first = state.page * PAGE, part = state.rows.slice(first, first + PAGE);
      body.replaceChildren(...part.map((row) => {
        const bad = status && cell(status, row) !== "ok";
        return make("tr", { class: bad ? "bad" : "" }, ...visible.map((column) => {
          const value = show(column, row);
          const head = column.name === "obs_id";
          const attributes = { class: column.number ? "number" : "text" };
          if (head) attributes.scope = "row";
          if (value.length > 30) attributes.title = value;
          return make(head ? "th" : "td", attributes, value);
        }));
      }));
      const count = state.rows.length, plural = data.rows === 1 ? "" : "s";
      const range = count > PAGE ? `, rows ${first + 1} to ${first + part.length} shown` : "";
      said.textContent = `${count} of ${data.rows} run${plural}${range}`;
      previous.disabled = state.page === 0;
      next.disabled = first + PAGE >= count;
      previous.hidden = next.hidden = count <= PAGE;
      scroll.scrollTop = 0;
    };
    filter.addEventListener("input", select);
    choice.addEventListener("change", select);
    previous.addEventListener("click", () => { state.page -= 1; drawBody(); });
    next.addEventListener("click", () => { state.page += 1; drawBody(); });
    drawHead();
    select();
  };
  document.querySelectorAll(".runs").forEach(build);
})();
