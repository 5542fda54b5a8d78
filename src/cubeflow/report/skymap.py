"""Images of the sky with celestial axes, exclusions, pointings and the target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Geometry, sphere
from cubeflow.report.figures import SOFT, drawing, plain_text, to_png, to_svg
from cubeflow.report.images import Image, colours, is_cut, powers_about_zero

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
LABELS = {"icrs": ("Right ascension", "Declination"), "galactic": ("Galactic longitude", "Galactic latitude")}
MAX_SIDE_PIXELS = 1200
LINE_COLOURS = "white", "#20242a"  # on images that are mostly dark, and on those that are mostly white
LEFT_IN, RIGHT_IN, BOTTOM_IN, TOP_IN = 0.8, 0.95, 0.6, 0.4
MAX_POINTINGS = 200


@dataclass(frozen=True, eq=False)
class Field:
    """What all images of a target share.

    Parameters
    ----------
    geom : Geometry
        Pixel grid of the images.
    keep : array of bool, shape (ny, nx)
        False where the exclusion regions are.
    pointings_deg : array, shape (n, 2)
        Right ascension and declination of the pointings, ICRS.
    target_deg : tuple of float
        Right ascension and declination of the target.
    title : str
        First part of every title.
    """

    geom: Geometry
    keep: NDArray[np.bool_]
    pointings_deg: FloatArray
    target_deg: tuple[float, float]
    title: str


def draw_image(image: Image, field: Field, svg_name: str | None, alt: str, dpi: int = 150) -> tuple[bytes, str]:
    """PNG and SVG (see `to_svg`) of an image, with the same content; the SVG is empty without a name."""
    with drawing(*figure_size(field.geom)) as figure:
        _draw(figure, image, field)
        return to_png(figure), "" if svg_name is None else to_svg(figure, svg_name, alt, dpi)


def figure_size(geom: Geometry) -> tuple[float, float]:
    """Width and height of the figure in inches: square pixels, and margins for the labels."""
    scale = min((4.3 if geom.nx < 2.2 * geom.ny else 9.0) / geom.nx, 5.5 / geom.ny)
    return max(scale * geom.nx, 2.0) + LEFT_IN + RIGHT_IN, max(scale * geom.ny, 1.2) + BOTTOM_IN + TOP_IN


def _draw(figure: Figure, image: Image, field: Field) -> None:
    data, step = reduced(image.data)
    width, height = figure.get_size_inches()
    inner = (width - LEFT_IN - RIGHT_IN) / width, (height - BOTTOM_IN - TOP_IN) / height
    left, bottom = LEFT_IN / width, BOTTOM_IN / height
    axes = figure.add_axes((left, bottom, *inner), projection=_wcs(field.geom, step))
    bar_axes = figure.add_axes((left + inner[0] + 0.12 / width, bottom, 0.16 / width, inner[1]))
    shown = axes.imshow(data, origin="lower", interpolation="nearest", aspect="auto", **colours(image))
    bar = figure.colorbar(shown, cax=bar_axes, extend="max" if is_cut(image) else "neither", extendfrac=0.02)
    bar.set_label(image.unit)
    if image.style == "excess":
        ticks = powers_about_zero(*shown.get_clim())
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.outline.set_edgecolor(SOFT)
    if not np.isfinite(data).any():
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color=SOFT)
    axes.set_title(f"{plain_text(field.title)}: {image.title}", fontsize=11, loc="left")
    _decorate(axes, field, step, image.style)
    axes.set_xlim(-0.5, data.shape[1] - 0.5)
    axes.set_ylim(-0.5, data.shape[0] - 0.5)


def reduced(data: FloatArray) -> tuple[FloatArray, int]:
    """Every n-th pixel, and n, so that no side is longer than what a screen shows."""
    step = int(np.ceil(max(data.shape) / MAX_SIDE_PIXELS))
    return data[step // 2 :: step, step // 2 :: step], step


@lru_cache(maxsize=4)
def _wcs(geom: Geometry, step: int) -> Any:
    """Celestial axes of every `step`-th pixel; all images of a target have them in common."""
    wcs = geom.wcs()
    return wcs if step == 1 else wcs[step // 2 :: step, step // 2 :: step]


def _decorate(axes: WCSAxes, field: Field, step: int, style: str) -> None:
    """Axes, exclusion regions, pointings and target."""
    from matplotlib.patheffects import withStroke

    line = LINE_COLOURS[style == "signed"]
    _label_axes(axes, field.geom.frame, line)
    handles = [] if field.keep.all() else [_draw_exclusions(axes, field, step, line)]
    handles += _draw_pointings(axes, field, step, "#0b5cad" if style == "signed" else "#7fd4ff")
    x, y = _pixels(field, [field.target_deg[0]], [field.target_deg[1]], step)
    halo = [withStroke(linewidth=2.6, foreground="white" if style == "signed" else "black")]
    handles += axes.plot(x, y, "x", color=line, markersize=7, path_effects=halo, label="target")
    _draw_legend(axes, handles, style)


def _draw_pointings(axes: WCSAxes, field: Field, step: int, colour: str) -> list[Any]:
    """Crosses at the pointings; of very many some, evenly by run, for all of them would hide the map."""
    x, y = _pixels(field, field.pointings_deg[:, 0], field.pointings_deg[:, 1], step)
    if not x.size:
        return []
    one_in = -(-x.size // MAX_POINTINGS)
    label, look = ("pointings", {"markersize": 8}) if one_in == 1 else (f"1 in {one_in} pointings", {"markersize": 5})
    return list(axes.plot(x[::one_in], y[::one_in], "+", color=colour, label=label, **look))


def _label_axes(axes: WCSAxes, frame: str, line: str) -> None:
    """Names, ticks and faint lines of the celestial coordinates."""
    for coordinate, label in zip(axes.coords, LABELS[frame], strict=True):
        coordinate.set_axislabel(label)
        coordinate.display_minor_ticks(True)
        coordinate.grid(color=line, alpha=0.18, linestyle="-", linewidth=0.6)


def _draw_legend(axes: WCSAxes, handles: list[Any], style: str) -> None:
    """Legend that can be read on the colours of the image."""
    legend = axes.legend(handles=handles, loc="upper right", fontsize=8, frameon=True, framealpha=0.8, edgecolor="none")
    legend.get_frame().set_facecolor("white" if style == "signed" else "black")
    for text in legend.get_texts():
        text.set_color(LINE_COLOURS[style == "signed"])


def _draw_exclusions(axes: WCSAxes, field: Field, step: int, line: str) -> Any:
    """Outline of the exclusion regions; return the handle of the legend."""
    from matplotlib.lines import Line2D
    from scipy.ndimage import gaussian_filter  # rounds the corners of the pixels

    excluded = gaussian_filter((~field.keep[step // 2 :: step, step // 2 :: step]).astype(float), 1.0)
    axes.contour(excluded, levels=[0.5], colors=[line], linewidths=1.1, linestyles="--")
    return Line2D([], [], color=line, linestyle="--", linewidth=1.1, label="exclusion")


def _pixels(field: Field, ra_deg: Any, dec_deg: Any, step: int) -> tuple[FloatArray, FloatArray]:
    """Pixel positions inside the image."""
    x, y = field.geom.vectors_to_pixel(sphere.unit_vectors(ra_deg, dec_deg))
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (x < field.geom.nx - 0.5) & (y > -0.5) & (y < field.geom.ny - 0.5)
    return (x[inside] - step // 2) / step, (y[inside] - step // 2) / step
