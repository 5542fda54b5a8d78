"""Norms of a run's background, one per energy group, with what is to be known about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.products.energy_groups import Group

FloatArray = NDArray[np.float64]


class NormFlag(IntFlag):
    """What is to be known about a norm; any flag but ``MERGED`` makes it unusable."""

    MERGED = 1
    NO_ACCEPTANCE = 2
    FEW_COUNTS = 4
    OUTSIDE_LIMITS = 8
    NO_TILT = 16


@dataclass(frozen=True, eq=False)
class GroupNorm:
    """Norm of one energy group.

    Parameters
    ----------
    bins : tuple of int
        Energy bins of the group.
    norm, tilt : float
        As found, NaN where there is none.
    covariance : array, shape (2, 2)
        Of norm and tilt.
    counts : int
        Counts used.
    acceptance : float
        Acceptance used, before normalisation.
    flag : NormFlag
        Empty for a good norm.
    reason : str
        Why it is unusable; empty if it is usable.
    """

    bins: Group
    norm: float
    tilt: float
    covariance: FloatArray
    counts: int
    acceptance: float
    flag: NormFlag
    reason: str


@dataclass(frozen=True, eq=False)
class NormTable:
    """Norms of one run, one row per energy group (after merging), low energies first.

    Parameters
    ----------
    energy_min_tev, energy_max_tev : array, shape (n_groups,)
        Outer edges of the group, TeV.
    norm, norm_err : array, shape (n_groups,)
        Norm as found, also where it is unusable; NaN where there is none.
    tilt, tilt_err : array, shape (n_groups,)
        Power-law tilt, acceptance x norm x (E / reference)^-tilt; 0 and 0 for ``scale``.
    covariance : array, shape (n_groups, 2, 2)
        Of norm and tilt.
    counts : array of int, shape (n_groups,)
        Counts used.
    acceptance : array, shape (n_groups,)
        Acceptance used, before normalisation.
    flags : array of int, shape (n_groups,)
        `NormFlag` of each group.
    reference_tev : float
        Energy at which the tilted norm holds, TeV.
    failed : str or None
        Why the run is not normalised in every group, one line; None if it is.
    """

    energy_min_tev: FloatArray
    energy_max_tev: FloatArray
    norm: FloatArray
    norm_err: FloatArray
    tilt: FloatArray
    tilt_err: FloatArray
    covariance: FloatArray
    counts: NDArray[np.int64]
    acceptance: FloatArray
    flags: NDArray[np.int64]
    reference_tev: float
    failed: str | None


def make_norm_table(energy: Axis, norms: list[GroupNorm], reference_tev: float) -> NormTable:
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
    return NormTable(
        energy_min_tev=lower,
        energy_max_tev=upper,
        norm=np.array([norm.norm for norm in norms]),
        norm_err=errors[:, 0],
        tilt=np.array([norm.tilt for norm in norms]),
        tilt_err=errors[:, 1],
        covariance=covariance,
        counts=np.array([norm.counts for norm in norms], dtype=np.int64),
        acceptance=np.array([norm.acceptance for norm in norms]),
        flags=np.array([int(norm.flag) for norm in norms], dtype=np.int64),
        reference_tev=reference_tev,
        failed="; ".join(failed) or None,
    )
