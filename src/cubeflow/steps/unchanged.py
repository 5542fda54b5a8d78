"""Whether the input files of a run are still those that the plan digested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cubeflow.dl3.blocks import digest_hdus
from cubeflow.dl3.index import RunEntry
from cubeflow.errors import FailedError
from cubeflow.plan.digests import read_status
from cubeflow.plan.inputs import input_name


class InputsChanged(FailedError):
    """A file is not what was planned with; what was read from it belongs to no key."""


def require_unchanged(entry: RunEntry, planned: Mapping[str, str], status: Mapping[str, Sequence[int]]) -> None:
    """Raise unless every input file of a run has the content that its key stands for.

    Parameters
    ----------
    entry : RunEntry
        Where the HDUs lie.
    planned : mapping of str to str
        Digest of each HDU by type and class.
    status : mapping of str to sequence of int
        Size and time of each file when it was digested; only a file that differs is digested again.

    Raises
    ------
    InputsChanged
        If a file is gone, cannot be read or has other content.
    """
    for path in {ref.path for ref in entry.hdus}:
        try:
            same = list(read_status(path)[:2]) == list(status[str(path)])
            if not same and not _holds(path, entry, planned):
                raise InputsChanged(_message(entry, path, "changed"))
        except (OSError, ValueError) as error:
            raise InputsChanged(_message(entry, path, f"can no longer be read ({error})")) from error


def _holds(path: Path, entry: RunEntry, planned: Mapping[str, str]) -> bool:
    """Whether a file has the planned content."""
    found = {hdu.name.upper(): hdu.sha256 for hdu in reversed(digest_hdus(path))}
    refs = [ref for ref in entry.hdus if ref.path == path]
    return all(found.get(ref.hdu_name.strip().upper()) == planned[input_name(ref)] for ref in refs)


def _message(entry: RunEntry, path: Path, what: str) -> str:
    return f"run {entry.obs_id}: {path}: {what} since the plan was made; start again"


def is_of_the_disk(error: BaseException | None) -> bool:
    """Whether an error comes from a file system that fails, which says nothing about the content of a file."""
    while error is not None:
        if isinstance(error, OSError):
            return True
        error = error.__cause__
    return False


def without_folders(reason: str, entry: RunEntry) -> str:
    """Reason with the names of files alone: it is kept with content that does not depend on where files lie."""
    for folder in sorted({str(Path(ref.path).parent) for ref in entry.hdus}, key=len, reverse=True):
        reason = reason.replace(f"{folder}/", "")
    return reason


def status_from_plain(plain: Mapping[str, Any]) -> dict[int, Mapping[str, Sequence[int]]]:
    """Status of the files of each run of a batch, from what the plan has written."""
    return {int(obs_id): files["status"] for obs_id, files in plain.items()}
