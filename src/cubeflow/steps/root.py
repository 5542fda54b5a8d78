"""The last stack of a label, opened for the export: in memory, or on the disk where its maps are large."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cubeflow.maps import geometry_from_plain
from cubeflow.plan.estimate import EXPORT_BYTES
from cubeflow.products.stack import Stack
from cubeflow.steps.kept import damaged_set_aside
from cubeflow.storage.artifact import open_artifact
from cubeflow.storage.opened import OpenArtifact
from cubeflow.storage.slabs import Map, open_map


@contextmanager
def open_root(path: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[dict[str, Map], Stack]]:
    """Give the layers of the last stack and its totals; layers are in memory unless the final maps are large.

    Parameters
    ----------
    path : Path
        The stack.
    manifest : mapping
        Final geometries.

    Raises
    ------
    FailedError
        If it is damaged; it is then missing, and the next start makes it again.
    """
    with damaged_set_aside(), open_artifact(path, expect_kind="stack") as opened:
        about = opened.parts["attributes"]
        gti_s = np.asarray(opened.dataset("gti_s"))
        names = [name for name in opened.descriptions if name != "gti_s"]
        layers: dict[str, Map] = {name: open_map(opened, name) for name in names}
        if 8 * final_voxels(opened, names, manifest) <= EXPORT_BYTES:
            layers = {name: opened.cube(name) for name in names}
        yield layers, Stack({}, gti_s, about["ontime_s"], about["livetime_s"], about["n_runs"])


def final_voxels(opened: OpenArtifact, names: list[str], manifest: Mapping[str, Any]) -> int:
    """Number of voxels of the layers on the final geometries."""
    pixels = {name: math.prod(geometry_from_plain(manifest[name]).shape) for name in ("geometry", "irf_geometry")}
    return sum(
        math.prod(axis.n_bins for axis in opened.descriptions[name].axes)
        * pixels["irf_geometry" if name.startswith("irf_") else "geometry"]
        for name in names
    )
