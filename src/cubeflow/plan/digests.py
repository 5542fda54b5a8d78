"""Digests of the HDUs of files, remembered by path, size and times."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

FORMAT = 2
HduDigests = dict[str, str]


class Status(NamedTuple):
    """What tells that a file is still the one that was read."""

    size: int
    mtime_ns: int
    ctime_ns: int


class Known(NamedTuple):
    """What is known of a file: its status, the digests of its HDUs by upper-case name, its MD5 if it was asked for."""

    status: Status
    hdus: HduDigests
    md5: str = ""


@dataclass
class DigestCache:
    """Digests of files seen before; a file is read again only if its size or times changed.

    Parameters
    ----------
    path : Path
        Where the cache is kept. A missing, damaged or older cache is an empty one: it only costs time.
    digest_file : callable
        From a path to the digests of its HDUs by upper-case name.
    entries : dict
        Files of this session and of earlier ones, by path.
    seen : dict
        Files of this session: each is looked at once, what was wrong with it included.
    """

    path: Path
    digest_file: Callable[[Path], HduDigests]
    entries: dict[str, Known] = field(default_factory=dict)
    seen: dict[Path, Known | Exception] = field(default_factory=dict)
    changed: bool = False

    def load(self) -> DigestCache:
        """Read the cache, if there is one."""
        try:
            content = json.loads(self.path.read_text())
            if content["format"] == FORMAT:
                files = content["files"].items()
                self.entries = {name: Known(Status(*status), hdus, md5) for name, (status, hdus, md5) in files}
        except (OSError, ValueError, KeyError, TypeError):
            self.entries = {}
        return self

    def digests(self, path: Path) -> HduDigests:
        """Digests of the HDUs of a file by upper-case name; errors of reading it are passed on."""
        return self._known(path).hdus

    def status(self, path: Path) -> Status:
        """Size and times with which a file was looked at."""
        return self._known(path).status

    def md5(self, path: Path) -> str:
        """MD5 of a file as it lies on the disk, hexadecimal."""
        known = self._known(path)
        if not known.md5:
            known = known._replace(md5=hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
            self._remember(path, known)
        return known.md5

    def save(self) -> None:
        """Write the cache if it holds anything new; through a temporary name. Files that are gone are forgotten."""
        if not self.changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files = {name: known for name, known in self.entries.items() if Path(name) in self.seen or Path(name).exists()}
        write_if_changed(self.path, json.dumps({"format": FORMAT, "files": files}, separators=(",", ":")))
        self.changed = False

    def _known(self, path: Path) -> Known:
        """Look at a file, once in a session."""
        known = self.seen.get(path)
        if known is None:
            try:
                known = self._look(path)
            except (OSError, ValueError) as error:
                known = error
            self.seen[path] = known
        if isinstance(known, Exception):
            raise known
        return known

    def _look(self, path: Path) -> Known:
        status = read_status(path)
        known = self.entries.get(str(path))
        if known is None or known.status != status:
            known = Known(status, self.digest_file(path))
            self._remember(path, known)
        elif not os.access(path, os.R_OK):
            raise PermissionError(13, "may not be read", str(path))
        return known

    def _remember(self, path: Path, known: Known) -> None:
        self.entries[str(path)] = self.seen[path] = known
        self.changed = True


def read_status(path: Path) -> Status:
    """Size and times of a file; OSError if it is not there."""
    found = path.stat()
    return Status(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def write_if_changed(path: Path, text: str) -> bool:
    """Write a text file through a temporary name, unless it holds just this already; say whether it was written."""
    try:
        if path.read_text() == text:
            return False
    except (OSError, ValueError):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:  # also when a signal ends the process
        temporary.unlink(missing_ok=True)
    return True


def write_json(path: Path, content: Mapping[str, object]) -> bool:
    """Write sorted JSON if it changed; see `write_if_changed`. Without indents, which cost 20 times as much."""
    return write_if_changed(path, json.dumps(content, sort_keys=True) + "\n")
