"""Groups of neighbouring energy bins that share one background norm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from cubeflow.maps.axis import Axis

Group = tuple[int, ...]
Groups = tuple[Group, ...]


def make_energy_groups(energy: Axis, groups: int | Sequence[float]) -> Groups:
    """Energy bins of each group, low energies first.

    Parameters
    ----------
    energy : Axis
        Reconstructed energy.
    groups : int or sequence of float
        A number of groups (as equal in their number of bins as possible, the larger ones first), or the
        increasing edges of the groups in TeV; the edges must be edges of `energy` and cover it.

    Returns
    -------
    groups : tuple of tuples of int
        Indices of the energy bins; together every bin exactly once.

    Raises
    ------
    ValueError
        If the number is not in 1 .. number of bins, or the edges are not edges of the axis or do not cover it.
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


def check_energy_groups(groups: Groups, n_bins: int) -> None:
    """Raise ValueError unless the groups hold the bins 0 .. `n_bins` - 1 in order, each once."""
    flat = [index for group in groups for index in group]
    if flat != list(range(n_bins)) or not all(groups):
        raise ValueError(f"energy_groups: expected every bin from 0 to {n_bins - 1} once, in order, got {groups}")


def merge_energy_groups(groups: Groups, is_enough: Callable[[Group], bool]) -> Groups:
    """Merge groups that hold too little with their neighbour.

    From the highest energies down, a group that is not enough is joined with the next group below it, as often as it
    takes; if the lowest is not enough in the end, it is joined with the one above. One last group may not be enough.

    Parameters
    ----------
    groups : tuple of tuples of int
        Bins of each group, low energies first.
    is_enough : callable
        Whether the bins of a group hold enough.
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
