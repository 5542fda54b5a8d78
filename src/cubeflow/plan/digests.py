"""Digests of the HDUs of files, remembered by path, size and modification time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FORMAT = 1
HduDigests = dict[str, str]


@dataclass
class DigestCache:
    """Digests of files seen before; a file is read again only if its size or time changed.

    Parameters
    ----------
    path : Path
        Where the cache is kept. A missing, damaged or older cache is an empty one: it only costs time.
    digest_file : callable
        From a path to the digests of its HDUs by upper-case name.
    """

    path: Path
    digest_file: Callable[[Path], HduDigests]
    entries: dict[str, tuple[int, int, HduDigests]] = field(default_factory=dict)
    changed: bool = False

    def load(self) -> DigestCache:
        """Read the cache, if there is one."""
        try:
            content = json.loads(self.path.read_text())
            known = {name: (int(size), int(time), dict(hdus)) for name, (size, time, hdus) in content["files"].items()}
            self.entries = known if content["format"] == FORMAT else {}
        except (OSError, ValueError, KeyError, TypeError):
            self.entries = {}
        return self

    def digests(self, path: Path) -> HduDigests:
        """Digests of the HDUs of a file by upper-case name; errors of reading it are passed on."""
        status = path.stat()
        known = self.entries.get(str(path))
        if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
            return known[2]
        digests = self.digest_file(path)
        self.entries[str(path)] = (status.st_size, status.st_mtime_ns, digests)
        self.changed = True
        return digests

    def save(self) -> None:
        """Write the cache if it holds anything new; through a temporary name."""
        if not self.changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_if_changed(self.path, json.dumps({"format": FORMAT, "files": self.entries}, separators=(",", ":")))
        self.changed = False


def write_if_changed(path: Path, text: str) -> bool:
    """Write a text file through a temporary name, unless it holds just this already; say whether it was written."""
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
    return True


def write_json(path: Path, content: Mapping[str, object]) -> bool:
    """Write sorted, indented JSON if it changed; see `write_if_changed`."""
    return write_if_changed(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
