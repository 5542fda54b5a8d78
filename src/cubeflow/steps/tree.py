"""The rule ``stack``: a node of the tree from its children, some megabytes at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube, Geometry
from cubeflow.plan import versions
from cubeflow.plan.build import node_key
from cubeflow.plan.estimate import SLAB_BYTES
from cubeflow.products.stack import Stack, stack
from cubeflow.steps.kept import damaged_set_aside
from cubeflow.steps.scratch import named_scratch
from cubeflow.storage.artifact import (
    Artifact,
    CubeStream,
    hold_artifact,
    write_artifact_streamed,
)
from cubeflow.storage.described import Description
from cubeflow.storage.keys import short
from cubeflow.storage.opened import HeldArtifact, OpenArtifact

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
    with ExitStack() as held, damaged_set_aside():
        parts = [open_child(held.enter_context(hold_artifact(child, expect_kind="stack"))) for child in children]
        totals = stack(part.about for part in parts)
        sums = {"ontime_s": totals.ontime_s, "livetime_s": totals.livetime_s, "n_runs": totals.n_runs}
        datasets = {**layers_in_sum(layers_of(parts), parts), "gti_s": totals.gti_s}
        node = Artifact("stack", key, versions.STACK, datasets, {"children": names, **sums})
        write_artifact_streamed(output, node, compression, named_scratch())
    say(f"{output.name}: {len(children)} stacks, {totals.n_runs} runs, livetime {totals.livetime_s:.1f} s")


@dataclass(frozen=True, eq=False)
class Child:
    """A stack that is added to others: its content is open only while values are read.

    Parameters
    ----------
    held : HeldArtifact
        The file.
    known : OpenArtifact
        What has been checked of its content, which is closed.
    about : Stack
        All of it but its maps.
    """

    held: HeldArtifact
    known: OpenArtifact
    about: Stack

    @property
    def descriptions(self) -> Mapping[str, Description]:
        """Datasets."""
        return self.known.descriptions


def open_child(held: HeldArtifact) -> Child:
    """Check what a stack declares, and read all of it but its maps and the rows of its runs."""
    with held.open() as opened:
        about = opened.parts["attributes"]
        gti_s = np.asarray(opened.dataset("gti_s"))
        totals = Stack({}, gti_s, about["ontime_s"], about["livetime_s"], about["n_runs"])
        return Child(held, replace(opened, content=None, parts={}), totals)


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a node: the sum over the children that have any layers.

    Parameters
    ----------
    name : str
        Its name.
    first : Description
        In the first of those children; axes and unit are the same in all.
    geom : Geometry
        The smallest that holds all of them.
    """

    name: str
    first: Description
    geom: Geometry

    @property
    def dtype(self) -> str:
        """Type of the sum."""
        return SUMMED[np.dtype(self.first.dtype).kind]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the sum."""
        return (*(axis.n_bins for axis in self.first.axes), *self.geom.shape)

    @property
    def nbytes(self) -> int:
        """Length of the sum in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def stream(self, parts: Sequence[Child]) -> CubeStream:
        """Sum as a stream; integers are gone through twice, the first time for the largest."""
        largest = None
        if self.dtype == "i8":
            largest = max((int(slab.max(initial=0)) for slab in self.slabs(parts)), default=0)
        return CubeStream(self.slabs(parts), self.dtype, self.first.unit, self.geom, self.first.axes, largest)

    def slabs(self, parts: Sequence[Child]) -> Iterator[Array]:
        """Consecutive blocks of the sum along the first axis."""
        length = self.shape[0]
        rows = max(1, SLAB_BYTES // (self.nbytes // length))
        for start in range(0, length, rows):
            yield from add_up([Slab(self, start, min(start + rows, length))], parts)


class Slab(NamedTuple):
    """A block of a layer between two places of its first axis."""

    layer: Layer
    start: int
    stop: int


def layers_in_sum(layers: Sequence[Layer], parts: Sequence[Child]) -> dict[str, Cube | CubeStream]:
    """Sums by name: in memory if all of them together are no larger than a slab may be, else as streams."""
    if sum(layer.nbytes for layer in layers) > SLAB_BYTES:
        return {layer.name: layer.stream(parts) for layer in layers}
    sums = add_up([Slab(layer, 0, layer.shape[0]) for layer in layers], parts)
    return {
        layer.name: Cube(total, layer.first.unit, layer.geom, layer.first.axes)
        for layer, total in zip(layers, sums, strict=True)
    }


def add_up(slabs: Sequence[Slab], parts: Sequence[Child]) -> list[Array]:
    """Sums of blocks over the children that have any layers; one of them is open at a time."""
    totals = [np.zeros((stop - start, *layer.shape[1:]), layer.dtype) for layer, start, stop in slabs]
    for part in parts if slabs else ():
        if slabs[0].layer.name in part.descriptions:
            with part.held.open_again(part.known) as opened:
                for slab, total in zip(slabs, totals, strict=True):
                    _add(total, opened, slab)
    return totals


def _add(total: Array, part: OpenArtifact, slab: Slab) -> None:
    """Add what a child holds of a block."""
    name, first, described = slab.layer.name, slab.layer.first, part.descriptions[slab.layer.name]
    if (described.unit, described.axes) != (first.unit, first.axes) or described.geom is None:
        raise StackError(f"{part.path}: layer {name!r}: units or axes differ")
    values = part.rows(name, slab.start, slab.stop)
    if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
        raise StackError(f"{part.path}: layer {name!r} holds values that are not finite")
    x0, y0 = described.geom.origin_in(slab.layer.geom)
    target = total[..., y0 : y0 + described.geom.ny, x0 : x0 + described.geom.nx]
    add = np.logical_or if target.dtype == bool else np.add
    add(target, values, out=target)


def layers_of(parts: Sequence[Child]) -> list[Layer]:
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


def _layer(name: str, parts: Sequence[Child]) -> Layer:
    """One layer, on the union of the geometries in order."""
    geoms = [geom for part in parts if (geom := part.descriptions[name].geom) is not None]
    union = geoms[0]
    for geom in geoms[1:]:
        union = union.union(geom)
    return Layer(name, parts[0].descriptions[name], union)
