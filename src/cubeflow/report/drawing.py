"""Figures without a display: one look for all, and the same bytes for the same numbers."""

from __future__ import annotations

import gc
import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cubeflow.maps.arrays import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stand out on white and on near-black. INK and SOFT become variables of the page in SVG.
INK, SOFT = "#15181d", "#8b919a"
DATA, MODEL, ALERT, THIRD = "#2f81d6", "#d9730d", "#d4337c", "#2a9d72"
SERIES = (DATA, MODEL, THIRD, ALERT, "#8a63d2", "#9a8300")
PAGE_COLOURS = {INK: "var(--ink)", SOFT: "var(--soft)"}
PNG_LEVEL = 3  # a fifth larger than by default, in a third of the time
MANY_POINTS = 1500  # more are drawn as an image inside an SVG

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "grid.color": SOFT,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.markersize": 4.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "cubeflow",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def drawing(width_in: float, height_in: float) -> Iterator[Figure]:
    """Give a new figure of that size in inches; axes made inside the block have the common look."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        dict.update(cast("dict[Any, Any]", matplotlib.rcParams), _look())
        figure = Figure(figsize=(width_in, height_in))
        # Fixed margins in inches: to have them found would take as long as drawing.
        margins = {"left": 0.75 / width_in, "right": 1 - 0.15 / width_in}
        figure.subplots_adjust(**margins, bottom=0.5 / height_in, top=1 - 0.12 / height_in)
        yield figure
        figure.clear()
    _keep_libraries()
    gc.collect()  # the parts of a figure refer to each other, and would stay until Python looks for such circles


@lru_cache(maxsize=1)
def _keep_libraries() -> None:
    """Have Python not look for circles in what is loaded by now: that would take as long as some of the figures."""
    gc.collect()
    gc.freeze()


@lru_cache(maxsize=1)
def _look() -> dict[Any, Any]:
    """All settings of matplotlib, whatever those of the user are: its defaults and `STYLE`."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        return dict.copy(cast("dict[Any, Any]", matplotlib.rcParams))


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """PNG of a figure; no time and no version of a program is inside. Call it inside `drawing`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    # The canvas' own method draws once, where savefig would draw twice.
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": PNG_LEVEL})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str, alt: str, dpi: int = 150) -> str:
    """SVG element for a page. Call it inside `drawing`, and last: the figure loses its background.

    Parameters
    ----------
    figure : Figure
        What to draw. It follows the colours of the page through the variables ``--ink`` and ``--soft``.
    name : str
        Unique on the page: identifiers inside the SVG begin with it.
    alt : str
        What the figure shows, for those who do not see it.
    dpi : int
        Resolution of the images inside.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    figure.set_dpi(dpi)
    for background in (figure.patch, *(axes.patch for axes in figure.axes)):
        background.set_visible(False)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in PAGE_COLOURS.items():
        text = text.replace(colour, variable)
    for size in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}" focusable="false"', 1)


def plain_text(text: str) -> str:
    """Text from a file for a figure: a dollar sign starts no formula, and nothing is too long."""
    shown = text if len(text) <= 60 else f"{text[:59]}…"
    return "".join(char if char.isprintable() else " " for char in shown).replace("$", r"\$")


def grid(axes: Axes) -> None:
    """Draw faint lines behind the data."""
    axes.grid(True)
    axes.tick_params(length=3)


def power_of_ten(values: FloatArray) -> int:
    """Power of ten of the largest value."""
    largest = float(values.max(initial=0.0))
    return int(np.floor(np.log10(largest))) if largest > 0 else 0


def superscript(number: int) -> str:
    """Whole number in superscript digits."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
