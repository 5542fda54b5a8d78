// Texts with less contrast to what is behind them than WCAG AA asks for (4.5), with their ratio.
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255);
  };
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [red, green, blue] = rgb(colour).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "white";
  };
  const texts = "h1,h2,h3,h4,p,dt,dd,th,td,caption,a,button,figcaption,label,code,summary,span,svg text";
  const poor = new Set();
  for (const element of document.querySelectorAll(texts)) {
    const words = element.textContent.trim();
    if (!words || element.disabled || element.closest("[hidden]") || element.matches(".skip")) continue;
    const style = getComputedStyle(element);
    const front = light(element.tagName === "text" ? style.fill : style.color), back = light(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) poor.add(`${element.tagName} ${words.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return [...poor];
})();
