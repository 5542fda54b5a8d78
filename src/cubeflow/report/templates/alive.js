// Pictures: what is under the pointer or at the next point, enlarged parts, and bands of energy.
(() => {
  // Values of an image: each of its colours stands for one. A PNG has bytes in its palette from 41 on, that of none first.
  const decode = async (image) => {
    const [low, high] = image.dataset.span.split(" ").map(Number);
    const href = image.href.baseVal, head = atob(href.slice(href.indexOf(",") + 1).slice(0, 1200));
    const colour = (red, green, blue) => (red << 16) | (green << 8) | blue;
    const last = (256 * head.charCodeAt(35) + head.charCodeAt(36)) / 3 - 2;
    const steps = new Map(Array.from({ length: last + 1 }, (_, k) => [colour(...[44, 45, 46].map((at) => head.charCodeAt(at + 3 * k))), k]));
    const picture = new Image();
    picture.src = href;
    await picture.decode();
    const { naturalWidth: width, naturalHeight: height } = picture;
    const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const pixels = context.getImageData(0, 0, width, height).data;
    return (u, v) => {
      const [row, column] = [[v, height], [u, width]].map(([part, size]) => Math.max(0, Math.min(Math.floor(part * size), size - 1)));
      const at = 4 * (row * width + column);
      const part = steps.get(colour(pixels[at], pixels[at + 1], pixels[at + 2])) / last;
      if (!(pixels[at + 3] > 0 && part >= 0)) return "no value";
      const beyond = low < 0 ? { 0: "≤ ", 1: "≥ " }[part] ?? "" : "";
      return `${beyond}${Number((low + part * (high - low)).toPrecision(2))} ${image.dataset.unit}`;
    };
  };
  // Direction at a place of a map, from those at the nodes of a grid.
  const vectorAt = ({ nodes, columns, step }, x, y) => {
    const i = Math.min(Math.floor(x / step), columns - 2), j = Math.min(Math.floor(y / step), nodes.length / columns / 3 - 2);
    const [u, v] = [x / step - i, y / step - j];
    const at = (row, column, k) => nodes[3 * (row * columns + column) + k] ?? NaN;
    return [0, 1, 2].map((k) => (1 - v) * ((1 - u) * at(j, i, k) + u * at(j, i + 1, k)) + v * ((1 - u) * at(j + 1, i, k) + u * at(j + 1, i + 1, k)));
  };

  const start = (figure) => {
    const box = figure.querySelector(".picture"), said = make("p", { class: "said", role: "status" });
    const layers = [...box.querySelectorAll("[id$=-layers] > image")], skies = [...box.querySelectorAll(".sky")];
    const points = [...box.querySelectorAll(".points")].flatMap((path) => {
      const words = path.dataset.words.split("|");
      return [...path.getAttribute("d").matchAll(/M([\d.-]+),([\d.-]+)/g)].map(([, x, y], k) => ({ path, x: Number(x), y: Number(y), words: words[k] }));
    });
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const look = { stroke: "#d4337c", "stroke-width": 11, "stroke-linecap": "round", "stroke-opacity": 0.6, "pointer-events": "none" };
    for (const [name, value] of Object.entries(look)) cursor.setAttribute(name, value);
    let point = -1, place = null, size = 1;
    const mark = (parent, x, y) => {
      cursor.setAttribute("d", `M${x},${y}h0`);
      parent.append(cursor);
    };
    const show = (k) => {
      point = k;
      mark(points[k].path.parentNode, points[k].x, points[k].y);
      said.textContent = points[k].words;
    };
    const about = skies.length && JSON.parse(figure.closest("section").dataset.sky);
    const tell = async (sky, { x, y }) => {
      const layer = layers.find((each) => !each.hasAttribute("display"));
      place = [Math.max(0, Math.min(x, about.nx - 1e-3)), Math.max(0, Math.min(y, about.ny - 1e-3))];
      mark(sky, ...place);
      layer.values ??= decode(layer);
      const { y: top, width: across, height: down } = layer;
      const value = (await layer.values)(place[0] / across.baseVal.value, (place[1] - top.baseVal.value) / down.baseVal.value), [a, b, c] = vectorAt(about, ...place), degree = 180 / Math.PI;
      const apart = Math.hypot(a - about.target[0], b - about.target[1], c - about.target[2]) * degree;
      const [lon, lat] = about.frame.split(" ");
      const where = Number.isNaN(a) ? "" : ` at ${lon} ${((Math.atan2(b, a) * degree + 360) % 360).toFixed(3)}°, ${lat} ${(Math.atan2(c, Math.hypot(a, b)) * degree).toFixed(3)}°, ${apart.toFixed(2)}° from the target`;
      said.textContent = value + where;
    };
    const at = (element, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(element.getScreenCTM().inverse());
    box.addEventListener("pointermove", (event) => {
      const sky = event.target.closest?.(".sky");
      if (sky) return void tell(sky, at(sky, event));
      const places = new Map([...new Set(points.map(({ path }) => path))].map((path) => [path, [at(path, event), path.getScreenCTM().a]]));
      const far = points.map(({ path, x, y }) => {
        const [there, scale] = places.get(path);
        return scale * Math.hypot(x - there.x, y - there.y);
      });
      const nearest = far.reduce((best, each, k) => (each < far[best] ? k : best), 0);
      if (far[nearest] < 20) show(nearest);
    });
    const zoom = (factor) => {
      size = Math.max(1, Math.min(size * factor, 16));
      box.classList.toggle("enlarged", size > 1);
      const middle = [box.scrollLeft + box.clientWidth / 2, box.scrollTop + box.clientHeight / 2].map((each, k) => each / (k ? box.scrollHeight : box.scrollWidth));
      box.style.setProperty("--size", size);
      box.scrollTo(middle[0] * box.scrollWidth - box.clientWidth / 2, middle[1] * box.scrollHeight - box.clientHeight / 2);
    };
    box.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "+") zoom(2); else if (event.key === "-") zoom(0.5);
      else if (!way || !(skies.length || points.length)) return;
      else if (skies.length) {
        const { nx, ny, step } = about, [x, y] = place ?? [nx / 2, ny / 2];
        tell(skies[0], { x: x + (way[0] * step) / 20, y: y + (way[1] * step) / 20 });
      } else show((point + way[0] + way[1] + points.length) % points.length);
      event.preventDefault();
      cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    const tools = make("div", { class: "tools" });
    for (const [sign, factor, words] of [["+", 2, "enlarge"], ["−", 0.5, "make smaller"]]) {
      tools.append(make("button", { type: "button", "aria-label": words, onclick: () => zoom(factor) }, sign));
    }
    if (layers.length > 1) {
      const name = make("span", {}, layers[0].dataset.title), slider = make("input", { type: "range", min: "0", max: String(layers.length - 1), value: "0" });
      slider.addEventListener("input", () => {
        layers.forEach((layer, k) => { if (k === Number(slider.value)) layer.removeAttribute("display"); else layer.setAttribute("display", "none"); });
        name.textContent = layers[slider.value].dataset.title;
      });
      tools.append(make("label", {}, "energies", slider, name));
    }
    box.after(tools, said);
  };
  document.querySelectorAll("figure").forEach(start);
})();
