"""Digests of input files, known while a file's status is the same; and what was found in contents."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cubeflow.dl3.files import digest_file
from cubeflow.regular import read_regular
from cubeflow.store.atomic import make_folder, write_atomic
from cubeflow.store.keys import parse_json, to_plain

FORMAT = 5
AT_REST_NS = 2 * 10**9  # a file that changed later than this before it was read may have changed again unseen


class Status(NamedTuple):
    """What tells that a file is still the one that was read."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def is_telling(self, taken_ns: int) -> bool:
        """Whether other content would have another status than this one, under which content was read at a time.

        A file that has just changed may change again within one tick of the clock. Where both times are the same whole
        second, the file system keeps no time of its own for a change (squashfs, CVMFS, archives mounted as folders), or
        its clock has no parts of a second.
        """
        has_own_ctime = self.mtime_ns != self.ctime_ns or self.ctime_ns % 10**9 != 0
        return has_own_ctime and max(self.mtime_ns, self.ctime_ns) < taken_ns - AT_REST_NS


@dataclass
class DigestCache:
    """Digests of files seen before, and facts about contents; a file is read again only if its status changed."""

    path: Path  # where they are kept; a missing, damaged or older file is an empty cache
    reads_all: bool = False  # digests are taken anew, whatever the status says
    files: dict[str, tuple[Status, int, str]] = field(default_factory=dict)  # status, ns of reading, sha256
    facts: dict[str, Any] = field(default_factory=dict)  # what else is known of contents, by key
    exchanged: list[str] = field(default_factory=list)  # files with other content under the status that was believed
    seen: dict[str, str | Exception] = field(default_factory=dict)  # files looked at in this session
    _is_changed: bool = False

    @classmethod
    def load(cls, path: Path, reads_all: bool = False) -> "DigestCache":
        """Read what is remembered, if there is anything."""
        try:
            checksum, _, text = read_regular(path).partition(b"\n")
            content = parse_json(text)
            if content["format"] == FORMAT and checksum == hashlib.sha256(text).hexdigest().encode():
                files = {name: (Status(*status), taken, sha) for name, (status, taken, sha) in content["files"].items()}
                return cls(path, reads_all, files, content["facts"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls(path, reads_all)

    def digest(self, path: Path) -> str:
        """Digest (sha256) of a file, which is looked at once in a session; errors of reading it are passed on."""
        name = str(path)
        if name not in self.seen:
            try:
                self.seen[name] = self._look(path)
            except (OSError, ValueError) as error:
                self.seen[name] = error
        found = self.seen[name]
        if isinstance(found, Exception):
            raise found
        return found

    def fact(self, key: str, find: Callable[[], Any]) -> Any:
        """Return what is known of a content, in plain form, found once for a key that names all that decides it."""
        if key not in self.facts:
            self.facts[key] = to_plain(find())
            self._is_changed = True
        return self.facts[key]

    def save(self) -> None:
        """Write what is new. Files that are gone are forgotten."""
        if not self._is_changed:
            return
        files = {name: known for name, known in self.files.items() if name in self.seen or Path(name).exists()}
        content = {"format": FORMAT, "files": files, "facts": self.facts}
        make_folder(self.path.parent)
        text = json.dumps(content, separators=(",", ":")).encode()
        write_atomic(self.path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        self._is_changed = False

    def _look(self, path: Path) -> str:
        found = path.stat()
        status = Status(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self.files.get(str(path))
        is_believed = known is not None and known[0] == status and status.is_telling(known[1])
        if known is not None and is_believed and not self.reads_all:
            if not os.access(path, os.R_OK):
                raise PermissionError(13, "may not be read", str(path))
            return known[2]
        taken = time.time_ns()
        digest = digest_file(path)
        if known is not None and is_believed and digest != known[2]:
            self.exchanged.append(str(path))
        self.files[str(path)] = status, taken, digest
        self._is_changed = True
        return digest
