"""The images of a final cube, and the colours in which they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.report.figures import power_of_ten, superscript
from cubeflow.storage.slabs import Map, rows_of

FloatArray = NDArray[np.float64]
SIGNIFICANCE_LIMITS = 5.0, 15.0


@dataclass(frozen=True, eq=False)
class Image:
    """One image and how it is shown.

    Parameters
    ----------
    name : str
        Short name, which is also that of the file.
    title : str
        What it is, in words.
    unit : str
        Label of the colour bar.
    data : array, shape (ny, nx)
        Values; NaN for none.
    style : {"signed", "excess", "counts", "smooth"}
        Colours: around zero, stretched about the noise, counts of events, or a smooth quantity.
    """

    name: str
    title: str
    unit: str
    data: FloatArray
    style: str = "smooth"


def final_images(maps: Mapping[str, Map], radius_deg: float, energy_tev: Sequence[float]) -> list[Image]:
    """Images of a final cube, in the order in which people look.

    Parameters
    ----------
    maps : mapping of str to Cube or CubeStream
        ``disc_significance``, ``disc_excess``, ``disc_counts``, ``disc_background`` (1, lat, lon), ``exposure``
        (energy_true, lat, lon) if there is one.
    radius_deg : float
        Radius of the discs.
    energy_tev : sequence of float
        First and last energy of the events; the exposure is shown at their geometric mean.
    """
    disc = f"within {radius_deg:g}°"
    names = ("significance", "excess", "counts", "background")
    significance, excess, counts, background = (next(rows_of(maps[f"disc_{name}"])) for name in names)
    images = [
        Image("significance", f"significance {disc}", "significance (σ)", significance, "signed"),
        Image("excess", f"excess {disc}", f"excess events {disc}", excess, "excess"),
        Image("counts", f"counts {disc}", f"events {disc}", counts, "counts"),
        Image("background", f"background {disc}", f"background events {disc}", background),
    ]
    return [*images, _exposure_image(maps, float(np.sqrt(energy_tev[0] * energy_tev[-1])))]


def _exposure_image(maps: Mapping[str, Map], energy_tev: float) -> Image:
    """Exposure in the bin of true energy whose centre is nearest; NaN everywhere if there is no exposure."""
    if "exposure" not in maps:
        nothing = np.full(maps["disc_counts"].geom.shape, np.nan)
        return Image("exposure", "exposure", "exposure (m² s)", nothing)
    cube = maps["exposure"]
    centers = cube.axes[0].centers
    index = int(np.argmin(np.abs(np.log(centers / energy_tev))))
    plane = next(islice(rows_of(cube), index, None))
    power = power_of_ten(plane)
    shown = np.where(plane > 0, plane / 10.0**power, np.nan)
    return Image("exposure", f"exposure at {centers[index]:.3g} TeV", f"exposure (10{superscript(power)} m² s)", shown)


def colours(image: Image) -> dict[str, Any]:
    """Colour map and limits for ``imshow``."""
    from matplotlib.colors import AsinhNorm, Normalize

    largest, smallest, noise = _range(image.data)
    if image.style == "signed":
        low, high = SIGNIFICANCE_LIMITS
        top = float(np.clip(largest, low, high))
        return {"cmap": _significance_colours(low, top), "norm": Normalize(-low, top)}
    if image.style == "excess":
        return {"cmap": "inferno", "norm": AsinhNorm(5.0 * noise, vmin=-5.0 * noise, vmax=max(largest, 5.0 * noise))}
    limits = Normalize(smallest, largest if largest > smallest else smallest + 1.0)
    return {"cmap": "inferno" if image.style == "counts" else "viridis", "norm": limits}


def powers_about_zero(smallest: Any, largest: Any) -> list[float]:
    """Zero, and the powers of ten of either sign that are not crowded about it."""
    exponents = range(int(np.floor(np.log10(largest))) - 2, int(np.floor(np.log10(largest))) + 1)
    sizes = [10.0**exponent for exponent in exponents if 10.0**exponent > 0.4 * abs(smallest)]
    return [-size for size in sizes if -size >= smallest] + [0.0] + sizes


def is_cut(image: Image) -> bool:
    """Whether values lie above the largest of the colour bar."""
    return image.style == "signed" and _range(image.data)[0] > SIGNIFICANCE_LIMITS[1]


def _range(data: FloatArray) -> tuple[float, float, float]:
    """Largest value, smallest value (at most 0), and the scatter about the median (above 0)."""
    finite = data[np.isfinite(data)]
    if not finite.size:
        return 1.0, 0.0, 1.0
    scatter = 1.4826 * float(np.median(np.abs(finite - np.median(finite))))
    return float(finite.max()), min(float(finite.min()), 0.0), scatter or 1.0


def _significance_colours(low: float, top: float) -> Any:
    """Blue below zero, white, red up to as much above; from there to a dark red. Equal steps look equal."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = [(-1, "#1f5fa8"), (-0.5, "#86b9dc"), (0, "#f8f8f8"), (0.5, "#f2a481"), (1, "#c9242f")]
    span = top + low
    points = [((low + where * low) / span, colour) for where, colour in stops]
    if top > low:
        points.append((1.0, "#2c0513"))
    points[-1] = 1.0, points[-1][1]
    return LinearSegmentedColormap.from_list("significance", points, N=512)
