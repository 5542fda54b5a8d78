"""Exclusion masks of a batch: each file is read once, each mask made once per geometry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import FailedError, MistakeError
from cubeflow.maps import Axis, Geometry, axis_from_plain, geometry_from_plain
from cubeflow.products.exclusion import Exclusion, ExclusionError, make_mask_exclusion, read_exclusion
from cubeflow.products.exclusion_image import EVERY_ENERGY

LEAST_KEPT = 0.05
PlainFile = str | Mapping[str, Any]


class ExclusionMistake(MistakeError):
    """The exclusion of a target cannot be meant; the message names the key."""


class ExclusionChanged(FailedError):
    """An exclusion file is not the one that was planned with; what is made with it belongs to no key."""


def check_exclusion(name: str, plain: Mapping[str, Any], files: Sequence[PlainFile]) -> None:
    """Read the exclusion files of a target and see that they leave something, before any job needs them.

    Parameters
    ----------
    name : str
        Target.
    plain : mapping
        Configuration of the step ``reduce``.
    files : sequence of str or mapping
        Exclusion files, as for `read_exclusions`.

    Raises
    ------
    ExclusionMistake
        If a file cannot be used, or all but 5 % of the field from which background is taken are excluded.
    """
    try:
        keep = ExclusionMasks(files).mask(_field(plain), axis_from_plain(plain["energy"]))
    except ExclusionError as error:
        raise ExclusionMistake(f"targets.{name}.exclusion: {error}") from error
    kept = float(keep.mean())
    if kept < LEAST_KEPT:
        raise ExclusionMistake(
            f"targets.{name}.exclusion: {', '.join(map(_path, files))}: {kept:.1%} of the field is left, expected at "
            f"least {LEAST_KEPT:.0%}. In an exclusion image 1 means keep and 0 excluded; regions are the excluded areas"
        )


def _field(plain: Mapping[str, Any]) -> Geometry:
    """Coarse grid of the map, and of what lies around it where whole runs are used."""
    geom = geometry_from_plain(plain["irf_geometry"])
    margin = 0 if plain["trim"] else int(np.ceil(plain["offset_max_deg"] / geom.pixel_deg))
    nx, ny = geom.nx + 2 * margin, geom.ny + 2 * margin
    return replace(geom, nx=nx, ny=ny, crpix_x=geom.crpix_x + margin, crpix_y=geom.crpix_y + margin)


def read_exclusions(files: Sequence[PlainFile]) -> list[Exclusion]:
    """Read exclusion files.

    Parameters
    ----------
    files : sequence of str or mapping
        Paths; or ``path``, ``energy_min_tev`` and ``energy_max_tev``, the energies at which it holds; None is open.
    """
    read = []
    for file in files:
        exclusion = read_exclusion(_path(file))
        if not isinstance(file, str):
            limits = zip((file["energy_min_tev"], file["energy_max_tev"]), EVERY_ENERGY, strict=True)
            lower, upper = (end if given is None else given for given, end in limits)
            exclusion = replace(exclusion, energy_tev=(lower, upper))
        read.append(exclusion)
    return read


def planned_masks(manifest: Mapping[str, Any]) -> ExclusionMasks:
    """Masks of the exclusion files of a manifest, which must still have the content that was planned with."""
    background = manifest["background"] if "background" in manifest else next(iter(manifest["backgrounds"].values()))
    return ExclusionMasks(manifest["settings"]["exclusion"], background["exclusion"])


def _path(file: PlainFile) -> str:
    return file if isinstance(file, str) else str(file["path"])


class ExclusionMasks:
    """Masks of what may serve as background; they remember what they made.

    Parameters
    ----------
    files : sequence of str or mapping
        DS9 region files, FITS images or tables, as for `read_exclusions`; their excluded areas are joined.
    digests : sequence of str or mapping, optional
        The sha256 that each file must have, or a mapping with it as ``path``; not compared if not given.
    """

    def __init__(self, files: Sequence[PlainFile], digests: Sequence[PlainFile] | None = None) -> None:
        self._files = tuple(files)
        self._digests = digests
        self._exclusions: list[Exclusion] | None = None
        self._masks: dict[tuple[Geometry, Axis | None], NDArray[np.bool_]] = {}

    def mask(self, geom: Geometry, energy: Axis | None = None) -> NDArray[np.bool_]:
        """Mask of what is not excluded.

        Shape (n_energy, ny, nx) if there is an `energy` and an exclusion depends on it; otherwise (ny, nx), of pixels
        that are excluded at no energy.

        Raises
        ------
        ExclusionChanged
            If a file is gone or has another digest than it must have.
        ExclusionError
            If a file cannot be used.
        """
        if self._exclusions is None:
            self._exclusions = self._read()
        if not any(exclusion.by_energy for exclusion in self._exclusions):
            energy = None
        if (geom, energy) not in self._masks:
            keep = np.ones(geom.shape if energy is None else (energy.n_bins, *geom.shape), bool)
            for exclusion in self._exclusions:
                keep &= _mask(exclusion, geom, energy)
            self._masks[geom, energy] = keep
        return self._masks[geom, energy]

    def _read(self) -> list[Exclusion]:
        """Read the files, which are as planned before and after."""
        if self._digests is None:
            return read_exclusions(self._files)
        _require_unchanged(self._files, self._digests)
        exclusions = read_exclusions(self._files)
        _require_unchanged(self._files, self._digests)
        return exclusions


def _require_unchanged(files: Sequence[PlainFile], digests: Sequence[PlainFile]) -> None:
    """Raise unless each file has its digest."""
    for path, expected in zip(map(_path, files), map(_path, digests), strict=True):
        try:
            found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError as error:
            reason = error.strerror or str(error)
            raise ExclusionChanged(f"exclusion {path}: can no longer be read ({reason}); start again") from error
        if found != expected:
            raise ExclusionChanged(f"exclusion {path}: changed since the plan was made; start again")


def _mask(exclusion: Exclusion, geom: Geometry, energy: Axis | None) -> NDArray[np.bool_]:
    """Mask of one file; a run whose field is excluded as a whole has no background, and its norm says so."""
    try:
        return make_mask_exclusion(exclusion, geom, energy)
    except ExclusionError:
        return np.zeros(geom.shape, bool)
