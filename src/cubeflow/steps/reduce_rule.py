"""A rule of the workflow that reduces batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ANY_NAME = "[0-9a-f]{16}"


@dataclass(frozen=True)
class ReduceRule:
    """A rule that reduces batches.

    Parameters
    ----------
    number : int
        Number among the rules of its target.
    target : str
        Target of its batches.
    manifest : str
        Input pattern, with the wildcard ``batch``.
    leaves : list of str
        Output patterns, with the wildcard ``batch``.
    batches : str
        Regular expression of its batches.
    """

    number: int
    target: str
    manifest: str
    leaves: list[str]
    batches: str


def one_of(names: Sequence[str], n_all: int) -> str:
    """Regular expression of these names; of any such name if they are all there are."""
    return f"(?:{'|'.join(names)})" if len(names) < n_all else ANY_NAME
