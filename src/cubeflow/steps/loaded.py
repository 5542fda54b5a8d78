"""Artifacts for people: what a file holds, as plain objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube
from cubeflow.steps.datasets import dataset_maps
from cubeflow.steps.expand import cubes, read_dense
from cubeflow.steps.to_gammapy import to_dataset, to_map
from cubeflow.storage.slabs import in_memory


@dataclass(frozen=True, eq=False)
class Loaded:
    """The content of an artifact.

    Parameters
    ----------
    kind : str
        ``cube``, ``reduced``, ``background`` or ``stack``.
    key : str
        Key of everything it was made of.
    maps : mapping of str to Cube
        Its maps: ``maps["counts"].data`` is an array (energy, lat, lon), with ``unit``, ``axes`` and ``geom``.
    arrays : mapping of str to array
        What is no map, such as ``gti_s``, shape (n, 2), TT s since MJD 51910.
    attributes, provenance : mapping
        Plain results, and what it was made of.
    """

    kind: str
    key: str
    maps: Mapping[str, Cube]
    arrays: Mapping[str, NDArray[Any]]
    attributes: Mapping[str, Any]
    provenance: Mapping[str, Any]

    def __repr__(self) -> str:
        """What it holds, a line for each map and array; no values."""
        held = {name: repr(cube) for name, cube in self.maps.items()}
        held |= {name: f"array of shape {array.shape}, {array.dtype}" for name, array in self.arrays.items()}
        lines = [f"<{self.kind} {self.key[:16]}: maps, arrays, attributes and provenance>"]
        return "\n".join([*lines, *(f"  {name}: {text}" for name, text in held.items())])

    def to_gammapy(self) -> Any:
        """Objects of gammapy.

        Returns
        -------
        MapDataset, MapDatasetOnOff or dict of WcsNDMap
            A dataset for a final cube, maps by name for any other artifact.
        """
        if self.kind != "cube":
            return {name: to_map(cube) for name, cube in self.maps.items()}
        name = f"{self.attributes['target']}-{self.attributes['label']}"
        maps = {name: in_memory(cube) for name, cube in dataset_maps(self.maps).items()}
        return to_dataset(maps, np.asarray(self.arrays["gti_s"]), name)


def load(path: str | Path) -> Loaded:
    """Read an artifact, whole and checked; of the factored form the maps are made again, and are the same.

    Parameters
    ----------
    path : path
        ``cube.h5``, ``reduced.h5``, ``background-<label>.h5`` (of the factored form beside the ``reduced.h5`` of
        its run) or a stack.

    Raises
    ------
    StorageError, ArtifactDamaged, ArtifactMismatch
        If it cannot be read, is damaged, or was written by a newer version.
    """
    artifact = read_dense(path)
    arrays = {name: np.asarray(data) for name, data in artifact.datasets.items() if not isinstance(data, Cube)}
    return Loaded(artifact.kind, artifact.key, cubes(artifact), arrays, artifact.attributes, artifact.provenance)
