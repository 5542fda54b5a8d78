"""Which bins of a run may be used, and which of them for its background."""

from __future__ import annotations

import numpy as np

from cubeflow.maps import BoolArray, FloatArray


def usable_bins(acceptance: FloatArray, safe: BoolArray | None) -> BoolArray:
    """Bins that are safe (None: all are) and have acceptance, shape (n_energy, ny, nx), as of the acceptance.

    Where the table of the background ends its rate is zero, which is no measurement: nothing is known there.
    ValueError if the mask does not fit.
    """
    if safe is not None and (safe.shape != acceptance.shape or safe.dtype != np.bool_):
        raise ValueError(f"safe: expected bool {acceptance.shape}, got {safe.dtype} {safe.shape}")
    known: BoolArray = acceptance > 0
    return known if safe is None else known & safe


def allowed_bins(usable: BoolArray, exclusion: BoolArray | None) -> BoolArray:
    """Usable bins, shape (n_energy, ny, nx), that are not excluded (None: none is).

    The exclusion may have that shape or (ny, nx); ValueError if it does not fit.
    """
    if exclusion is None:
        return usable
    shape = usable.shape
    if exclusion.shape not in (shape, shape[1:]) or exclusion.dtype != np.bool_:
        raise ValueError(f"exclusion: expected bool {shape} or {shape[1:]}, got {exclusion.dtype} {exclusion.shape}")
    return usable & ~exclusion
