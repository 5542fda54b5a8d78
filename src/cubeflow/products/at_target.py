"""What is found at the target: in one disc about its very position, of a run as of a stack."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from cubeflow.maps import BoolArray, Cube, FloatArray, Geometry, IntArray, NoOverlap, make_cutout, sphere
from cubeflow.products.cash import excess_above, make_significance_cash, make_significance_li_ma
from cubeflow.products.significance import number_or_none

SUB_PIXELS = 32  # along a side of a pixel on the rim: the area of a disc of 5 pixels is right to 5e-4
LIMIT_SIGMA = 3.0  # below it the flux has an upper limit
LIMIT_RISE = 2.706  # of twice the log-likelihood, for 95 %

Found = dict[str, float | int | None]


@lru_cache(maxsize=4)
def disc_pixels(
    geom: Geometry, target_deg: tuple[float, float], radius_deg: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows and columns of the pixels in and about a disc, and the part of each that lies in it, all of shape (n,)."""
    try:
        part = make_cutout(geom, *target_deg, radius_deg + geom.pixel_deg)
    except NoOverlap:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    offset, (x0, y0) = part.offset_deg(*target_deg), part.origin_in(geom)
    on_map = np.zeros(part.shape, bool)
    on_map[max(0, -y0) : max(0, geom.ny - y0), max(0, -x0) : max(0, geom.nx - x0)] = True
    rows, columns = np.nonzero(on_map & (offset < radius_deg + geom.pixel_deg))
    share = np.ones(rows.size)
    rim = np.flatnonzero(offset[rows, columns] > radius_deg - geom.pixel_deg)
    sub = (np.arange(SUB_PIXELS) + 0.5) / SUB_PIXELS - 0.5
    vectors = part.pixel_to_vectors(columns[rim, None, None] + sub, rows[rim, None, None] + sub[:, None])
    share[rim] = np.mean(sphere.separation_deg(vectors, sphere.unit_vectors(*target_deg)) <= radius_deg, axis=(1, 2))
    return rows + y0, columns + x0, share


def find_at_target(
    maps: Mapping[str, Cube], used: BoolArray, target_deg: tuple[float, float], radius_deg: float
) -> Found:
    """What is found in the disc about the target: ``on``, ``background``, ``excess``, ``significance``.

    Pixels on the rim are shared out by area, and runs add up to their stack. `maps` are ``counts`` and ``background``
    of either; for rings also ``counts_off``, which is taken at the target's pixel, and there are ``off`` and ``alpha``.
    `used` are the safe bins that have a background. None where there is no answer, as for a target outside the field.
    """
    counts = maps["counts"]
    names = ("on", "off", "alpha") if "counts_off" in maps else ("on",)
    found: Found = dict.fromkeys((*names, "background", "excess", "significance"))
    rows, columns, share = disc_pixels(counts.geom, target_deg, radius_deg)
    inside = np.broadcast_to(used, counts.data.shape)
    weight = inside[:, rows, columns] * share
    if not weight.any():
        return found
    found["on"] = on = float(np.sum(counts.data[:, rows, columns] * weight))
    if "background" not in maps:
        return found
    background = float(np.sum(maps["background"].data[:, rows, columns] * weight, dtype=float))
    found |= {"background": background, "excess": on - background}
    if "counts_off" not in maps:
        return {**found, "significance": number_or_none(make_significance_cash(on, background))}
    ix, iy = (int(index) for index in counts.geom.pixel_index(*target_deg))
    counted, seen = maps["counts_off"].data[:, iy, ix], inside[:, iy, ix] & (ix >= 0)
    off = int(counted.sum(where=seen if counted.size == seen.size else seen.any()))
    if off == 0:
        return {**found, "off": 0}
    alpha = background / off
    significance = number_or_none(make_significance_li_ma(on, off, alpha))
    return {**found, "off": off, "alpha": alpha, "significance": significance}


def find_flux(found: Found, exposure_m2_s: float) -> Found:
    """Flux of a source within the disc, m-2 s-1: ``flux``, ``flux_err``, and below 3 sigma ``flux_ul`` (95 %).

    The error is that upwards, from the likelihood as the limit is. None where there is no answer.
    """
    on, background, significance, off = (found.get(name) for name in ("on", "background", "significance", "off"))
    if on is None or background is None or significance is None or not exposure_m2_s > 0:
        return dict.fromkeys(("flux", "flux_err", "flux_ul"))
    excess = on - background
    upper = excess_above(on, background, off, 1.0, excess)
    limit = excess_above(on, background, off, LIMIT_RISE, max(excess, 0.0)) / exposure_m2_s
    flux, flux_err = excess / exposure_m2_s, (upper - excess) / exposure_m2_s
    return {"flux": flux, "flux_err": flux_err, "flux_ul": limit if significance < LIMIT_SIGMA else None}


def find_containment(
    maps: Mapping[str, Cube], photons: FloatArray, target_deg: tuple[float, float], radius_deg: float
) -> float | None:
    """Part of the PSF at the target within the disc, for the counts of a spectrum; None if it is not known.

    `maps` are ``psf``, ``edisp`` and ``irf_exposure``, `photons` those of the spectrum at each true energy.
    """
    psf, edisp, exposure = (maps[name] for name in ("psf", "edisp", "irf_exposure"))
    ix, iy = psf.geom.pixel_index(*target_deg)
    rad, density = psf.axes[1], psf.data[:, :, iy, ix]
    square, ring = np.square(rad.edges_array), rad.centers * rad.widths
    part = np.clip((radius_deg**2 - square[:-1]) / np.diff(square), 0.0, 1.0)
    weight = photons * exposure.data[:, iy, ix] * edisp.data[:, :, iy, ix].sum(axis=1)
    # The PSF sums to 1 at each energy, or to 0 where there is none.
    known = weight[:, None] * (ix >= 0) * density * ring / np.maximum(density @ ring, np.finfo(float).tiny)[:, None]
    total = float(known.sum())
    return float(np.sum(known * part)) / total if total > 0 else None
