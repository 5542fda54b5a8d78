"""Exclusion masks of a batch: each file is read once, each mask made once per geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Geometry, geometry_from_plain
from cubeflow.products.exclusion import Exclusion, ExclusionError, make_mask_exclusion, read_exclusion

LEAST_KEPT = 0.05


class ExclusionMistake(MistakeError):
    """The exclusion of a target cannot be meant; the message names the key."""


def check_exclusion(name: str, plain: Mapping[str, Any], paths: Sequence[str]) -> None:
    """Read the exclusion files of a target and see that they leave something, before any job needs them.

    Parameters
    ----------
    name : str
        Target.
    plain : mapping
        Configuration of the step ``reduce``.
    paths : sequence of str
        Exclusion files.

    Raises
    ------
    ExclusionMistake
        If a file cannot be used, or all but 5 % of the field from which background is taken are excluded.
    """
    try:
        keep = ExclusionMasks(paths).mask(_field(plain))
    except ExclusionError as error:
        raise ExclusionMistake(f"targets.{name}.exclusion: {error}") from error
    kept = float(keep.mean())
    if kept < LEAST_KEPT:
        raise ExclusionMistake(
            f"targets.{name}.exclusion: {', '.join(paths)}: {kept:.1%} of the field is left, expected at least "
            f"{LEAST_KEPT:.0%}. In an exclusion image 1 means keep and 0 excluded; regions are the excluded areas"
        )


def _field(plain: Mapping[str, Any]) -> Geometry:
    """Coarse grid of the map, and of what lies around it where whole runs are used."""
    geom = geometry_from_plain(plain["irf_geometry"])
    margin = 0 if plain["trim"] else int(np.ceil(plain["offset_max_deg"] / geom.pixel_deg))
    nx, ny = geom.nx + 2 * margin, geom.ny + 2 * margin
    return replace(geom, nx=nx, ny=ny, crpix_x=geom.crpix_x + margin, crpix_y=geom.crpix_y + margin)


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
