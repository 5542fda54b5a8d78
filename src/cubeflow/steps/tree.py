"""The rule ``stack``: a node of the tree from its children, some megabytes at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import FailedError, MistakeError
from cubeflow.maps import Geometry
from cubeflow.plan import versions
from cubeflow.plan.build import node_key
from cubeflow.plan.estimate import SLAB_BYTES
from cubeflow.products.stack import Stack, stack
from cubeflow.steps.scratch import named_scratch
from cubeflow.storage.artifact import (
    Artifact,
    ArtifactDamaged,
    CubeStream,
    open_artifact,
    set_aside,
    write_artifact_streamed,
)
from cubeflow.storage.described import Description
from cubeflow.storage.keys import short
from cubeflow.storage.opened import OpenArtifact

SUMMED = {"b": "b1", "u": "i8", "i": "i8", "f": "f8"}  # type of a sum by kind
Array = NDArray[Any]


class StackError(MistakeError):
    """A node cannot be stacked; the message names the file."""


def stack_node(output: Path, children: Sequence[Path], compression: str, say: Callable[[str], None]) -> None:
    """Stack the files of the children, in the order given, into the file of their node.

    The same sums in the same order as `cubeflow.products.stack.stack`, and the same bytes, but neither the node nor
    any of its children is in memory as a whole.

    Parameters
    ----------
    output : Path
        ``<node>.h5``; its name must be the one that the names of the children give.
    children : sequence of Path
        Stacks.
    compression : str
        Filter of the new file.
    say : callable
        Takes one line for the log.

    Raises
    ------
    StackError
        If `output` is not named by its children.
    FailedError
        If a child is damaged; it is set aside, and the next start makes it again.
    """
    names = [child.name.removesuffix(".h5") for child in children]
    key = node_key("node", names)
    if output.name != f"{short(key)}.h5":
        raise StackError(f"{output}: expected the name {short(key)}.h5, which the children {names} give")
    output.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened, _damaged_set_aside():
        parts = [opened.enter_context(open_artifact(child, expect_kind="stack")) for child in children]
        totals = stack(_without_layers(part) for part in parts)
        sums = {"ontime_s": totals.ontime_s, "livetime_s": totals.livetime_s, "n_runs": totals.n_runs}
        datasets = {layer.name: layer.stream() for layer in layers_of(parts)} | {"gti_s": totals.gti_s}
        node = Artifact("stack", key, versions.STACK, datasets, {"children": names, **sums})
        write_artifact_streamed(output, node, compression, named_scratch())
    say(f"{output.name}: {len(children)} stacks, {totals.n_runs} runs, livetime {totals.livetime_s:.1f} s")


@contextmanager
def _damaged_set_aside() -> Iterator[None]:
    """Set a damaged child aside and end; the job is not to blame."""
    try:
        yield
    except ArtifactDamaged as error:
        aside = set_aside(error.path).name
        raise FailedError(
            f"{error.path}: damaged ({error.reason}); set aside as {aside}, start again to make it"
        ) from error


def _without_layers(part: OpenArtifact) -> Stack:
    """All of a stack but its maps."""
    about = part.parts["attributes"]
    gti_s = np.asarray(part.dataset("gti_s"))
    return Stack({}, gti_s, about["ontime_s"], about["livetime_s"], about["n_runs"])


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a node: the sum over the children that have any layers.

    Parameters
    ----------
    name : str
        Its name.
    parts : tuple of OpenArtifact
        Those children, in order.
    geom : Geometry
        The smallest that holds all of them.
    """

    name: str
    parts: tuple[OpenArtifact, ...]
    geom: Geometry

    @property
    def first(self) -> Description:
        """Description of the layer in the first child; axes and unit are the same in all."""
        return self.parts[0].descriptions[self.name]

    @property
    def dtype(self) -> str:
        """Type of the sum."""
        return SUMMED[np.dtype(self.first.dtype).kind]

    def stream(self) -> CubeStream:
        """Sum as a stream; integers are gone through twice, the first time for the largest."""
        largest = None
        if self.dtype == "i8":
            largest = max((int(slab.max(initial=0)) for slab in self.slabs()), default=0)
        return CubeStream(self.slabs(), self.dtype, self.first.unit, self.geom, self.first.axes, largest)

    def slabs(self) -> Iterator[Array]:
        """Consecutive blocks of the sum along the first axis."""
        shape = [axis.n_bins for axis in self.first.axes] + list(self.geom.shape)
        length, inner = shape[0], shape[1:]
        rows = max(1, SLAB_BYTES // (math.prod(inner) * np.dtype(self.dtype).itemsize))
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            total = np.zeros((stop - start, *inner), self.dtype)
            for part in self.parts:
                self._add(total, part, start, stop)
            yield total

    def _add(self, total: Array, part: OpenArtifact, start: int, stop: int) -> None:
        """Add what a child holds between two places of the first axis."""
        described = part.descriptions[self.name]
        if (described.unit, described.axes) != (self.first.unit, self.first.axes) or described.geom is None:
            raise StackError(f"{part.path}: layer {self.name!r}: units or axes differ")
        values = part.rows(self.name, start, stop)
        if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
            raise StackError(f"{part.path}: layer {self.name!r} holds values that are not finite")
        x0, y0 = described.geom.origin_in(self.geom)
        target = total[..., y0 : y0 + described.geom.ny, x0 : x0 + described.geom.nx]
        add = np.logical_or if target.dtype == bool else np.add
        add(target, values, out=target)


def layers_of(parts: Sequence[OpenArtifact]) -> list[Layer]:
    """Layers of the node of some stacks.

    Raises
    ------
    StackError
        If two of them have different layers.
    """
    names = [frozenset(part.descriptions) - {"gti_s"} for part in parts]
    filled = [part for part, found in zip(parts, names, strict=True) if found]
    if len({found for found in names if found}) > 1:
        raise StackError(f"layers differ: {' and '.join(str(sorted(found)) for found in set(names) if found)}")
    return [_layer(name, filled) for name in sorted(next((found for found in names if found), ()))]


def _layer(name: str, parts: Sequence[OpenArtifact]) -> Layer:
    """One layer, on the union of the geometries in order."""
    geoms = [geom for part in parts if (geom := part.descriptions[name].geom) is not None]
    union = geoms[0]
    for geom in geoms[1:]:
        union = union.union(geom)
    return Layer(name, tuple(parts), union)
