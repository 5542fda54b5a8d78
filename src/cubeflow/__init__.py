"""From IACT event lists and instrument responses (DL3) to maps and cubes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cubeflow.steps.loaded import Loaded

__all__ = ["load"]


def load(path: str | Path) -> Loaded:
    """Read an artifact as plain objects; see `cubeflow.steps.loaded.load`.

    Examples
    --------
    >>> cube = cubeflow.load("results/crab/fov/cube.h5")
    >>> cube.maps["counts"].data.sum()
    >>> dataset = cube.to_gammapy()
    """
    from cubeflow.steps import loaded

    return loaded.load(path)
