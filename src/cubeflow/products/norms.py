"""Norms of a run's background, one for each group of neighbouring energy bins, with what is to be known about them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from cubeflow.maps import Axis, FloatArray, IntArray

Group = tuple[int, ...]
Groups = tuple[Group, ...]


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
    flag: NormFlag  # empty for a good norm
    reason: str  # why it is unusable; empty if it is usable


@dataclass(frozen=True, eq=False)
class NormTable:
    """Norms of one run, one row per energy group (after merging), low energies first; arrays of shape (n_groups,)."""

    energy_min_tev: FloatArray  # outer edges of the group
    energy_max_tev: FloatArray
    norm: FloatArray  # as found, also where it is unusable; NaN where there is none
    norm_err: FloatArray
    tilt: FloatArray  # of a power law, acceptance x norm x (E / pivot)^-tilt; 0 and 0 for ``scale``
    tilt_err: FloatArray
    pivot_tev: FloatArray  # energy at which the norm holds, uncorrelated with the tilt; NaN for ``scale``
    covariance: FloatArray  # of norm and tilt, shape (n_groups, 2, 2)
    counts: IntArray  # used, as is the acceptance, before normalisation
    acceptance: FloatArray
    flags: IntArray  # `NormFlag` of each group
    failed: str | None  # why the run is not normalised in every group, one line; None if it is


def make_norm_table(energy: Axis, norms: list[GroupNorm]) -> NormTable:
    """Table of the norms of all groups, with one line on those that are unusable."""
    covariance = np.array([norm.covariance for norm in norms])
    errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    first, last = [norm.bins[0] for norm in norms], [norm.bins[-1] + 1 for norm in norms]
    lower, upper = energy.edges_array[first], energy.edges_array[last]
    failed = [
        f"{norm.reason} in {low:.4g}-{high:.4g} TeV"
        for norm, low, high in zip(norms, lower, upper, strict=True)
        if norm.reason
    ]
    same = ("norm", "tilt", "pivot_tev", "covariance", "counts", "acceptance")
    return NormTable(
        energy_min_tev=lower,
        energy_max_tev=upper,
        norm_err=errors[:, 0],
        tilt_err=errors[:, 1],
        flags=np.array([int(norm.flag) for norm in norms]),
        failed="; ".join(failed) or None,
        **{name: np.array([getattr(norm, name) for norm in norms]) for name in same},
    )


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
    index = [_edge_index(energy, edge) for edge in groups]
    if len(index) < 2 or index[0] != 0 or index[-1] != energy.n_bins or np.any(np.diff(index) <= 0):
        span = f"{energy.edges[0]:g} to {energy.edges[-1]:g} TeV"
        raise ValueError(f"energy_groups: expected increasing edges from {span}, got {list(groups)}")
    return tuple(tuple(range(first, last)) for first, last in itertools.pairwise(index))


def _edge_index(energy: Axis, edge: float) -> int:
    """Index of an edge of the axis, to 1e-6 of its value."""
    index = int(np.argmin(np.abs(np.log(energy.edges_array / edge)))) if edge > 0 else 0
    if not abs(energy.edges[index] - edge) <= 1e-6 * energy.edges[index]:
        raise ValueError(f"energy_groups: {edge:g} TeV is no edge of the energy axis; {energy.edges[index]:g} TeV is")
    return index


def merge_energy_groups(groups: Groups, is_enough: Callable[[Group], bool]) -> Groups:
    """Merge groups that hold too little with their neighbour.

    From the highest energies down, a group that is not enough is joined with the next group below it, as often as it
    takes; if the lowest is not enough in the end, it is joined with the one above. One last group may not be enough.
    """
    merged: list[Group] = []
    current = groups[-1]
    for lower in reversed(groups[:-1]):
        if is_enough(current):
            merged.insert(0, current)
            current = lower
        else:
            current = lower + current
    if merged and not is_enough(current):
        return (current + merged[0], *merged[1:])
    return (current, *merged)
