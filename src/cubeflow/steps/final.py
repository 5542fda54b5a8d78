"""The final maps of a label: the last stack on the final geometry, with its ratios formed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube, Geometry, sphere
from cubeflow.products.off_source import OffSource, describe_off_source
from cubeflow.products.on_off import make_map_alpha
from cubeflow.products.significance import (
    SignificanceMaps,
    make_disc,
    make_map_flux,
    make_map_significance_cash,
    make_map_significance_li_ma,
)
from cubeflow.products.spectrum import make_spectrum
from cubeflow.products.stack import Stack, mean_response, on_geometry

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Final:
    """Final products of a target and label.

    Parameters
    ----------
    maps : mapping of str to Cube
        ``counts``, ``background``, ``acceptance``, ``mask_safe`` (energy, lat, lon), ``exposure``
        (energy_true, lat, lon) on the final geometry; for rings ``counts_off``, ``acceptance_off``,
        ``alpha``; ``disc_flux`` (1, lat, lon); ``psf``, ``edisp``, ``irf_exposure`` on the IRF grid,
        the first two averaged with the exposure as weight. Responses that a run lacks are absent.
        Floating-point maps are float32.
    significance : SignificanceMaps
        In discs, summed over energy, shape (1, lat, lon).
    summary : mapping
        Plain numbers: totals, and what is found at the target.
    """

    maps: Mapping[str, Cube]
    significance: SignificanceMaps
    summary: Mapping[str, Any]


def make_final(
    stacked: Stack, geometry: Geometry, irf_geometry: Geometry, export: Mapping[str, Any], keep: BoolArray
) -> Final:
    """Final maps from the last stack.

    Parameters
    ----------
    stacked : Stack
        All runs of the label.
    geometry, irf_geometry : Geometry
        Final geometry and its IRF grid.
    export : mapping
        ``significance`` with ``radius_deg``; ``ra_deg`` and ``dec_deg`` of the target; ``spectrum`` assumed
        for fluxes.
    keep : array of bool, shape (ny, nx)
        True where a pixel is not excluded: the off-source distribution is taken there.

    Returns
    -------
    Final
        Pixels outside all runs are zero in sums, False in the mask and NaN in ratios and significance.
    """
    maps: dict[str, Cube] = {}
    for name, cube in stacked.layers.items():
        if name.startswith("irf_") and name != "irf_exposure":
            response = name.removeprefix("irf_")
            maps[response] = on_geometry(mean_response(stacked, response), irf_geometry)
        else:
            maps[name] = on_geometry(cube, irf_geometry if name == "irf_exposure" else geometry)
    if "counts_off" in maps:
        maps["alpha"] = make_map_alpha(
            maps["background"], maps["acceptance"], maps["counts_off"], maps["acceptance_off"]
        )
    radius = export["significance"]["radius_deg"]
    significance = make_significance(maps, radius)
    if "exposure_reco" in maps and "background" in maps:
        weights = make_spectrum(export["spectrum"]).integral(maps["exposure_reco"].axes[0].edges_array)
        used = maps["mask_safe"].data
        maps["disc_flux"] = make_map_flux(significance.excess, maps["exposure_reco"], used, radius, weights)
    off_source = np.where(keep, significance.significance.data, np.nan)
    disc = make_disc(radius, geometry.pixel_deg)
    summary = _summary(stacked, maps, significance, export)
    kept = {name: cube.to_float32() for name, cube in maps.items()}
    return Final(kept, significance, {**summary, "off_source": _plain(describe_off_source(off_source, disc))})


def make_significance(maps: Mapping[str, Cube], radius_deg: float) -> SignificanceMaps:
    """Cash over a normalised acceptance, Li & Ma over rings; summed over energy. NaN without a background."""
    mask = maps["mask_safe"].data
    if "background" not in maps:
        counts = maps["counts"]
        nothing = Cube(np.zeros(counts.data.shape), "", counts.geom, counts.axes)
        found = make_map_significance_cash(counts, nothing, mask, radius_deg)
        unknown = replace_values(found.significance, np.nan)
        return SignificanceMaps(found.counts, unknown, unknown, unknown)
    if "alpha" not in maps:
        return make_map_significance_cash(maps["counts"], maps["background"], mask, radius_deg)
    off = maps["counts_off"], maps["alpha"]
    return make_map_significance_li_ma(maps["counts"], maps["acceptance"], *off, mask, radius_deg)


def replace_values(cube: Cube, value: float) -> Cube:
    """Cube of the same grid with one value everywhere."""
    return Cube(np.full(cube.data.shape, value), cube.unit, cube.geom, cube.axes)


def _summary(
    stacked: Stack, maps: Mapping[str, Cube], significance: SignificanceMaps, export: Mapping[str, Any]
) -> dict[str, Any]:
    """Totals and what is found at the target."""
    geom = maps["counts"].geom
    x, y = geom.vectors_to_pixel(sphere.unit_vectors(export["ra_deg"], export["dec_deg"]))
    summary = {
        "n_runs": stacked.n_runs,
        "ontime_s": stacked.ontime_s,
        "livetime_s": stacked.livetime_s,
        "counts": int(maps["counts"].data.sum()),
        "background": float(maps["background"].data.sum()) if "background" in maps else None,
        "ra_deg": export["ra_deg"],
        "dec_deg": export["dec_deg"],
        "radius_deg": export["significance"]["radius_deg"],
    }
    inside = bool(np.isfinite(x) and np.isfinite(y))
    # The pixel in which an event at the target would be counted.
    ix, iy = (int(np.floor(x + 0.5)), int(np.floor(y + 0.5))) if inside else (-1, -1)
    if not (0 <= ix < geom.nx and 0 <= iy < geom.ny):
        return {**summary, "source": None}
    source = {
        name: _number(getattr(significance, name).data[0, iy, ix])
        for name in ("counts", "background", "excess", "significance")
    }
    return {**summary, "source": source}


def _plain(off_source: OffSource) -> dict[str, Any]:
    """Off-source distribution as plain numbers."""
    plain = {name: getattr(off_source, name) for name in off_source.__dataclass_fields__}
    for name, value in plain.items():
        plain[name] = value.tolist() if isinstance(value, np.ndarray) else _number(value)
    return plain


def _number(value: float) -> float | None:
    """Plain number; None for no answer."""
    return float(value) if np.isfinite(value) else None
