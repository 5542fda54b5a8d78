"""Field-of-view background: the predicted acceptance, normalised to the counts outside known sources.

There is a norm for each group of neighbouring energy bins, with what is to be known about it.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntFlag
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, BoolArray, Cube, FloatArray, IntArray
from cubeflow.products.cash import CashFit, fit_log_linear
from cubeflow.products.exclusion import allowed_bins, usable_bins
from cubeflow.products.setting import Setting
from cubeflow.products.sky_model import Source

Group = tuple[int, ...]
Groups = tuple[Group, ...]
OF_GROUP = ("norm", "tilt", "pivot_tev", "covariance", "counts", "acceptance", "flags")


@dataclass(frozen=True)
class FovOptions:
    """Acceptance normalised to the counts outside the exclusion mask."""

    method: Literal["fov"] = field(default="fov", kw_only=True)
    """Field-of-view background."""
    fit: Literal["scale", "tilt"] = "scale"
    """One factor per energy group, or a factor and a power law in energy."""
    energy_groups: Annotated[int, Setting(least=1)] | Annotated[tuple[float, ...], Setting("TeV")] = 1
    """Number of groups of energy bins, or their edges in TeV, which must be edges of the energy axis."""
    min_counts: Annotated[int, Setting(least=1)] = 10
    """Groups with fewer counts are merged with their neighbour; below it a norm is unusable."""
    norm_min: Annotated[float, Setting(above=0)] = 0.1
    """A smaller norm is a failure."""
    norm_max: Annotated[float, Setting(above=0)] = 10.0
    """A larger norm is a failure."""
    sky_model: tuple[Source, ...] | Path = ()
    """Sources whose predicted counts are subtracted, instead of an exclusion or beside it: a list, or a file."""
    on_failure: Literal["drop", "keep", "error"] = "drop"
    """A run whose norm fails is left out of this label, kept where it has a norm, or refused."""

    def __post_init__(self) -> None:
        if self.fit not in ("scale", "tilt"):
            raise ValueError(f"fit: expected 'scale' or 'tilt', got {self.fit!r}")
        if not self.min_counts >= 1:
            raise ValueError(f"min_counts: expected at least 1, got {self.min_counts}")
        if not 0 < self.norm_min < self.norm_max:
            below = f"norm_max = {self.norm_max:g}"
            raise ValueError(f"norm_min: expected less than {below} and above 0, got {self.norm_min:g}")


class Cells(NamedTuple):
    """Bins of a Poisson likelihood, each of shape (n_cells,)."""

    counts: FloatArray
    acceptance: FloatArray  # which norm and tilt scale
    model: FloatArray  # counts of a sky model, which they do not
    log_energy: FloatArray  # logarithm of the energy over the reference energy


class NormFlag(IntFlag):
    """What is to be known about a norm; any flag but ``MERGED`` makes it unusable."""

    MERGED = 1
    NO_ACCEPTANCE = 2
    FEW_COUNTS = 4
    OUTSIDE_LIMITS = 8
    NO_TILT = 16


@dataclass(frozen=True, eq=False)
class GroupNorm:
    """Norm of one energy group."""

    bins: Group  # its energy bins
    norm: float  # as found, as is the tilt; NaN where there is none
    tilt: float
    pivot_tev: float  # energy at which a tilted norm holds; NaN without a tilt
    factors: FloatArray  # by which the acceptance of each of its bins is multiplied
    covariance: FloatArray  # of norm and tilt, shape (2, 2)
    counts: int  # used, as is the acceptance, before normalisation
    acceptance: float
    flags: NormFlag  # empty for a good norm
    reason: str  # why it is unusable; empty if it is usable


@dataclass(frozen=True, eq=False)
class NormTable:
    """Norms of one run, one row per energy group (after merging), low energies first; arrays of shape (n_groups,)."""

    energy_min_tev: FloatArray  # outer edges of the group
    energy_max_tev: FloatArray
    norm_err: FloatArray
    tilt_err: FloatArray
    failed: str | None  # why the run is not normalised in every group, one line; None if it is
    norm: FloatArray  # as found, also where it is unusable; NaN where there is none
    tilt: FloatArray  # of a power law, acceptance x norm x (E / pivot)^-tilt; 0, as its error, for ``scale``
    pivot_tev: FloatArray  # energy at which the norm holds, uncorrelated with the tilt; NaN for ``scale``
    covariance: FloatArray  # of norm and tilt, shape (n_groups, 2, 2)
    counts: IntArray  # used, as is the acceptance, before normalisation
    acceptance: FloatArray
    flags: IntArray  # `NormFlag` of each group


@dataclass(frozen=True, eq=False)
class FovBackground:
    """Normalised background and how it came about."""

    background: Cube  #: of the acceptance's axes and type; NaN at every energy without a norm or acceptance
    norms: NormTable  #: one row per energy group
    mask: BoolArray  #: usable bins (safe, with acceptance) of the groups that have a norm, shape (n_energy, ny, nx)


def make_map_fov_background(
    acceptance: Cube,
    counts: Cube,
    exclusion: BoolArray | None,
    options: FovOptions | None = None,
    safe: BoolArray | None = None,
    model_counts: Cube | None = None,
) -> FovBackground:
    """Acceptance of one run, normalised to its counts in the allowed pixels, per energy group.

    Allowed is what is safe, has acceptance and is not excluded. For ``scale`` the norm is (sum counts - sum
    model_counts) / sum acceptance, with the error sqrt(sum counts) / sum acceptance; for ``tilt`` norm and tilt
    minimise the Cash statistic, pixel by pixel if there is a sky model; the norm is predicted counts over acceptance of
    the group, and holds at the energy that this gives, where it is uncorrelated with the tilt.

    Norms that are missing, too poor or outside their limits are flagged, and ``norms.failed`` says why; their
    background is NaN. No norm is ever replaced by 1. ValueError if maps, masks or groups do not fit each other.

    Parameters
    ----------
    acceptance : Cube, (energy, lat, lon), predicted hadron background of the run
    counts : Cube, (energy, lat, lon), counts of the run
    exclusion : array of bool, shape (ny, nx) or (n_energy, ny, nx), or None
        True where counts must not be used; None for nowhere.
    options : FovOptions, optional: fit, groups and limits; the default ones if left out
    safe : array of bool, shape (n_energy, ny, nx), optional: where the bin is safe; every bin if left out
    model_counts : Cube, (energy, lat, lon), optional
        Counts which a sky model predicts: taken as given, in place of an exclusion mask.
    """
    options = options or FovOptions()
    for other in (acceptance, model_counts):
        if other is not None and (other.geom != counts.geom or other.axes != counts.axes):
            raise ValueError(f"maps on different grids: {counts.geom} {counts.axes} and {other.geom} {other.axes}")
    usable = usable_bins(acceptance.data, safe)
    allowed = allowed_bins(usable, exclusion)
    energy = counts.axis("energy")
    counted, accepted, modelled = (_total(cube, allowed) for cube in (counts, acceptance, model_counts))
    totals = Cells(counted, accepted, modelled, np.log(energy.centers))
    groups = make_energy_groups(energy, options.energy_groups)
    norms, n_filled = [], 2 if options.fit == "tilt" else 1  # bins with counts that a norm or a tilt needs

    def is_enough(bins: Group) -> bool:
        found = counted[list(bins)]
        return bool(found.sum() >= options.min_counts and np.count_nonzero(found) >= n_filled)

    for bins in merge_energy_groups(groups, is_enough):
        index = list(bins)
        sums = cells = Cells(*(values[index] for values in totals))
        if options.fit == "tilt" and model_counts is not None:
            maps = counts.data[index], acceptance.data[index].astype(float), model_counts.data[index]
            cells = make_pixel_cells(*maps, allowed[index], sums.log_energy)
        norm = _find_norm(sums, bins, cells, options)
        norms.append(norm if bins in groups else replace(norm, flags=norm.flags | NormFlag.MERGED))
    factors = np.full(energy.n_bins, np.nan)
    for norm in norms:
        if not norm.reason:
            factors[list(norm.bins)] = norm.factors
    factors[~acceptance.data.any(axis=(1, 2))] = np.nan
    background = np.empty_like(acceptance.data)
    for plane, accepted, factor in zip(background, acceptance.data, factors, strict=True):
        np.multiply(accepted, factor, out=plane, dtype=np.float64, casting="same_kind")
    mask = usable & np.isfinite(factors)[:, None, None]
    found = {name: np.array([getattr(norm, name) for norm in norms]) for name in OF_GROUP}
    lower, upper = energy.edges_array[np.array([(norm.bins[0], norm.bins[-1] + 1) for norm in norms]).T]
    norm_err, tilt_err = np.sqrt(np.diagonal(found["covariance"], axis1=1, axis2=2)).T
    reasons = zip((norm.reason for norm in norms), lower, upper, strict=True)
    failed = "; ".join(f"{reason} in {low:.4g}-{high:.4g} TeV" for reason, low, high in reasons if reason)
    table = NormTable(lower, upper, norm_err, tilt_err, failed or None, **found)
    return FovBackground(Cube(background, "", counts.geom, counts.axes), table, mask)


def make_energy_groups(energy: Axis, groups: int | Sequence[float]) -> Groups:
    """Indices of the energy bins of each group, low energies first; together every bin exactly once.

    `groups` is a number of groups (as equal in their number of bins as possible, the larger ones first), or their
    increasing edges in TeV, which must be edges of `energy` and cover it. ValueError if there are not so many bins, or
    the edges are others.
    """
    if isinstance(groups, int):
        if not 1 <= groups <= energy.n_bins:
            raise ValueError(f"energy_groups: expected a number from 1 to {energy.n_bins} (energy bins), got {groups}")
        return tuple(tuple(part.tolist()) for part in np.array_split(np.arange(energy.n_bins), groups))
    try:
        index = [energy.edge_index(edge) for edge in groups]
    except ValueError as error:
        raise ValueError(f"energy_groups: {error}") from error
    if len(index) < 2 or index[0] != 0 or index[-1] != energy.n_bins or np.any(np.diff(index) <= 0):
        span = f"{energy.edges[0]:g} to {energy.edges[-1]:g} TeV"
        raise ValueError(f"energy_groups: expected increasing edges from {span}, got {list(groups)}")
    return tuple(tuple(range(first, last)) for first, last in itertools.pairwise(index))


def merge_energy_groups(groups: Groups, is_enough: Callable[[Group], bool]) -> Groups:
    """Merge groups that hold too little with their neighbour.

    From the highest energies down, a group that is not enough is joined with the next group below it, as often as it
    takes; if the lowest is not enough in the end, it is joined with the one above. One last group may not be enough.
    """
    merged: list[Group] = []
    current: Group = ()
    for lower in reversed(groups):
        current = lower + current
        if is_enough(current):
            merged.insert(0, current)
            current = ()
    if current and merged:
        return (current + merged[0], *merged[1:])
    return tuple(merged) or (current,)


def _total(cube: Cube | None, allowed: BoolArray) -> FloatArray:
    """Sum over the allowed pixels at each energy, shape (n_energy,), plane by plane, which stays in the cache."""
    if cube is None:
        return np.zeros(len(allowed))
    planes = zip(cube.data, allowed, strict=True)
    return np.array([np.where(inside, plane, 0).astype(float).sum() for plane, inside in planes])


def _find_norm(sums: Cells, bins: Group, cells: Cells, options: FovOptions) -> GroupNorm:
    """Norm of a group, and its tilt, from the sums in its bins and the cells of its likelihood: the same, or pixels."""
    counts, acceptance = int(sums.counts.sum()), float(sums.acceptance.sum())
    norm, tilt, pivot, factors = np.nan, 0.0, np.nan, np.full(len(bins), np.nan)
    if options.fit == "scale":
        covariance, has_fit = np.diag([np.nan, 0.0]), True
        if acceptance > 0:
            norm = (counts - float(sums.model.sum())) / acceptance
            covariance[0, 0] = counts / acceptance**2
            factors[:] = norm
    else:
        centre = float(sums.log_energy @ sums.acceptance) / acceptance if acceptance > 0 else 0.0
        fit = fit_tilt(cells._replace(log_energy=cells.log_energy - centre))
        covariance, has_fit, tilt = fit.covariance, fit.converged, np.nan
        if has_fit:
            at_centre, tilt = fit.parameters.tolist()
            x, share = sums.log_energy - centre, sums.acceptance / acceptance
            factors = at_centre * np.exp(-tilt * x)
            # Predicted over acceptance; its derivative by the tilt is minus the mean energy of what is predicted.
            norm = float(share @ factors)
            jacobian = np.array([[norm / at_centre, -float(share @ (factors * x))], [0.0, 1.0]])
            covariance = jacobian @ fit.covariance @ jacobian.T
            # There a power law has its mean; shares times x add up to 0, so that this is exact for small tilts, too.
            shift = -np.log1p(float(share @ np.expm1(-tilt * x))) / tilt if tilt else 0.0
            pivot = float(np.exp(centre + shift))
    flag, reason, n_filled = NormFlag(0), "", np.count_nonzero(sums.counts)
    if not acceptance > 0:
        flag, reason = NormFlag.NO_ACCEPTANCE, "no acceptance in safe pixels outside the exclusion mask"
    elif counts < options.min_counts:
        reason = f"{counts} counts outside the exclusion mask, at least {options.min_counts} needed"
        flag = NormFlag.FEW_COUNTS
    elif not has_fit:
        where = f"{n_filled} energy bin{'s' if n_filled > 1 else ''}"
        flag, reason = NormFlag.NO_TILT, f"no tilt can be fitted to counts in {where}"
    elif not options.norm_min <= norm <= options.norm_max:
        limits = f"{options.norm_min:g} to {options.norm_max:g}"
        flag, reason = NormFlag.OUTSIDE_LIMITS, f"norm {norm:.4g} outside its limits {limits}"
    return GroupNorm(bins, norm, tilt, pivot, factors, covariance, counts, acceptance, flag, reason)


def make_pixel_cells(
    counts: NDArray[Any], acceptance: FloatArray, model: FloatArray, allowed: BoolArray, log_energy: FloatArray
) -> Cells:
    """Cells for a fit beside a sky model, which differs from pixel to pixel; maps of shape (n_energy, ny, nx).

    Every pixel with counts is a cell. Those without have a likelihood linear in the prediction: at each energy they
    make one cell, and their sky model, which is a constant then, is left out.
    """
    known = allowed & (acceptance > 0)
    filled = known & (counts > 0)
    empty = np.sum(acceptance, axis=(1, 2), where=known & ~filled)
    nothing = np.zeros_like(empty)
    return Cells(
        counts=np.concatenate([nothing, counts[filled].astype(np.float64)]),
        acceptance=np.concatenate([empty, acceptance[filled]]),
        model=np.concatenate([nothing, model[filled]]),
        log_energy=np.concatenate([log_energy, log_energy[np.nonzero(filled)[0]]]),
    )


def fit_tilt(cells: Cells) -> CashFit:
    """Norm and tilt that minimise the Cash statistic: background is acceptance x norm x (E / reference)^-tilt."""
    used = cells.acceptance > 0
    counts, acceptance = float(cells.counts[used].sum()), float(cells.acceptance[used].sum())
    background = max(counts - float(cells.model[used].sum()), 0.1 * counts)
    design = np.stack([np.ones_like(cells.log_energy), -cells.log_energy], axis=-1)
    if not (background > 0 and acceptance > 0):
        return CashFit(np.full(2, np.nan), np.full((2, 2), np.nan), False)
    start = np.array([np.log(background / acceptance), 0.0])
    fit = fit_log_linear(cells.counts, cells.acceptance, cells.model, design, start)
    jacobian = np.array([np.exp(fit.parameters[0]), 1.0])  # the fit is in the logarithm of the norm
    parameters = np.array([jacobian[0], fit.parameters[1]])
    return CashFit(parameters, fit.covariance * np.outer(jacobian, jacobian), fit.converged)
