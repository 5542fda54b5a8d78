"""A tree that depends on the set of runs alone.

Runs are sorted by id and cut into groups after each run whose hashed id is divisible by the group
size. The groups are cut again by the same rule, level by level, each group speaking with the id
of its last run, until one is left. A run that comes or goes moves at most the borders of its own
groups, so that O(log N) nodes change; no history, no counter and no clock enters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

LONGEST = 4  # a group never holds more than this times its mean size


@dataclass(frozen=True)
class Branch:
    """A leaf with its key, or consecutive children of one node."""

    last: int  # number with which it speaks: that of its last leaf
    key: str = ""
    children: "tuple[Branch, ...]" = ()


def cut(obs_ids: Sequence[int], size: int, level: int) -> list[slice]:
    """Cut sorted, distinct ids where the hash of an id says so; each level of the tree has its own hash.

    The mean length of a piece is `size`, and none is longer than ``LONGEST * size``.
    """
    pieces, start = [], 0
    for stop, obs_id in enumerate(obs_ids, start=1):
        digest = blake2b(f"{level}:{obs_id}".encode(), digest_size=8).digest()
        if int.from_bytes(digest, "big") % size == 0 or stop - start >= LONGEST * size:
            pieces.append(slice(start, stop))
            start = stop
    if start < len(obs_ids):
        pieces.append(slice(start, len(obs_ids)))
    return pieces


def make_batches(obs_ids: Iterable[int], batch: int) -> list[list[int]]:
    """Cut runs, in order of their ids, into batches of about `batch` runs."""
    ordered = sorted(set(obs_ids))
    return [ordered[piece] for piece in cut(ordered, batch, level=0)]


def make_tree(leaves: Sequence[Branch], fanout: int) -> Branch:
    """Branch one or more leaves, and groups of them, by the same rule until one is left.

    A group of a single child is that child itself, so that a lone leaf is passed on unchanged.
    """
    nodes, level = list(leaves), 1
    while len(nodes) > fanout:
        nodes = [_parent(nodes[piece]) for piece in cut([node.last for node in nodes], fanout, level)]
        level += 1
    return _parent(nodes)


def _parent(children: Sequence[Branch]) -> Branch:
    """Branch with these children; the child itself if there is only one."""
    if len(children) == 1:
        return children[0]
    return Branch(children[-1].last, children=tuple(children))
