"""Which bins of a run may be used for its background."""

from __future__ import annotations

import numpy as np

from cubeflow.maps.arrays import BoolArray


def allowed_bins(shape: tuple[int, ...], exclusion: BoolArray | None, safe: BoolArray | None) -> BoolArray:
    """Bins that are safe (None: all are) and not excluded (None: none is), shape (n_energy, ny, nx), as of the maps.

    The exclusion may have that shape or (ny, nx); ValueError if a mask does not fit.
    """
    if safe is not None and (safe.shape != shape or safe.dtype != np.bool_):
        raise ValueError(f"safe: expected bool {shape}, got {safe.dtype} {safe.shape}")
    allowed = np.ones(shape, np.bool_) if safe is None else safe
    if exclusion is None:
        return allowed
    if exclusion.shape not in (shape, shape[1:]) or exclusion.dtype != np.bool_:
        raise ValueError(f"exclusion: expected bool {shape} or {shape[1:]}, got {exclusion.dtype} {exclusion.shape}")
    return allowed & ~exclusion
