"""The leaf stack of a batch: where its sums lie, and how it is written.

Sums of a large map do not fit into memory; beyond a limit they lie on the disk. The file is the same to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Cube
from cubeflow.plan import versions
from cubeflow.plan.estimate import LEAF_BYTES, SLAB_BYTES
from cubeflow.products.stack import Stack
from cubeflow.steps.kept import write_stack
from cubeflow.steps.scratch import named_scratch
from cubeflow.storage.artifact import Artifact, CubeStream, write_artifact_streamed
from cubeflow.storage.spill import SpillRoom, settle


def leaf_room(folder: Path, limit_bytes: int = LEAF_BYTES) -> SpillRoom:
    """Room for the sums of a batch, all labels together."""
    return SpillRoom(named_scratch() or folder, limit_bytes)


def write_leaf(path: Path, stacked: Stack, key: str, attributes: Mapping[str, Any], compression: str) -> None:
    """Write a leaf stack; one that lies on the disk some megabytes at a time."""
    if not any(settle(cube.data) for cube in stacked.layers.values()):
        write_stack(path, stacked, key, attributes, compression)
        return
    totals = {"ontime_s": stacked.ontime_s, "livetime_s": stacked.livetime_s, "n_runs": stacked.n_runs}
    datasets: dict[str, CubeStream | NDArray[Any]] = {name: _stream(cube) for name, cube in stacked.layers.items()}
    datasets["gti_s"] = stacked.gti_s
    path.parent.mkdir(parents=True, exist_ok=True)
    artifact = Artifact("stack", key, versions.STACK, datasets, {**attributes, **totals})
    write_artifact_streamed(path, artifact, compression, named_scratch())


def _stream(cube: Cube) -> CubeStream:
    """Layer as a stream; integers are gone through twice, the first time for the largest."""
    largest = None
    if cube.data.dtype.kind in "iu":
        largest = max((int(slab.max(initial=0)) for slab in _slabs(cube.data)), default=0)
    return CubeStream(_slabs(cube.data), cube.data.dtype.str[1:], cube.unit, cube.geom, cube.axes, largest)


def _slabs(data: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Consecutive blocks along the first axis."""
    rows = max(1, SLAB_BYTES // max(1, data[:1].nbytes))
    for start in range(0, len(data), rows):
        slab = np.array(data[start : start + rows])
        settle(data)
        yield slab
