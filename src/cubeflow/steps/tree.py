"""The rule ``stack``: a node of the tree from its children."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cubeflow.errors import MistakeError
from cubeflow.plan.build import node_key
from cubeflow.products.stack import Stack, stack
from cubeflow.steps.kept import read_stack, stack_from_artifact, write_stack
from cubeflow.storage.keys import short


class StackError(MistakeError):
    """A node cannot be stacked; the message names the file."""


def stack_node(output: Path, children: Sequence[Path], compression: str, say: Callable[[str], None]) -> None:
    """Stack the files of the children, in the order given, into the file of their node.

    Parameters
    ----------
    output : Path
        ``<node>.h5``; its name must be the one that the names of the children give.
    children : sequence of Path
        Stacks. Only one of them is in memory at a time, beside the sum.
    compression : str
        Filter of the new file.
    say : callable
        Takes one line for the log.

    Raises
    ------
    StackError
        If `output` is not named by its children.
    """
    names = [child.name.removesuffix(".h5") for child in children]
    key = node_key("node", names)
    if output.name != f"{short(key)}.h5":
        raise StackError(f"{output}: expected the name {short(key)}.h5, which the children {names} give")

    def parts() -> Iterator[Stack]:
        for child in children:
            yield stack_from_artifact(read_stack(child))

    stacked = stack(parts())
    write_stack(output, stacked, key, {"children": names}, compression)
    say(f"{output.name}: {len(children)} stacks, {stacked.n_runs} runs, livetime {stacked.livetime_s:.1f} s")
