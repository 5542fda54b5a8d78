"""Maps of excess, significance and flux in a disc about each pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.products.cash import make_significance_cash, make_significance_li_ma
from cubeflow.products.convolve import Annulus, count_around, sum_both_around, without_noise

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SignificanceMaps:
    """What is found in a disc about each pixel, (energy or 1, lat, lon); NaN where the pixel is masked.

    Parameters
    ----------
    counts, background, excess : Cube
        Counts in the disc, counts which the background predicts there, and their difference.
    significance : Cube
        In sigma, negative for a deficit; NaN also where nothing is predicted.
    """

    counts: Cube
    background: Cube
    excess: Cube
    significance: Cube


def make_disc(radius_deg: float, pixel_deg: float) -> Annulus:
    """Disc of the pixels whose centres are within the radius; ValueError unless that is above 0."""
    if not 0 < radius_deg < np.inf:
        raise ValueError(f"radius: expected a size above 0 deg, got {radius_deg:g}")
    return Annulus(0.0, radius_deg / pixel_deg)


def make_map_significance_cash(
    counts: Cube, background: Cube, mask: BoolArray, radius_deg: float, per_energy: bool = False
) -> SignificanceMaps:
    """Significance over a background that is taken as known, such as the field-of-view background.

    Parameters
    ----------
    counts, background : Cube, (energy, lat, lon)
        Of one run or of a stack.
    mask : array of bool, shape (n_energy, ny, nx)
        Bins that are used: others enter neither counts nor background. To leave out known sources from the result,
        and not from the discs about their neighbours, mask the result.
    radius_deg : float
        Radius of the disc, deg.
    per_energy : bool
        Every energy by itself; otherwise their sum.

    Raises
    ------
    ValueError
        If maps and mask do not fit each other or the radius is not above 0.
    """
    disc = make_disc(radius_deg, counts.geom.pixel_deg)
    _check((counts, background), mask)
    planes = []
    on = _planes((counts.data, background.data), mask, per_energy)
    for n, b, used in zip(*on, _images(mask, per_energy), strict=True):
        n_on, predicted = sum_in_disc(n, b, disc)
        planes.append(_masked(n_on, predicted, make_significance_cash(n_on, predicted), used))
    return _maps(planes, counts, per_energy)


def make_map_significance_li_ma(
    counts: Cube,
    acceptance: Cube,
    counts_off: Cube,
    alpha: Cube,
    mask: BoolArray,
    radius_deg: float,
    per_energy: bool = False,
) -> SignificanceMaps:
    """Significance over a background measured in rings.

    ON counts are those in the disc. OFF counts are taken at the pixel, where the ring has summed them already.
    Acceptance is summed over the disc, so that the factor for the disc is alpha x (acceptance in the disc) /
    (acceptance of the pixel).

    Parameters
    ----------
    counts, acceptance : Cube, (energy, lat, lon)
        Of one run or of a stack; the scale of the acceptance does not matter.
    counts_off, alpha : Cube, (energy or 1, lat, lon)
        OFF counts, and what turns them into the background of the pixel, as in `RingBackground`.
    mask : array of bool, shape (n_energy, ny, nx)
        Bins that are used: safe, and with a background.
    radius_deg : float
        Radius of the disc, deg.
    per_energy : bool
        Every energy by itself; otherwise their sum.

    Raises
    ------
    ValueError
        If maps and mask do not fit each other, the radius is not above 0, or significances are wanted per energy
        and OFF counts are not given so.

    References
    ----------
    Li & Ma 1983, ApJ 272, 317, equation 17.
    """
    disc = make_disc(radius_deg, counts.geom.pixel_deg)
    _check((counts, acceptance), mask)
    if counts_off.axes != alpha.axes or (per_energy and counts_off.axes != counts.axes):
        raise ValueError(f"counts_off and alpha: expected both on {counts.axes}, got {counts_off.axes} {alpha.axes}")
    off = _off_planes(acceptance, counts_off, alpha, mask, per_energy)
    on = _planes((counts.data, acceptance.data), mask, per_energy)
    planes = []
    for n, a, (n_off, ratio), used in zip(*on, off, _images(mask, per_energy), strict=True):
        n_on, accepted = sum_in_disc(n, a, disc)
        factor = np.divide(accepted * ratio, a, out=np.full(a.shape, np.nan), where=a > 0)
        planes.append(_masked(n_on, factor * n_off, make_significance_li_ma(n_on, n_off, factor), used))
    return _maps(planes, counts, per_energy)


def mean_exposure(
    planes: Iterable[NDArray[Any]], mask: Iterable[BoolArray], weights: Sequence[float] | FloatArray
) -> FloatArray:
    """Exposure averaged over energy, (ny, nx), with an assumed spectrum; bins that are not used count as 0.

    Parameters
    ----------
    planes : iterable of array, shape (ny, nx)
        Exposure in each bin of reconstructed energy, m2 s.
    mask : iterable of array of bool, shape (ny, nx)
        Pixels that entered the excess in each bin.
    weights : array, shape (n_energy,)
        Photons of the assumed spectrum in each energy bin; their scale does not matter.
    """
    shares = np.asarray(weights, float)
    if not (np.all(shares >= 0) and shares.sum() > 0):
        raise ValueError(f"weights: expected {shares.size} numbers >= 0, not all 0, got {weights}")
    folded: FloatArray | float = 0.0
    for share, plane, on in zip(shares / shares.sum(), planes, mask, strict=True):
        folded = folded + share * np.where(on, plane, 0.0)
    return np.asarray(folded)


def make_map_flux(excess: Cube, exposure: FloatArray, used: BoolArray, radius_deg: float) -> Cube:
    """Excess in the disc over the mean exposure there: the flux of a source within the disc.

    Parameters
    ----------
    excess : Cube, (1, lat, lon)
        Excess in the disc, summed over energy, as in `SignificanceMaps`.
    exposure : array, shape (ny, nx)
        As of `mean_exposure`, m2 s.
    used : array of bool, shape (ny, nx)
        Pixels of which any energy entered the excess.
    radius_deg : float
        Radius of the disc, deg.

    Returns
    -------
    flux : Cube, (1, lat, lon), 'm-2 s-1'
        Photons of all energies of the axis; NaN where the excess is, or where there is no exposure.
    """
    n_pixels, total = sum_in_disc(used, exposure, make_disc(radius_deg, excess.geom.pixel_deg))
    flux = np.full(excess.data.shape, np.nan)
    np.divide(excess.data * n_pixels, total, out=flux, where=used & (total > 0))
    return Cube(flux, "m-2 s-1", excess.geom, excess.axes)


def sum_in_disc(counts: NDArray[Any], values: FloatArray, disc: Annulus) -> tuple[FloatArray, FloatArray]:
    """Whole numbers and non-negative values (ny, nx), summed over the disc about each pixel, without rounding noise."""
    n, total = sum_both_around(counts, values, disc)
    return np.rint(n), without_noise(total, count_around(values > 0, disc) > 0, values)


def _check(cubes: Sequence[Cube], mask: BoolArray) -> None:
    first = cubes[0]
    for cube in cubes[1:]:
        if cube.geom != first.geom or cube.axes != first.axes:
            raise ValueError(f"maps on different grids: {first.geom} {first.axes} and {cube.geom} {cube.axes}")
    if mask.shape != first.data.shape or mask.dtype != np.bool_:
        raise ValueError(f"mask: expected bool {first.data.shape}, got {mask.dtype} {mask.shape}")


def _images(mask: BoolArray, per_energy: bool) -> BoolArray:
    """Pixels with an answer, shape (n_planes, ny, nx)."""
    return mask if per_energy else np.any(mask, axis=0, keepdims=True)


def _plane(values: NDArray[Any], mask: BoolArray, per_energy: bool) -> NDArray[Any]:
    """Values (n_energy, ny, nx) in the mask, per energy or summed; shape (n_planes, ny, nx)."""
    return np.where(mask, values, 0) if per_energy else np.sum(values, axis=0, where=mask, keepdims=True)


def _planes(values: Sequence[NDArray[Any]], mask: BoolArray, per_energy: bool) -> list[NDArray[Any]]:
    return [_plane(value, mask, per_energy) for value in values]


def _off_planes(
    acceptance: Cube, counts_off: Cube, alpha: Cube, mask: BoolArray, per_energy: bool
) -> Iterator[tuple[NDArray[Any], FloatArray]]:
    """OFF counts and alpha of each plane; where there are none in a sum, alpha is the ratio of acceptances."""
    if per_energy or counts_off.axes != acceptance.axes:
        yield from zip(counts_off.data, alpha.data, strict=True)
        return
    good = mask & (alpha.data > 0)
    off = _plane(counts_off.data, good, False)[0]
    predicted = np.sum(alpha.data * counts_off.data, axis=0, where=good)
    on = np.sum(acceptance.data, axis=0, where=good)
    acceptance_off = np.sum(acceptance.data / np.where(good, alpha.data, 1.0), axis=0, where=good)
    yield off, sum_alpha(off, predicted, on, acceptance_off)


def sum_alpha(
    counts_off: NDArray[Any], background: FloatArray, acceptance: FloatArray, acceptance_off: FloatArray
) -> FloatArray:
    """Ratio of background to OFF counts of sums over energy (ny, nx); without counts, that of the acceptances."""
    ratio = np.divide(acceptance, acceptance_off, out=np.full(counts_off.shape, np.nan), where=acceptance_off > 0)
    return np.divide(background, counts_off, out=ratio, where=counts_off > 0)


def _masked(counts: FloatArray, background: FloatArray, significance: FloatArray, used: BoolArray) -> FloatArray:
    """Counts, background, excess and significance, shape (4, ny, nx), NaN where not used."""
    return np.where(used, np.stack([counts, background, counts - background, significance]), np.nan)


def _maps(planes: list[FloatArray], counts: Cube, per_energy: bool) -> SignificanceMaps:
    energy = counts.axis("energy")
    axis = energy if per_energy else Axis(energy.name, (energy.edges[0], energy.edges[-1]), energy.unit, energy.interp)
    data = np.stack(planes, axis=1)
    return SignificanceMaps(*(Cube(values, "", counts.geom, (axis,)) for values in data))
