"""Charts as SVG: panels with axes, points, lines and steps.

A general library takes a tenth of a second for a chart, more than all else that a label needs; and here each point
keeps its words, which the script of the page shows.
"""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cubeflow.maps.arrays import FloatArray

Box = tuple[float, float, float, float]  # left, top, width and height
Ticks = Iterable[tuple[float, str]]  # places and names
# Variables of the page, with what they are where there is no page: colours that stand out on white and near-black.
INK, SOFT = "var(--ink,#15181d)", "var(--soft,#5c636d)"
DATA, MODEL, ALERT, THIRD = "#2f81d6", "#d9730d", "#d4337c", "#2a9d72"
SERIES = (DATA, MODEL, THIRD, "#8a63d2", "#9a8300")
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 420.0, 52.0, 14.0, 18.0, 34.0  # of a figure and its margins, in units of the SVG
MANY_POINTS = 300  # are drawn smaller, with fainter errors
LETTER = 5.8  # width of a letter on average


@dataclass(frozen=True, eq=False)
class Series:
    """Values of a panel; those that are not finite are not drawn."""

    x: FloatArray  # shape (n,); of steps the edges, (n + 1,)
    y: FloatArray  # shape (n,)
    kind: Literal["points", "line", "dashed", "steps"] = "points"
    colour: str = DATA
    label: str = ""  # in the legend of the figure, which has each but once
    error: FloatArray | None = None  # shape (n,)
    words: Sequence[str] = ()  # on each point


@dataclass(frozen=True, eq=False)
class Panel:
    """Two axes and what is drawn between them."""

    series: Sequence[Series]
    x_label: str
    y_label: str
    x_log: bool = False
    y_log: bool = False
    x_range: tuple[float, float] | None = None  # None for that of the values
    y_range: tuple[float, float] | None = None
    span: tuple[float, float] | None = None  # of x, shaded
    title: str = ""
    names: Sequence[str] = ()  # of x = 0, 1, ... in place of numbers
    whole: bool = False  # x has whole numbers only


@dataclass(frozen=True)
class Scale:
    """Linear or logarithmic axis."""

    low: float
    high: float
    is_log: bool = False

    def place(self, values: FloatArray) -> FloatArray:
        """Where values lie, from 0 at the lower to 1 at the upper end; below for what has no logarithm."""
        if not self.is_log:
            return (values - self.low) / (self.high - self.low)
        positive = np.fmax(values, self.low * (self.low / self.high))
        return np.where(np.isnan(values), np.nan, np.log(positive / self.low) / np.log(self.high / self.low))

    def ticks(self, number: int) -> list[float]:
        """Round values inside, about as many as that."""
        if not self.is_log or self.high / self.low < 8:
            step = round_step((self.high - self.low) / number)
            found = [k * step for k in range(int(np.ceil(self.low / step)), int(np.floor(self.high / step)) + 1)]
            return found if len(found) > 1 else self.ticks(2 * number)  # one number tells no scale
        powers = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))) + 1)
        several = (1.0, 2.0, 5.0) if self.high / self.low < 500 else (1.0,)
        found = [first * 10.0**power for power in powers[:: 1 + len(powers) // 8] for first in several]
        return [value for value in found if self.low <= value <= self.high]

    def names(self, ticks: Sequence[float]) -> list[str]:
        """Numbers at ticks."""
        return [f"{tick:g}" if self.is_log and tick < 1e5 else tick_name(tick, ticks) for tick in ticks]


def round_step(least: float) -> float:
    """Smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(first * power for first in (1.0, 2.0, 5.0, 10.0) if first * power >= least * (1 - 1e-9)))


def draw_panels(panels: Sequence[Panel], alt: str, columns: int = 1, height: float = 190.0) -> str:
    """SVG of panels, row by row, each of a height; `alt` is for those who do not see it."""
    width = (WIDTH - columns * LEFT - RIGHT) / columns
    named = {each.label: each for panel in panels for each in panel.series if each.label}
    parts, rows = legend(LEFT, 11.0, WIDTH, [(_stroke(each), name) for name, each in named.items()])
    above = 16.0 * rows - 12.0 * (not any(panel.title for panel in panels))
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        box = LEFT + column * (width + LEFT), above + row * height + TOP, width, height - TOP - BOTTOM
        parts += _panel(panel, box)
    return svg(parts, WIDTH, above + height * -(-len(panels) // columns), alt)


def svg(parts: Iterable[str], width: float, height: float, alt: str) -> str:
    """SVG element for a page; it takes the width that it is given."""
    about = f'role="img" aria-label="{html.escape(alt)}" font-size="11" font-family="system-ui,sans-serif"'
    place = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" fill="none"'
    return f"<svg {place} {about}>{''.join(parts)}</svg>"


def svg_file(element: str) -> bytes:
    """SVG file of an element of a page: what is seen of it, on white, in the colours that are for that."""
    head, _, rest = re.sub(r'<image [^>]*display="none"[^>]*/>', "", element).partition(">")
    rest = re.sub(r"var\(--\w+,(#\w+)\)", r"\1", rest)
    style = "<style>text{fill:#15181d}path{vector-effect:non-scaling-stroke}</style>"  # a page has its own
    return f'{head}>{style}<rect width="100%" height="100%" fill="white"/>{rest}\n'.encode()


def text(x: float, y: float, words: str, anchor: str = "start", turn: int = 0) -> str:
    """SVG text."""
    turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    how = (f' text-anchor="{anchor}"' if anchor != "start" else "") + turned
    return f'<text x="{round(x, 1):g}" y="{round(y, 1):g}"{how}>{html.escape(words)}</text>' if words else ""


def path(d: str, colour: str, about: str = "") -> str:
    """SVG path."""
    return f'<path d="{d}" stroke="{colour}" {about}/>' if d else ""


def line_d(x: FloatArray, y: FloatArray) -> str:
    """Path along positions, broken where there is none, of its beginnings and as few steps as have the same course."""
    places = np.rint(100 * np.stack([x, y], axis=1))
    known = np.isfinite(places[:, 0] + places[:, 1])
    starts, places = (known & ~np.concatenate([[False], known[:-1]]))[known], places[known]
    bends = np.any(np.diff(places, 2, axis=0), axis=1) | starts[1:-1] | starts[2:]
    kept = np.concatenate([[True], bends, [True]])[: len(places)]
    starts, places = starts[kept], places[kept]
    steps = 0.01 * np.where(starts[:, None], places, np.diff(places, axis=0, prepend=np.zeros((1, 2))))
    d = "".join(f"{'M' if a else 'l'}{u:.7g},{v:.7g}" for a, (u, v) in zip(starts, steps.tolist(), strict=True))
    d = re.sub(r"l([-\d.]+),-?0(?![\d.])", r"h\1", re.sub(r"l-?0,([-\d.e]+)", r"v\1", d))  # shorter by half
    return re.sub(r"(?<!\d)0\.", ".", d)


def frame(box: Box, labels: tuple[str, str], x_ticks: Ticks, y_ticks: Ticks) -> Iterator[str]:
    """Axes at the left and the lower side of a box: names, and numbers at their places."""
    left, top, width, height = box
    yield f'<path d="M{left:g},{top:g}v{height:g}h{width:g}" stroke="{INK}"/>'
    along = "".join(text(left + at, top + height + 14, name) for at, name in x_ticks)
    upward = "".join(text(left - 5, top + at + 3.5, name) for at, name in y_ticks)
    yield f'<g text-anchor="middle">{along}</g><g text-anchor="end">{upward}</g>'
    yield text(left + width / 2, top + height + 29, labels[0], "middle")
    yield text(left - 41, top + height / 2, labels[1], "middle", -90)


def legend(left: float, y: float, right: float, entries: Iterable[tuple[str, str]]) -> tuple[list[str], int]:
    """Names of lines, given by their attributes, one after the other; and the number of rows that they take."""
    parts, rows, x = list[str](), 0, right
    for about, name in entries:
        if x + 18 + LETTER * len(name) > right:
            x, y, rows = left, y + 16 * bool(rows), rows + 1
        parts.append(f'<g stroke-width="2.5"><path d="M{x:.1f},{y - 4:g}h14" {about}/></g>' + text(x + 18, y, name))
        x += 30 + LETTER * len(name)
    return parts, rows


def _stroke(series: Series) -> str:
    return f'stroke="{series.colour}"' + (' stroke-dasharray="4 3"' if series.kind == "dashed" else "")


def _panel(panel: Panel, box: Box) -> Iterator[str]:
    left, top, width, height = box
    x_scale = _scale([each.x for each in panel.series], panel.x_range, panel.x_log, 0.03)
    errors = [each.y + sign * each.error for each in panel.series if each.error is not None for sign in (-1, 1)]
    y_scale = _scale([*(each.y for each in panel.series), *errors], panel.y_range, panel.y_log, 0.06)
    x_ticks = [tick for tick in x_scale.ticks(int(width / 45)) if not panel.whole or abs(tick - round(tick)) < 1e-9]
    x_names = panel.names or x_scale.names(x_ticks)
    one_in = 1 + int(1.2 * LETTER * sum(map(len, x_names)) / width)  # else long numbers would touch
    x_at = width * x_scale.place(np.array(range(len(x_names)) if panel.names else x_ticks, float))
    y_ticks = y_scale.ticks(int(height / 28))
    y_at = height * (1 - y_scale.place(np.array(y_ticks, float)))
    lines = "".join(f"M{x:.1f},0v{height:g}" for x in x_at) + "".join(f"M0,{y:.1f}h{width:g}" for y in y_at)
    parts = [f'<path class="grid" d="{lines}"/>']
    if panel.span is not None:
        start, end = width * x_scale.place(np.array(panel.span))
        size = f'x="{start:.1f}" width="{max(end - start, 1.5):.1f}" height="{height:g}"'
        parts.append(f'<rect {size} fill="{THIRD}" fill-opacity="0.2"/>')
    for each in panel.series:
        parts += _series(each, width * x_scale.place(each.x), height, y_scale)
    yield f'<svg x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}">{"".join(parts)}</svg>'
    ticks = zip(x_at[::one_in], x_names[::one_in], strict=True), zip(y_at, y_scale.names(y_ticks), strict=True)
    yield from frame(box, (panel.x_label, panel.y_label), *ticks)
    yield text(left, top - 5, panel.title)


def _series(series: Series, x: FloatArray, height: float, scale: Scale) -> Iterator[str]:
    """Parts of an SVG for values whose places along x are given."""
    y = height * (1 - scale.place(series.y))
    if series.kind != "points":
        if series.kind == "steps":
            x, y = np.repeat(x, 2)[1:-1], np.repeat(y, 2)
        yield f'<path d="{line_d(x, y)}" {_stroke(series)} stroke-width="1.6"/>'
        return
    drawn = np.isfinite(x) & np.isfinite(y) & ((series.y > 0) | np.bool_(not scale.is_log))
    known: list[int] = np.flatnonzero(drawn).tolist()
    said = [f"{series.words[k]}: {series.y[k]:.4g}" for k in known]
    if (error := series.error) is not None:
        low, high = (height * (1 - scale.place(series.y + sign * error)) for sign in (-1, 1))
        bars = "".join(f"M{x[k]:.1f},{low[k]:.1f}V{high[k]:.1f}" for k in known if np.isfinite(error[k]))
        yield path(bars, series.colour, "" if x.size < MANY_POINTS else 'stroke-opacity="0.2"')
        said = [f"{words} ± {error[k]:.2g}" for words, k in zip(said, known, strict=True)]
    look = "points" if x.size < MANY_POINTS else "many points"
    dots = "".join(f"M{x[k]:.1f},{y[k]:.1f}h0" for k in known)
    yield path(dots, series.colour, f'class="{look}" data-words="{html.escape("|".join(said))}"')


def _scale(values: Sequence[FloatArray], given: tuple[float, float] | None, is_log: bool, margin: float) -> Scale:
    """Linear or logarithmic axis that holds all values with a margin, or what is given."""
    found = np.concatenate([[], *values])
    found = found[np.isfinite(found) & ((found > 0) | np.bool_(not is_log))]
    if given is not None or not found.size:
        return Scale(*(given or (1.0, 10.0)), is_log)
    low, high = float(found.min()), float(found.max())
    if is_log:
        factor = max(high / low, 1.2) ** margin
        return Scale(low / factor, high * factor, True)
    reach = margin * ((high - low) or max(abs(high), 1.0) * 0.1)
    return Scale(low - reach, high + reach)


def tick_name(value: float, ticks: Sequence[float]) -> str:
    """Number on an axis, with as many digits as its neighbours need."""
    sizes = [abs(size) for size in (*np.diff(ticks), *ticks) if abs(size) > 1e-12]
    if sizes and 1e-3 <= max(sizes) < 1e6:
        digits = max(len(f"{tick:.10g}".partition(".")[2]) for tick in ticks)
        return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # no -0
    return f"{value:.3g}".replace("-", "−")


def superscript(number: int) -> str:
    """Whole number in superscript digits."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def power_of_ten(values: FloatArray) -> int:
    """Power of ten of the largest value."""
    largest = float(values.max(initial=0.0))
    return int(np.floor(np.log10(largest))) if largest > 0 else 0
