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
  const show = (column, row) => {
    const value = column.values[row] ?? "";
    return String(typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(column.digits ?? 3)) : value);
  };
  const isEmpty = (value) => value === null || value === "";
  const compare = (first, second) => {
    if (typeof first === "number" && typeof second === "number") return first - second;
    return String(first).localeCompare(String(second), "en", { numeric: true });
  };
  const TESTS = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => a === b, "!=": (a, b) => a !== b,
  };
  // A filter is words that must all occur, and conditions such as zenith>40; only spaces separate them.
  const parse = (text, columns) => {
    const tight = text.replace(/\s*(<=|>=|!=|=|<|>)\s*/g, "$1").trim().toLowerCase();
    const tests = tight.split(/\s+/).filter(Boolean).map((word) => {
      const [, name, sign, wanted] = /^([^<>=!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(word) ?? [];
      const column = columns.find((each) => each.name.toLowerCase() === name), number = Number(wanted);
      if (!column) return (row, shown) => shown.some((each) => show(each, row).toLowerCase().includes(word));
      const test = Number.isNaN(number)
        ? (value) => TESTS[sign](String(value).toLowerCase(), wanted)
        : (value) => TESTS[sign](Number(value), number);
      return (row) => column.values[row] !== null && test(column.values[row]);
    });
    return (row, shown) => tests.every((test) => test(row, shown));
  };

  const build = (box, number) => {
    const data = JSON.parse(document.getElementById(box.dataset.table).textContent);
    const columns = data.columns.map((column) => {
      const values = column.values ?? Array(data.rows).fill(column.value);
      const has = (type) => values.some((value) => typeof value === type);
      return { ...column, values, number: has("number") && !has("string") };
    });
    const status = columns.find((column) => column.name === "status");
    const state = { sort: null, down: false, page: 0, rows: [] };

    const filter = make("input", { type: "search", id: `filter-${number}`, autocomplete: "off", spellcheck: "false", placeholder: "words, or zenith>40", oninput: () => select() });
    const choice = make("select", { onchange: () => select() }, make("option", { value: "" }, "all"));
    for (const name of [...new Set(status?.values)].sort()) choice.append(make("option", { value: name }, name));
    const said = make("span", { role: "status", "aria-live": "polite" });
    const [previous, next] = [["Previous", -1], ["Next", 1]].map(([words, pages]) => make("button", { type: "button", onclick: () => { state.page += pages; drawBody(); } }, words));
    const head = make("thead"), body = make("tbody");
    const table = make("table", {}, make("caption", {}, "Selected runs, also those that were not used"), head, body);
    const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Run table" }, table);
    const picker = make("div", { class: "columns" });
    for (const column of columns) {
      const onchange = ({ target }) => { column.shown = target.checked; drawHead(); select(); };
      const tick = make("input", { type: "checkbox", checked: column.shown, onchange });
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
      head.replaceChildren(make("tr", {}, ...shown().map((column) => {
        const sorted = state.sort === column;
        const [order, arrow] = !sorted ? ["none", ""] : state.down ? ["descending", " ▼"] : ["ascending", " ▲"];
        const unit = column.unit ? make("span", { class: "unit" }, ` ${column.unit}`) : "";
        const button = make("button", { type: "button", title: `${column.name}: ${column.description || ""}` }, column.heading ?? column.name, unit, arrow);
        button.addEventListener("click", () => {
          state.down = sorted && !state.down;
          state.sort = column;
          drawHead();
          select();
          head.querySelectorAll("button")[shown().indexOf(column)].focus();
        });
        return make("th", { scope: "col", "aria-sort": order, class: column.number ? "number" : "" }, button);
      })));
    };
    const select = () => {
      const matches = parse(filter.value, columns), visible = shown(), wanted = choice.value;
      state.rows = [...Array(data.rows).keys()]
        .filter((row) => (wanted === "" || status.values[row] === wanted) && matches(row, visible));
      if (state.sort) {
        const { values } = state.sort, sign = state.down ? -1 : 1;
        state.rows.sort((a, b) => isEmpty(values[a]) - isEmpty(values[b]) || sign * compare(values[a], values[b]) || a - b);
      }
      state.page = 0;
      drawBody();
    };
    const drawBody = () => {
      const visible = shown(), first = state.page * PAGE, part = state.rows.slice(first, first + PAGE);
      body.replaceChildren(...part.map((row) => {
        const bad = status && status.values[row] !== "ok";
        return make("tr", { class: bad ? "bad" : "" }, ...visible.map((column) => {
          const value = show(column, row), look = { class: column.number ? "number" : "text" };
          if (value.length > 30) look.title = value;
          return column.name === "obs_id" ? make("th", { ...look, scope: "row" }, value) : make("td", look, value);
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
    drawHead();
    select();
  };
  document.querySelectorAll(".runs").forEach(build);
})();
