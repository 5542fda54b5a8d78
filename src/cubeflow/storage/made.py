"""What a step made, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cubeflow.maps import Cube
from cubeflow.storage.described import Dataset
from cubeflow.storage.envelope import SCHEMA
from cubeflow.storage.hdf5_write import FORMAT
from cubeflow.storage.keys import canonical_json

PARTS = ("algorithm", "attributes", "provenance")


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a step made.

    Parameters
    ----------
    kind : str
        ``reduced``, ``background``, ``stack``, ...
    key : str
        sha256 of everything it was made of, see `cubeflow.storage.keys.make_key`.
    algorithm : int or mapping of str to int
        Algorithm version, or versions.
    datasets : mapping of str to Cube or array
        Maps and tables; arrays of numbers or truth values with at least one dimension. `CubeStream` for
        `cubeflow.storage.artifact.write_artifact_streamed`.
    attributes : mapping
        Results that are no arrays: plain numbers, strings, lists, mappings; None for a number that there is not.
    provenance : mapping
        What it was made of: inputs with sha256, configuration, versions. No times, hosts or absolute paths.
    """

    kind: str
    key: str
    algorithm: int | Mapping[str, int]
    datasets: Mapping[str, Dataset]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def cube(self, name: str) -> Cube:
        """Map of that name, in memory; TypeError for a dataset of another kind, KeyError where there is none."""
        dataset = self.datasets[name]
        if not isinstance(dataset, Cube):
            raise TypeError(f"{self.kind}: {name}: expected a cube, got {type(dataset).__name__}")
        return dataset


def root_attributes(artifact: Artifact) -> dict[str, str]:
    """Text of the root attributes of an artifact; KeyContentError if a part is not plain."""
    parts = {name: canonical_json(getattr(artifact, name)).decode() for name in PARTS}
    return {**parts, "format": FORMAT, "key": artifact.key, "kind": artifact.kind, "schema": str(SCHEMA)}
