"""Excess, significance and flux in discs about each pixel and about the target, and how they scatter off sources."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import BoolArray, Cube, FloatArray, Geometry, IntArray, Maps, NoOverlap, Place, make_cutout, sphere
from cubeflow.products.cash import excess_above, fit_log_linear, make_significance_cash, make_significance_li_ma
from cubeflow.products.convolve import Annulus, count_around, sum_both_around, without_noise
from cubeflow.products.setting import Setting

BIN_WIDTH = 0.1  # of the histogram of significances
CORE = 3.0  # sigma; to here a Gaussian is fitted, unknown sources matter little in it
SUB_PIXELS = 32  # along a side of a pixel on the rim: the area of a disc of 5 pixels is right to 5e-4
LIMIT_SIGMA = 3.0  # below it the flux has an upper limit
LIMIT_RISE = 2.706  # of twice the log-likelihood, for 95 %

Found = dict[str, float | int | None]


@dataclass(frozen=True)
class SignificanceOptions:
    """Significance maps."""

    radius_deg: Annotated[tuple[float, ...], Setting(alone=True, above=0, most=180)] = (0.1,)
    """Radii of the discs in which counts are summed; runs, light curves and pictures are about the first."""
    bands_tev: tuple[tuple[float, float], ...] = ()
    """Bands of energy with maps of their own, beside those of all energies: from edge to edge of the energy axis."""
    background_systematic: Literal["measured"] | Annotated[float, Setting(above=0, most=1)] | None = None
    """Relative error of field-of-view backgrounds in significance and flux, as measured off source or a number."""

    def __post_init__(self) -> None:
        if not self.radius_deg or len(set(self.radius_deg)) < len(self.radius_deg):
            raise ValueError(f"radius_deg: expected one or more different radii, got {list(self.radius_deg)}")


@dataclass(frozen=True, eq=False)
class SignificanceMaps:
    """What is found in a disc about each pixel, summed over energy, (1, lat, lon); NaN where it is masked."""

    counts: Cube  #: counts in the disc
    background: Cube  #: counts which the background predicts there
    excess: Cube  #: their difference
    significance: Cube  #: in sigma, negative for a deficit; NaN also where nothing is predicted


def make_disc(radius_deg: float, pixel_deg: float) -> Annulus:
    """Disc of the pixels whose centres are within the radius; ValueError unless that is above 0."""
    if not 0 < radius_deg < np.inf:
        raise ValueError(f"radius: expected a size above 0 deg, got {radius_deg:g}")
    return Annulus(0.0, radius_deg / pixel_deg)


def make_map_significance_cash(
    counts: Cube, background: Cube, mask: BoolArray, radius_deg: float, systematic: float = 0.0
) -> SignificanceMaps:
    """Significance over a background that is taken as known, such as the field-of-view background.

    Counts and background, (energy, lat, lon), are of one run or of a stack; bins where `mask`, shape (n_energy, ny,
    nx), is False enter neither. `systematic` is the relative error of the background. To leave out known sources from
    the result, and not from the discs about their neighbours, mask the result. ValueError if maps and mask do not fit
    each other or the radius is not above 0.
    """
    disc = make_disc(radius_deg, counts.geom.pixel_deg)
    _check(counts, background, mask)
    n_on, predicted = sum_in_disc(_sum(counts, mask), _sum(background, mask), disc)
    return _maps(n_on, predicted, make_significance_cash(n_on, predicted, systematic), counts, mask)


def make_map_significance_li_ma(
    counts: Cube, acceptance: Cube, counts_off: Cube, alpha: Cube, mask: BoolArray, radius_deg: float
) -> SignificanceMaps:
    """Significance over a background measured in rings.

    ON counts are those in the disc. OFF counts are taken at the pixel, where the ring has summed them already.
    Acceptance, whose scale does not matter, is summed over the disc, so that the factor for the disc is alpha x
    (acceptance in the disc) / (acceptance of the pixel).

    Counts and acceptance, (energy, lat, lon), are of one run or of a stack; `counts_off` and `alpha`, (energy or 1,
    lat, lon), as in `RingBackground`. Bins that are used, safe and with a background, are True in `mask`, shape
    (n_energy, ny, nx). ValueError if maps and mask do not fit each other, or the radius is not above 0.

    References
    ----------
    Li & Ma 1983, ApJ 272, 317, equation 17.
    """
    disc = make_disc(radius_deg, counts.geom.pixel_deg)
    _check(counts, acceptance, mask)
    if counts_off.axes != alpha.axes or len(counts_off.data) not in (1, len(counts.data)):
        raise ValueError(f"counts_off and alpha: expected both on {counts.axes}, got {counts_off.axes} {alpha.axes}")
    n, a = _sum(counts, mask), _sum(acceptance, mask)
    n_off, ratio = counts_off.data[0], alpha.data[0]
    if counts_off.axes == counts.axes:  # sums over energy, and what turns them into background
        sums = np.zeros((4, *mask.shape[1:]))
        for on, accepted, off, known in zip(mask, acceptance.data, counts_off.data, alpha.data, strict=True):
            good = on & (known > 0)
            scale = np.where(good, known, 1.0)
            for total, values in zip(sums, (scale * off, off, accepted, accepted / scale), strict=True):
                np.add(total, values, out=total, where=good)
        n_off, ratio = sums[1], ratio_of_sums(*sums)
    n_on, accepted = sum_in_disc(n, a, disc)
    factor = np.divide(accepted * ratio, a, out=np.full(a.shape, np.nan), where=a > 0)
    return _maps(n_on, factor * n_off, make_significance_li_ma(n_on, n_off, factor), counts, mask)


def ratio_of_sums(
    background: NDArray[Any], counts_off: NDArray[Any], acceptance: NDArray[Any], acceptance_off: NDArray[Any]
) -> FloatArray:
    """Ratio of background to OFF counts in sums over runs or energies, all of shape (...).

    It is sum(alpha OFF) / sum(OFF), so that alpha times the summed OFF counts is the summed background; where there
    is no OFF count, the ratio of the summed acceptances; NaN where there is no OFF acceptance.
    """
    known = acceptance_off > 0
    alpha = np.divide(acceptance, acceptance_off, out=np.full(counts_off.shape, np.nan), where=known)
    return np.divide(background, counts_off, out=alpha, where=known & (counts_off > 0))


def mean_exposure(
    planes: Iterable[NDArray[Any]], mask: Iterable[BoolArray], weights: Sequence[float] | FloatArray
) -> FloatArray:
    """Exposure averaged over energy, (ny, nx), in m2 s; bins that did not enter the excess (`mask` False) count as 0.

    The weights, shape (n_energy,), are the photons of an assumed spectrum in each bin; their scale does not matter.
    """
    shares = np.asarray(weights, float)
    if not (np.all(shares >= 0) and shares.sum() > 0):
        raise ValueError(f"weights: expected {shares.size} numbers >= 0, not all 0, got {weights}")
    folded: FloatArray | float = 0.0
    for share, plane, on in zip(shares / shares.sum(), planes, mask, strict=True):
        folded = folded + share * np.where(on, plane, 0.0)
    return np.asarray(folded)


def make_map_flux(excess: Cube, exposure: FloatArray, used: BoolArray, radius_deg: float) -> Cube:
    """Excess in the disc, (1, lat, lon), over the mean exposure there: the flux of a source within the disc, m-2 s-1.

    `exposure`, shape (ny, nx), is that of `mean_exposure`; `used` are the pixels of which any energy entered.
    NaN where the excess is, or where there is no exposure.
    """
    n_pixels, total = sum_in_disc(used, exposure, make_disc(radius_deg, excess.geom.pixel_deg))
    flux = np.full(excess.data.shape, np.nan)
    np.divide(excess.data * n_pixels, total, out=flux, where=used & (total > 0))
    return Cube(flux, "m-2 s-1", excess.geom, excess.axes)


def sum_in_disc(counts: NDArray[Any], values: FloatArray, disc: Annulus) -> tuple[FloatArray, FloatArray]:
    """Whole numbers and non-negative values (ny, nx), summed over the disc about each pixel, without rounding noise."""
    n, total = sum_both_around(counts, values, disc)
    return np.rint(n), without_noise(total, count_around(values > 0, disc) > 0, values)


def _check(first: Cube, other: Cube, mask: BoolArray) -> None:
    if other.geom != first.geom or other.axes != first.axes:
        raise ValueError(f"maps on different grids: {first.geom} {first.axes} and {other.geom} {other.axes}")
    if mask.shape != first.data.shape or mask.dtype != np.bool_:
        raise ValueError(f"mask: expected bool {first.data.shape}, got {mask.dtype} {mask.shape}")


def _sum(cube: Cube, mask: BoolArray) -> FloatArray:
    """Sum over energy of the bins that are used, (ny, nx)."""
    return np.sum(cube.data, axis=0, where=mask, dtype=float)


def _maps(
    n_on: FloatArray, background: FloatArray, significance: FloatArray, counts: Cube, mask: BoolArray
) -> SignificanceMaps:
    """Images (ny, nx) as maps on the grid of the counts, NaN where no energy is used."""
    used, axes = np.logical_or.reduce(mask), (counts.axis("energy").in_one_bin(),)
    images = (n_on, background, n_on - background, significance)
    return SignificanceMaps(*(Cube(np.where(used, image, np.nan)[None], "", counts.geom, axes) for image in images))


def number_or_none(value: Any) -> float | None:
    """Plain number; None for no answer."""
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class OffSource:
    """Significances outside known sources."""

    n_pixels: int  # pixels with a significance
    n_trials: float  # how many are independent: their area over that of a disc, at least 1 (0 without pixels)
    mean: float  # of all pixels; NaN with fewer than 2, errors for `n_trials` values
    mean_err: float
    width: float  # standard deviation
    width_err: float
    fit_mean: float  # of a Gaussian fitted to the core of the histogram; NaN if none can be fitted
    fit_mean_err: float
    fit_width: float
    fit_width_err: float
    edges: FloatArray  # of significance, shape (n_bins + 1,)
    histogram: IntArray  # pixels per bin, shape (n_bins,); all pixels are inside


def describe_off_source(significance: FloatArray, disc: Annulus) -> OffSource:
    """Mean and width of a significance map, and of a Gaussian fitted to it within `CORE`.

    It is NaN where there is none, and where sources are excluded. `disc` is that in which counts were summed.
    """
    values = significance[np.isfinite(significance)]
    n_trials = max(values.size / disc.n_pixels, 1.0) if values.size else 0.0
    mean = float(values.mean()) if values.size > 1 else np.nan
    width = float(values.std(ddof=1)) if values.size > 1 else np.nan
    extent = np.ceil(max(CORE, float(np.abs(values).max(initial=0.0))) / BIN_WIDTH)
    edges = BIN_WIDTH * np.arange(-extent, extent + 1)
    histogram = np.histogram(values, np.concatenate([[-np.inf], edges[1:-1], [np.inf]]))[0]
    inside = (edges[:-1] > -CORE - 0.5 * BIN_WIDTH) & (edges[1:] < CORE + 0.5 * BIN_WIDTH)
    inflation = np.sqrt(values.size / max(n_trials, 1.0))  # of errors: neighbouring pixels share their counts
    fit = _fit_gaussian(edges[:-1][inside] + 0.5 * BIN_WIDTH, histogram[inside], inflation)
    mean_err, width_err = width / np.sqrt(max(n_trials, 1.0)), width / np.sqrt(2.0 * max(n_trials - 1.0, 1.0))
    return OffSource(values.size, n_trials, mean, mean_err, width, width_err, *fit, edges, histogram.astype(np.int64))


def _fit_gaussian(x: FloatArray, counts: IntArray, inflation: float) -> tuple[float, float, float, float]:
    """Mean, its error, width and its error of a Gaussian with inflated Poisson errors; NaN if there is none.

    The logarithm of a Gaussian is a parabola b0 + b1 x + b2 x^2: mean -b1 / (2 b2), width (-2 b2)^-1/2.
    """
    nothing = np.nan, np.nan, np.nan, np.nan
    if np.count_nonzero(counts) < 3:
        return nothing
    design = np.stack([np.ones_like(x), x, x**2], axis=-1)
    start = np.array([np.log(counts.sum() * BIN_WIDTH / np.sqrt(2 * np.pi)), 0.0, -0.5])
    fit = fit_log_linear(counts.astype(np.float64), np.ones_like(x), np.zeros_like(x), design, start)
    b1, b2 = fit.parameters[1:]
    if not fit.converged or b2 >= 0:
        return nothing
    mean, width = -b1 / (2 * b2), (-2 * b2) ** -0.5
    jacobian = np.array([[-1 / (2 * b2), b1 / (2 * b2**2)], [0.0, width**3]])
    squares = jacobian[:, :, None] * fit.covariance[1:, 1:] * jacobian[:, None, :]
    mean_err, width_err = np.sqrt(squares.sum(axis=(1, 2))) * inflation
    return float(mean), float(mean_err), float(width), float(width_err)


@lru_cache(maxsize=4)
def disc_pixels(geom: Geometry, target_deg: Place, radius_deg: float) -> tuple[IntArray, IntArray, FloatArray]:
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


def find_at_target(maps: Maps, used: BoolArray, target_deg: Place, radius_deg: float, systematic: float = 0.0) -> Found:
    """What is found in the disc about the target: ``on``, ``background``, ``excess``, ``significance``.

    Pixels on the rim are shared out by area, and runs add up to their stack. `maps` are ``counts`` and ``background``
    of either; for rings also ``counts_off``, which is taken at the target's pixel, and there are ``off`` and ``alpha``.
    `used` are the safe bins that have a background, `systematic` is the relative error of that of no ring. None where
    there is no answer, as for a target outside the field.
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
        return {**found, "significance": number_or_none(make_significance_cash(on, background, systematic))}
    ix, iy = (int(index) for index in counts.geom.pixel_index(*target_deg))
    counted, seen = maps["counts_off"].data[:, iy, ix], inside[:, iy, ix] & (ix >= 0)
    off = int(counted.sum(where=seen if counted.size == seen.size else seen.any()))
    if off == 0:
        return {**found, "off": 0}
    alpha = background / off
    significance = number_or_none(make_significance_li_ma(on, off, alpha))
    return {**found, "off": off, "alpha": alpha, "significance": significance}


def disc_exposure(exposure: Cube, used: BoolArray, photons: FloatArray, target_deg: Place, radius_deg: float) -> float:
    """Mean exposure in the usable part of the disc at the target, m2 s; 0 if there is none.

    As of `mean_exposure`: of the bins of energy with weights `photons`, shape (n_energy,), those that are not `used`,
    shape (n_energy, ny, nx), count as 0.
    """
    rows, columns, share = disc_pixels(exposure.geom, target_deg, radius_deg)
    inside = used[:, rows, columns]
    seen = float(inside.any(axis=0) @ share)
    folded = (photons / photons.sum()) @ np.where(inside, exposure.data[:, rows, columns], 0.0)
    return float(folded @ share) / seen if seen else 0.0


def find_flux(found: Found, exposure_m2_s: float, systematic: float = 0.0) -> Found:
    """Flux of a source within the disc, m-2 s-1: ``flux``, ``flux_err``, and below 3 sigma ``flux_ul`` (95 %).

    The error is that upwards, from the likelihood as the limit is, both with the relative error of a background of no
    ring. None where there is no answer.
    """
    on, background, significance, off = (found.get(name) for name in ("on", "background", "significance", "off"))
    if on is None or background is None or significance is None or not exposure_m2_s > 0:
        return dict.fromkeys(("flux", "flux_err", "flux_ul"))
    excess = on - background
    upper = excess_above(on, background, off, 1.0, excess, systematic)
    limit = excess_above(on, background, off, LIMIT_RISE, max(excess, 0.0), systematic) / exposure_m2_s
    flux, flux_err = excess / exposure_m2_s, (upper - excess) / exposure_m2_s
    return {"flux": flux, "flux_err": flux_err, "flux_ul": limit if significance < LIMIT_SIGMA else None}


def find_containment(
    maps: Maps, photons: FloatArray, target_deg: Place, radius_deg: float, band: BoolArray | slice = slice(None)
) -> float | None:
    """Part of the PSF at the target within the disc, for the counts of a spectrum; None if it is not known.

    `maps` are ``psf``, ``edisp`` and ``irf_exposure``, `photons` those of the spectrum at each true energy, `band` the
    bins of energy of which counts are taken.
    """
    psf, edisp, exposure = (maps[name] for name in ("psf", "edisp", "irf_exposure"))
    ix, iy = psf.geom.pixel_index(*target_deg)
    rad, density = psf.axes[1], psf.data[:, :, iy, ix]
    square, ring = np.square(rad.edges_array), rad.centers * rad.widths
    part = np.clip((radius_deg**2 - square[:-1]) / np.diff(square), 0.0, 1.0)
    weight = photons * exposure.data[:, iy, ix] * edisp.data[:, :, iy, ix][:, band].sum(axis=1)
    # The PSF sums to 1 at each energy, or to 0 where there is none.
    known = weight[:, None] * (ix >= 0) * density * ring / np.maximum(density @ ring, np.finfo(float).tiny)[:, None]
    total = float(known.sum())
    return float(np.sum(known * part)) / total if total > 0 else None
