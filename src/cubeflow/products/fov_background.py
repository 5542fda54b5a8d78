"""Field-of-view background: the predicted acceptance, normalised to the counts outside known sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.products.energy_groups import Group, Groups, check_energy_groups, make_energy_groups, merge_energy_groups
from cubeflow.products.masked import masked_counts, masked_planes
from cubeflow.products.norm_table import GroupNorm, NormFlag, NormTable, make_norm_table
from cubeflow.products.tilt import Cells, fit_tilt, make_pixel_cells

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class NormalisationError(ValueError):
    """A run's background cannot be normalised; raised by callers whose policy is ``error``."""


@dataclass(frozen=True)
class FovOptions:
    """How the acceptance is normalised.

    Parameters
    ----------
    fit : {"scale", "tilt"}
        One factor per energy group, or a factor and a power law in energy.
    energy_groups : int or tuple of tuples of int
        Number of groups, or the energy bins of each (see `make_energy_groups`).
    min_counts : int
        Groups with fewer counts are merged (see `merge_energy_groups`); below it a norm is unusable. At least 1.
    norm_min, norm_max : float
        A norm outside these limits is unusable.
    reference_tev : float
        Energy at which the tilted norm holds, TeV.
    """

    fit: Literal["scale", "tilt"] = "scale"
    energy_groups: int | Groups = 1
    min_counts: int = 10
    norm_min: float = 0.1
    norm_max: float = 10.0
    reference_tev: float = 1.0

    def __post_init__(self) -> None:
        if self.fit not in ("scale", "tilt"):
            raise ValueError(f"fit: expected 'scale' or 'tilt', got {self.fit!r}")
        if not self.min_counts >= 1:
            raise ValueError(f"min_counts: expected at least 1, got {self.min_counts}")
        if not 0 < self.norm_min < self.norm_max:
            raise ValueError(f"norm limits: expected 0 < min < max, got {self.norm_min} and {self.norm_max}")
        if not 0 < self.reference_tev < np.inf:
            raise ValueError(f"reference_tev: expected an energy above 0 TeV, got {self.reference_tev}")


@dataclass(frozen=True, eq=False)
class FovBackground:
    """Normalised background and how it came about.

    Parameters
    ----------
    background : Cube, (energy, lat, lon)
        Predicted background counts in the type of the acceptance; NaN at every energy that is not usable.
    norms : NormTable
        One row per energy group.
    usable : array of bool, shape (n_energy,)
        False where the group's norm is unusable or the acceptance is zero all over the energy plane. Whoever keeps
        the run all the same must take these energies out of its safe mask: there is no background there.
    """

    background: Cube
    norms: NormTable
    usable: BoolArray


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the allowed pixels, each of shape (n_energy,); counts and model only where there is acceptance."""

    counts: NDArray[np.int64]
    acceptance: FloatArray
    model: FloatArray


def make_map_fov_background(
    counts: Cube, acceptance: Cube, allowed: BoolArray, options: FovOptions, model_counts: Cube | None = None
) -> FovBackground:
    """Acceptance of one run, normalised to its counts in the allowed pixels, per energy group.

    For ``scale`` the norm is (sum counts - sum model_counts) / sum acceptance, with the error sqrt(sum counts) / sum
    acceptance; for ``tilt`` norm and tilt minimise the Cash statistic, pixel by pixel if there is a sky model.
    Energies at which the acceptance of the allowed pixels is zero say nothing about a norm: they are left out.

    Parameters
    ----------
    counts : Cube, (energy, lat, lon)
        Counts of the run.
    acceptance : Cube, (energy, lat, lon)
        Predicted hadron background of the run.
    allowed : array of bool, shape (n_energy, ny, nx)
        True where the bin is safe and not excluded.
    options : FovOptions
        Fit, groups and limits.
    model_counts : Cube, (energy, lat, lon), optional
        Counts which a sky model predicts: taken as given, in place of an exclusion mask.

    Returns
    -------
    FovBackground
        Norms that are missing, too poor or outside their limits are flagged, and ``norms.failed`` says why; their
        background is NaN. No norm is ever replaced by 1.

    Raises
    ------
    ValueError
        If maps, mask or groups do not fit each other.
    """
    _check_shapes(counts, allowed, acceptance, model_counts)
    energy = counts.axis("energy")
    sums = _sum_allowed(counts, acceptance, allowed, model_counts)
    log_energy = np.log(energy.centers / options.reference_tev)
    norms = _fit_groups((counts, acceptance, model_counts), allowed, sums, log_energy, options)
    factors = np.full(energy.n_bins, np.nan)
    for norm in norms:
        if not norm.reason:
            bins = list(norm.bins)
            factors[bins] = norm.norm * np.exp(-norm.tilt * log_energy[bins])
    usable = np.isfinite(factors) & acceptance.data.any(axis=(1, 2))
    background = np.empty_like(acceptance.data)
    for plane, accepted, factor in zip(background, acceptance.data, np.where(usable, factors, np.nan), strict=True):
        np.multiply(accepted, factor, out=plane, dtype=np.float64, casting="same_kind")
    table = make_norm_table(energy, norms, options.reference_tev)
    return FovBackground(Cube(background, "", counts.geom, counts.axes), table, usable)


def _check_shapes(counts: Cube, allowed: BoolArray, *others: Cube | None) -> None:
    if allowed.shape != counts.data.shape or allowed.dtype != np.bool_:
        raise ValueError(f"allowed: expected bool {counts.data.shape}, got {allowed.dtype} {allowed.shape}")
    for other in others:
        if other is not None and (other.geom != counts.geom or other.axes != counts.axes):
            raise ValueError(f"maps on different grids: {counts.geom} {counts.axes} and {other.geom} {other.axes}")


def _sum_allowed(counts: Cube, acceptance: Cube, allowed: BoolArray, model_counts: Cube | None) -> _Sums:
    energy, _, values = masked_counts(counts.data, allowed)
    counted = np.rint(np.bincount(energy, values, len(allowed))).astype(np.int64)
    accepted = _total(acceptance, allowed)
    model = np.zeros_like(accepted) if model_counts is None else _total(model_counts, allowed)
    known = accepted > 0
    return _Sums(np.where(known, counted, 0), accepted, np.where(known, model, 0.0))


def _total(cube: Cube, allowed: BoolArray) -> FloatArray:
    """Sum over the allowed pixels at each energy, plane by plane, which stays in the cache."""
    return np.array([plane.sum() for plane in masked_planes(cube.data, allowed, np.float64)])


def _fit_groups(
    maps: tuple[Cube, Cube, Cube | None], allowed: BoolArray, sums: _Sums, log_energy: FloatArray, options: FovOptions
) -> list[GroupNorm]:
    """Norms of the energy groups, after those with too few counts are merged."""
    groups = _requested_groups(maps[0].axis("energy"), options)
    norms = []
    for bins in merge_energy_groups(groups, lambda bins: _is_enough(sums.counts[list(bins)], options)):
        if options.fit == "tilt":
            norm = _tilt(sums, bins, _cells(maps, allowed, sums, bins, log_energy), options)
        else:
            norm = _scale(sums, bins, options)
        norms.append(norm if bins in groups else replace(norm, flag=norm.flag | NormFlag.MERGED))
    return norms


def _requested_groups(energy: Axis, options: FovOptions) -> Groups:
    """Energy groups before any are merged."""
    if isinstance(options.energy_groups, int):
        return make_energy_groups(energy, options.energy_groups)
    check_energy_groups(options.energy_groups, energy.n_bins)
    return options.energy_groups


def _is_enough(counts: NDArray[np.int64], options: FovOptions) -> bool:
    """Whether the counts in the bins of a group, shape (n_bins,), make a norm; a tilt needs two bins with counts."""
    n_filled = 2 if options.fit == "tilt" else 1
    return bool(counts.sum() >= options.min_counts and np.count_nonzero(counts) >= n_filled)


def _scale(sums: _Sums, bins: Group, options: FovOptions) -> GroupNorm:
    """One factor for the group."""
    index = list(bins)
    counts, acceptance = int(sums.counts[index].sum()), float(sums.acceptance[index].sum())
    norm = variance = np.nan
    if acceptance > 0:
        norm = (counts - float(sums.model[index].sum())) / acceptance
        variance = counts / acceptance**2
    covariance = np.array([[variance, 0.0], [0.0, 0.0]])
    flag, reason = _verdict(norm, counts, acceptance, options)
    return GroupNorm(bins, norm, 0.0, covariance, counts, acceptance, flag, reason)


def _cells(
    maps: tuple[Cube, Cube, Cube | None], allowed: BoolArray, sums: _Sums, bins: Group, log_energy: FloatArray
) -> Cells:
    """Bins of the likelihood of a group: its energies, or its pixels beside a sky model."""
    counts, acceptance, model = maps
    index = list(bins)
    if model is None:
        rates = sums.acceptance[index], sums.model[index], log_energy[index]
        return Cells(sums.counts[index].astype(np.float64), *rates)
    known = allowed[index] & (acceptance.data[index] > 0)
    return make_pixel_cells(
        counts.data[index], acceptance.data[index].astype(np.float64), model.data[index], known, log_energy[index]
    )


def _tilt(sums: _Sums, bins: Group, cells: Cells, options: FovOptions) -> GroupNorm:
    """One factor and one tilt for the group."""
    index = list(bins)
    counts, acceptance = int(sums.counts[index].sum()), float(sums.acceptance[index].sum())
    n_filled = np.count_nonzero(sums.counts[index])
    fit = fit_tilt(cells)
    flag, reason = _verdict(fit.norm, counts, acceptance, options)
    if not fit.converged and not flag & (NormFlag.NO_ACCEPTANCE | NormFlag.FEW_COUNTS):
        where = f"{n_filled} energy bin{'s' if n_filled > 1 else ''}"
        flag, reason = NormFlag.NO_TILT, f"no tilt can be fitted to counts in {where}"
    return GroupNorm(bins, fit.norm, fit.tilt, fit.covariance, counts, acceptance, flag, reason)


def _verdict(norm: float, counts: int, acceptance: float, options: FovOptions) -> tuple[NormFlag, str]:
    """Flag and reason of a norm that cannot be used; no flag and no reason for a good one."""
    if not acceptance > 0:
        return NormFlag.NO_ACCEPTANCE, "no acceptance in safe pixels outside the exclusion mask"
    if counts < options.min_counts:
        return NormFlag.FEW_COUNTS, f"{counts} counts outside the exclusion mask, at least {options.min_counts} needed"
    if not options.norm_min <= norm <= options.norm_max:
        limits = f"{options.norm_min:g} to {options.norm_max:g}"
        return NormFlag.OUTSIDE_LIMITS, f"norm {norm:.4g} outside its limits {limits}"
    return NormFlag(0), ""
