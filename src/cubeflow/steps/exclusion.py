"""Exclusion masks of a batch: each file is read once, each mask made once per geometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Geometry
from cubeflow.products.exclusion import Exclusion, ExclusionError, make_mask_exclusion, read_exclusion


class ExclusionMasks:
    """Masks of what may serve as background; they remember what they made.

    Parameters
    ----------
    paths : sequence of str
        DS9 region files or FITS images; their excluded areas are joined.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._exclusions: list[Exclusion] | None = None
        self._masks: dict[Geometry, NDArray[np.bool_]] = {}

    def mask(self, geom: Geometry) -> NDArray[np.bool_]:
        """Mask of shape (ny, nx), True where a pixel is not excluded."""
        if self._exclusions is None:
            self._exclusions = [read_exclusion(path) for path in self._paths]
        if geom not in self._masks:
            keep = np.ones(geom.shape, bool)
            for exclusion in self._exclusions:
                keep &= _mask(exclusion, geom)
            self._masks[geom] = keep
        return self._masks[geom]


def _mask(exclusion: Exclusion, geom: Geometry) -> NDArray[np.bool_]:
    """Mask of one file; a run whose field is excluded as a whole has no background, and its norm says so."""
    try:
        return make_mask_exclusion(exclusion, geom)
    except ExclusionError:
        return np.zeros(geom.shape, bool)
