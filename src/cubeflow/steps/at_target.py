"""What one run finds at the target: a line of the run table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube, sphere
from cubeflow.products.cash import make_significance_cash, make_significance_li_ma

BoolArray = NDArray[np.bool_]


def find_at_target(
    counts: Cube, made: Mapping[str, Cube], used: BoolArray, source: Mapping[str, float]
) -> dict[str, float | int | None]:
    """ON, OFF, alpha, excess and significance in a disc about the target.

    Parameters
    ----------
    counts : Cube, (energy, lat, lon)
        Counts of the run.
    made : mapping of str to Cube
        ``background`` (energy, lat, lon); for rings also ``counts_off``, which is taken at the target's pixel.
    used : array of bool, shape (energy, lat, lon) or one that broadcasts to it
        Safe bins that have a background.
    source : mapping
        ``ra_deg``, ``dec_deg`` (ICRS) and ``radius_deg`` of the disc.

    Returns
    -------
    dict
        ``on``, ``background``, ``excess``, ``significance``; for rings ``off`` and ``alpha``. None where there is
        no answer, as for a target outside the field.
    """
    names = ("on", "off", "alpha") if "counts_off" in made else ("on",)
    nothing = dict.fromkeys((*names, "background", "excess", "significance"))
    ix, iy = (int(index) for index in counts.geom.pixel_index(source["ra_deg"], source["dec_deg"]))
    inside = np.broadcast_to(used, counts.data.shape)
    if ix < 0 or not inside[:, iy, ix].any():
        return nothing
    rows, columns = np.nonzero(_disc(counts, source))
    inside = inside[:, rows, columns]
    on = int(counts.data[:, rows, columns].sum(where=inside))
    background = float(made["background"].data[:, rows, columns].sum(where=inside, dtype=float))
    found = {"on": on, "background": background, "excess": on - background}
    if "counts_off" not in made:
        return {**found, "significance": _number(make_significance_cash(on, background))}
    off = int(made["counts_off"].data[:, iy, ix].sum())
    if off == 0:
        return {**nothing, **found, "off": 0}
    alpha = background / off
    return {**found, "off": off, "alpha": alpha, "significance": _number(make_significance_li_ma(on, off, alpha))}


def _disc(counts: Cube, source: Mapping[str, float]) -> BoolArray:
    """Pixels whose centres lie within the radius of the target, shape (ny, nx)."""
    target = sphere.unit_vectors(source["ra_deg"], source["dec_deg"])
    with np.errstate(invalid="ignore"):
        return sphere.separation_deg(counts.geom.center_vectors, target) <= source["radius_deg"]


def _number(value: Any) -> float | None:
    """Plain number; None for no answer."""
    return float(value) if np.isfinite(value) else None
