"""What a store of DL3 files consists of: runs, and where their HDUs lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cubeflow.errors import MistakeError


class StoreError(MistakeError):
    """Nothing in a store can be used; the message is one line naming file and key."""


class HduRef(NamedTuple):
    """Where one HDU of a run lies.

    Parameters
    ----------
    hdu_type, hdu_class : str
        As in the index, lower case: ``aeff``, ``aeff_2d``.
    path : Path
        Resolved path of the file.
    hdu_name : str
        EXTNAME, compared without regard to case.
    size, md5 : int or None, str or None
        As in the index.
    row : int
        Row of the index, for messages; the number of the HDU where there is no index.
    """

    hdu_type: str
    hdu_class: str
    path: Path
    hdu_name: str
    size: int | None = None
    md5: str | None = None
    row: int = 0


@dataclass(frozen=True)
class RunEntry:
    """One run of a store.

    Parameters
    ----------
    obs_id : int
        Its identifier.
    hdus : tuple of HduRef
        Its HDUs.
    obs_info : mapping of str to value
        Plain values of the observation index, or of the EVENTS header where there is no index.
    quirks : tuple of str
        Deviations of the index from the format.
    """

    obs_id: int
    hdus: tuple[HduRef, ...]
    obs_info: Mapping[str, Any] = field(default_factory=dict)
    quirks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Store:
    """Runs of a store.

    Parameters
    ----------
    path : str
        Folder or pattern it was opened with.
    runs : tuple of RunEntry
        In order of their ids.
    refused : mapping of int to str
        Runs that the index or their files rule out, with the reason.
    problems : tuple of str
        Files without an index that belong to no run, with the reason.
    left_out : tuple of str
        Those of them that hold a run, or may: files that cannot be read, and a second file of one run. The others
        have no EVENTS.
    refused_infos : mapping of int to mapping
        Values of the observation index for runs that are refused, as far as it has them.
    """

    path: str
    runs: tuple[RunEntry, ...]
    refused: Mapping[int, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    refused_infos: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
