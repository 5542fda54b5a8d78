"""The images of a final cube: colours, celestial axes, exclusions, pointings and the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cubeflow.maps import Cube, Geometry, sphere
from cubeflow.maps.arrays import FloatArray
from cubeflow.report.drawing import SOFT, drawing, plain_text, power_of_ten, superscript, to_png, to_svg

if TYPE_CHECKING:
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.colors import Colormap, Normalize

SIGNIFICANCE_LIMITS = 5.0, 15.0
LABELS = {"icrs": ("Right ascension", "Declination"), "galactic": ("Galactic longitude", "Galactic latitude")}
MAX_SIDE_PIXELS = 1200
LINE_COLOURS = "white", "#20242a"  # on images that are mostly dark, and on those that are mostly white
LEFT_IN, RIGHT_IN, BOTTOM_IN, TOP_IN = 0.8, 0.95, 0.6, 0.4
MAX_POINTINGS = 200


@dataclass(frozen=True, eq=False)
class SkyImage:
    """One image and how it is shown."""

    name: str  # also that of the file
    title: str  # what it is, in words
    unit: str  # label of the colour bar
    data: FloatArray  # shape (ny, nx); NaN for none
    style: str = "smooth"  # or "signed" about zero, "excess" stretched about the noise, "counts" of events


def final_images(maps: Mapping[str, Cube], radius_deg: float) -> list[SkyImage]:
    """Images of a final cube, in the order in which people look.

    Parameters
    ----------
    maps : mapping of str to Cube
        ``disc_significance``, ``disc_excess``, ``disc_counts``, ``disc_background`` (1, lat, lon), ``exposure``
        (energy_true, lat, lon) if there is one: it is shown at the geometric mean of the energies of the events.
    radius_deg : float
        Radius of the discs.
    """
    disc = f"within {radius_deg:g}°"
    names = ("significance", "excess", "counts", "background")
    significance, excess, counts, background = (maps[f"disc_{name}"].data[0] for name in names)
    images = [
        SkyImage("significance", f"significance {disc}", "significance (σ)", significance, "signed"),
        SkyImage("excess", f"excess {disc}", f"excess events {disc}", excess, "excess"),
        SkyImage("counts", f"counts {disc}", f"events {disc}", counts, "counts"),
        SkyImage("background", f"background {disc}", f"background events {disc}", background),
    ]
    if "exposure" not in maps:
        return [*images, SkyImage("exposure", "exposure", "exposure (m² s)", np.full(counts.shape, np.nan))]
    energy_true, edges = maps["exposure"].axes[0].centers, maps["disc_counts"].axes[0].edges
    index = int(np.argmin(np.abs(np.log(energy_true / np.sqrt(edges[0] * edges[-1])))))
    plane = maps["exposure"].data[index]
    power = power_of_ten(plane)
    shown = np.where(plane > 0, plane / 10.0**power, np.nan)
    title, unit = f"exposure at {energy_true[index]:.3g} TeV", f"exposure (10{superscript(power)} m² s)"
    return [*images, SkyImage("exposure", title, unit, shown)]


def colours(image: SkyImage) -> tuple[Colormap, Normalize]:
    """Colour map and limits for ``imshow``."""
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm, LinearSegmentedColormap, Normalize

    finite = image.data[np.isfinite(image.data)]
    largest, smallest = (float(finite.max()), min(float(finite.min()), 0.0)) if finite.size else (1.0, 0.0)
    if image.style == "signed":
        # Blue below zero, white, red up to as much above; from there to a dark red. Equal steps look equal.
        low, high = SIGNIFICANCE_LIMITS
        top = float(np.clip(largest, low, high))
        stops = [(-1, "#1f5fa8"), (-0.5, "#86b9dc"), (0, "#f8f8f8"), (0.5, "#f2a481"), (1, "#c9242f")]
        points = [((low + where * low) / (top + low), colour) for where, colour in stops]
        points += [(1.0, "#2c0513")] if top > low else []
        points[-1] = 1.0, points[-1][1]
        return LinearSegmentedColormap.from_list("significance", points, N=512), Normalize(-low, top)
    if image.style == "excess":
        scatter = 1.4826 * float(np.median(np.abs(finite - np.median(finite)))) if finite.size else 0.0
        linear = 5.0 * (scatter or 1.0)
        return colormaps["inferno"], AsinhNorm(linear, vmin=-linear, vmax=max(largest, linear))
    limits = Normalize(smallest, largest if largest > smallest else smallest + 1.0)
    return colormaps["inferno" if image.style == "counts" else "viridis"], limits


def powers_about_zero(smallest: Any, largest: Any) -> list[float]:
    """Zero, and the powers of ten of either sign that are not crowded about it."""
    exponents = range(int(np.floor(np.log10(largest))) - 2, int(np.floor(np.log10(largest))) + 1)
    sizes = [10.0**exponent for exponent in exponents if 10.0**exponent > 0.4 * abs(smallest)]
    return [-size for size in sizes if -size >= smallest] + [0.0] + sizes


@dataclass(frozen=True, eq=False)
class Field:
    """What all images of a target share."""

    geom: Geometry  # pixel grid of the images
    excluded: NDArray[np.bool_]  # shape (ny, nx); True where the exclusion regions are
    pointings_deg: FloatArray  # shape (n, 2): right ascension and declination, ICRS
    target_deg: tuple[float, float]  # the same of the target
    title: str  # first part of every title


def draw_image(image: SkyImage, field: Field, svg_name: str | None, alt: str, dpi: int = 150) -> tuple[bytes, str]:
    """PNG and SVG (see `to_svg`) of an image, with the same content; the SVG is empty without a name."""
    width, height = figure_size(field.geom)
    with drawing(width, height) as figure:
        data, step = reduced(image.data)
        inner = (width - LEFT_IN - RIGHT_IN) / width, (height - BOTTOM_IN - TOP_IN) / height
        left, bottom = LEFT_IN / width, BOTTOM_IN / height
        axes = figure.add_axes((left, bottom, *inner), projection=_wcs(field.geom, step))
        bar_axes = figure.add_axes((left + inner[0] + 0.12 / width, bottom, 0.16 / width, inner[1]))
        cmap, norm = colours(image)
        shown = axes.imshow(data, cmap, norm, origin="lower", interpolation="nearest", aspect="auto")
        is_cut = image.style == "signed" and np.nanmax(image.data, initial=0.0) > SIGNIFICANCE_LIMITS[1]
        bar = figure.colorbar(shown, cax=bar_axes, extend="max" if is_cut else "neither", extendfrac=0.02)
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
        return to_png(figure), "" if svg_name is None else to_svg(figure, svg_name, alt, dpi)


def figure_size(geom: Geometry) -> tuple[float, float]:
    """Width and height of the figure in inches: square pixels, and margins for the labels."""
    scale = min((4.3 if geom.nx < 2.2 * geom.ny else 9.0) / geom.nx, 5.5 / geom.ny)
    return max(scale * geom.nx, 2.0) + LEFT_IN + RIGHT_IN, max(scale * geom.ny, 1.2) + BOTTOM_IN + TOP_IN


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
    """Celestial axes, exclusion regions, pointings and target, with a legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke
    from scipy.ndimage import gaussian_filter

    is_white = style == "signed"
    line, paper = LINE_COLOURS[is_white], "white" if is_white else "black"
    for coordinate, label in zip(axes.coords, LABELS[field.geom.frame], strict=True):
        coordinate.set_axislabel(label)
        coordinate.display_minor_ticks(True)
        coordinate.grid(color=line, alpha=0.18, linestyle="-", linewidth=0.6)
    handles: list[Any] = []
    if field.excluded.any():
        excluded = field.excluded[step // 2 :: step, step // 2 :: step].astype(float)
        rounded = gaussian_filter(excluded, 1.0)  # no corners of pixels
        axes.contour(rounded, levels=[0.5], colors=[line], linewidths=1.1, linestyles="--")
        handles += [Line2D([], [], color=line, linestyle="--", linewidth=1.1, label="exclusion")]
    x, y = _pixels(field, field.pointings_deg[:, 0], field.pointings_deg[:, 1], step)
    if x.size:  # of very many some, evenly by run: all of them would hide the map
        one_in = -(-x.size // MAX_POINTINGS)
        label, size = ("pointings", 8) if one_in == 1 else (f"1 in {one_in} pointings", 5)
        colour = "#0b5cad" if is_white else "#7fd4ff"
        handles += axes.plot(x[::one_in], y[::one_in], "+", color=colour, label=label, markersize=size)
    x, y = _pixels(field, [field.target_deg[0]], [field.target_deg[1]], step)
    halo = [withStroke(linewidth=2.6, foreground=paper)]
    handles += axes.plot(x, y, "x", color=line, markersize=7, path_effects=halo, label="target")
    legend = axes.legend(handles=handles, loc="upper right", fontsize=8, frameon=True, framealpha=0.8, edgecolor="none")
    legend.get_frame().set_facecolor(paper)
    for text in legend.get_texts():
        text.set_color(line)


def _pixels(field: Field, ra_deg: ArrayLike, dec_deg: ArrayLike, step: int) -> tuple[FloatArray, FloatArray]:
    """Pixel positions inside the image."""
    x, y = field.geom.vectors_to_pixel(sphere.unit_vectors(ra_deg, dec_deg))
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (x < field.geom.nx - 0.5) & (y > -0.5) & (y < field.geom.ny - 0.5)
    return (x[inside] - step // 2) / step, (y[inside] - step // 2) / step
