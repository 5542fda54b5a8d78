"""Responses, parsed once per process where runs share the file they lie in (as in CTA-1DC)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubeflow.dl3.classes import response_class
from cubeflow.dl3.entries import HduRef
from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.opened import OpenedFiles
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.responses import READERS, rad_max_from_key, read_bkg_3d
from cubeflow.irf.rad_max import RadMax

MAX_ENTRIES = 24
_Key = tuple[HduRef, int, int, bool, str]


@dataclass(frozen=True, eq=False)
class Response:
    """One response with what was noted while it was read.

    Parameters
    ----------
    value : object
        An object of `cubeflow.irf`.
    notes : Notes
        Quirks and repairs; not to be changed.
    point_like : bool
        HDUCLAS3 is POINT-LIKE.
    rad_max : RadMax or None
        From the key RAD_MAX, where there is one.
    """

    value: Any
    notes: Notes
    point_like: bool
    rad_max: RadMax | None


@dataclass
class ResponseCache:
    """Last responses of shared files, by file (path, size, time of change) and HDU."""

    entries: OrderedDict[_Key, Response] = field(default_factory=OrderedDict)

    def read(self, ref: HduRef, files: OpenedFiles, hess_dr1: bool) -> Response:
        """Response of a reference, read anew if its file has changed; raises FileRefused and RunRefused."""
        key = self._key(ref, hess_dr1, files.digests.get(ref.hdu_type, ""))
        found = self.entries.pop(key, None) or _read(ref, files, hess_dr1)
        self.entries[key] = found
        if len(self.entries) > MAX_ENTRIES:
            self.entries.popitem(last=False)
        return found

    def _key(self, ref: HduRef, hess_dr1: bool, digest: str) -> _Key:
        try:
            status = ref.path.stat()
        except OSError as error:
            raise FileRefused(f"{ref.path}: {error.strerror or error}") from error
        return ref._replace(row=0), status.st_size, status.st_mtime_ns, hess_dr1, digest


_SHARED = ResponseCache()


def read_response(ref: HduRef, files: OpenedFiles, events_path: Path, hess_dr1: bool) -> Response:
    """Read a response; from memory if another run of this process has used the same file.

    Parameters
    ----------
    ref : HduRef
        Where it lies.
    files : OpenedFiles
        Files of the run.
    events_path : Path
        File of the events: what lies there belongs to one run and is not kept.
    hess_dr1 : bool
        The run is of the H.E.S.S. data release 1.
    """
    return _read(ref, files, hess_dr1) if ref.path == events_path else _SHARED.read(ref, files, hess_dr1)


def _read(ref: HduRef, files: OpenedFiles, hess_dr1: bool) -> Response:
    """Read a response from its file."""
    notes = Notes()
    table = files.table(ref, notes)
    hdu_class = ref.hdu_class if ref.hdu_class in READERS else response_class(table.hdu)
    if not hdu_class.startswith(ref.hdu_type):
        raise FileRefused(f"{table.hdu}: HDU_CLASS {ref.hdu_class!r}: no known format of a response {ref.hdu_type!r}")
    is_mirrored = hess_dr1 and hdu_class == "bkg_3d"
    value = read_bkg_3d(table, notes, hess_dr1=True) if is_mirrored else READERS[hdu_class](table, notes)
    point_like = str(table.header.get("HDUCLAS3") or "").strip().upper() == "POINT-LIKE"
    rad_max = rad_max_from_key(table) if ref.hdu_type == "aeff" and point_like else None
    return Response(value, notes, point_like, rad_max)
