"""A tree that depends on the set of runs alone.

Runs are sorted by id and cut into groups after each run whose hashed id is divisible by the group
size. The groups are cut again by the same rule, level by level, each group speaking with the id
of its last run, until one is left. A run that comes or goes moves at most the borders of its own
groups, so that O(log N) nodes change; no history, no counter and no clock enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

LONGEST = 4  # a group never holds more than this times its mean size


@dataclass(frozen=True)
class Branch:
    """Consecutive children of one node."""

    first: int  # id of the first run below it
    last: int  # and of the last
    children: tuple[Branch, ...] = ()  # groups that it is made of; empty for a batch of runs
    obs_ids: tuple[int, ...] = ()  # runs of a batch; empty above


def cut(obs_ids: Sequence[int], size: int, level: int) -> list[slice]:
    """Cut sorted, distinct ids where the hash of an id says so; each level of the tree has its own hash.

    The mean length of a piece is `size`, and none is longer than ``LONGEST * size``.
    """
    pieces, start = [], 0
    for stop, obs_id in enumerate(obs_ids, start=1):
        if _is_border(obs_id, size, level) or stop - start >= LONGEST * size:
            pieces.append(slice(start, stop))
            start = stop
    if start < len(obs_ids):
        pieces.append(slice(start, len(obs_ids)))
    return pieces


def make_batches(obs_ids: Sequence[int], batch: int) -> list[Branch]:
    """Cut the sorted `obs_ids` into batches of about `batch` runs.

    Raises
    ------
    ValueError
        If the ids are not sorted and distinct, or `batch` is below 1.
    """
    if batch < 1:
        raise ValueError(f"stack.batch: expected at least 1, got {batch}")
    if any(first >= second for first, second in pairwise(obs_ids)):
        raise ValueError("run ids must be sorted and distinct")
    pieces = [tuple(obs_ids[piece]) for piece in cut(obs_ids, batch, level=0)]
    return [Branch(piece[0], piece[-1], obs_ids=piece) for piece in pieces]


def make_tree(batches: Sequence[Branch], fanout: int) -> Branch:
    """Branch batches, and groups of them, by the same rule until one is left.

    A group of a single child is that child itself, so that a lone batch is passed on unchanged.

    Raises
    ------
    ValueError
        If there is no batch or `fanout` is below 2.
    """
    if not batches:
        raise ValueError("no runs: there is nothing to stack")
    if fanout < 2:
        raise ValueError(f"stack.fanout: expected at least 2, got {fanout}")
    nodes, level = list(batches), 1
    while len(nodes) > fanout:
        nodes = [_parent(nodes[piece]) for piece in cut([node.last for node in nodes], fanout, level)]
        level += 1
    return _parent(nodes)


def _parent(children: Sequence[Branch]) -> Branch:
    """Branch with these children; the child itself if there is only one."""
    if len(children) == 1:
        return children[0]
    return Branch(children[0].first, children[-1].last, children=tuple(children))


def _is_border(obs_id: int, size: int, level: int) -> bool:
    """Whether a group ends with this run."""
    digest = blake2b(f"{level}:{obs_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % size == 0
