"""One workflow at a time in a results folder: a lock that clears itself when its holder is dead.

Snakemake's own lock must be removed by hand after a crash (``--unlock``). This one names who holds it,
and a holder that is gone from this host holds nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from cubeflow.errors import FailedError


class LockedError(FailedError):
    """Another workflow is at work in the results folder; the message says which."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock.

    Parameters
    ----------
    pid : int
        Process.
    host : str
        Its host.
    started : str
        When the process started, in the terms of its host: a later process of the same number is another.
    since : str
        When the lock was taken, UTC.
    """

    pid: int
    host: str
    started: str
    since: str

    def is_alive(self) -> bool:
        """Whether the process may still be there; one on another host always may."""
        return self.host != socket.gethostname() or process_start(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def process_start(pid: int) -> str:
    """Boot and start time of a process of this host; empty if there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self/stat").exists() or not _answers(pid) else "running"
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"


def _answers(pid: int) -> bool:
    """Whether a process of that number runs, where there is no /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def lock_path(results: Path) -> Path:
    """Where the lock lies."""
    return results / ".cubeflow" / "lock"


def holder_of(results: Path) -> Holder | None:
    """Process that is at work in a results folder; None if there is none."""
    holder = _read(lock_path(results))
    return holder if holder is not None and holder.is_alive() else None


def _read(path: Path) -> Holder | None:
    """Holder named in a lock; None for no lock or one that names nobody."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def take_lock(results: Path) -> None:
    """Take the lock for this process.

    Raises
    ------
    LockedError
        If another living process holds it.
    """
    path = lock_path(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    since = datetime.now(UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    mine = Holder(os.getpid(), socket.gethostname(), process_start(os.getpid()), since)
    draft = path.with_name(f".lock.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    draft.write_text(json.dumps(asdict(mine)))
    try:
        for _ in range(3):
            if _link(draft, path):
                return
            holder = _read(path)
            if holder is not None and holder.is_alive():
                break
            _clear(path)
        raise LockedError(
            f"{results}: {_read(path) or 'another workflow'} is at work here; wait for it or end it"
            f" (if it is gone from its host: rm '{path}')"
        )
    finally:
        draft.unlink(missing_ok=True)


def _link(draft: Path, path: Path) -> bool:
    """Give the draft its final name, unless that is taken."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    return True


def _clear(path: Path) -> None:
    """Put away the lock of a dead process; of two that do so, one gets it."""
    grave = path.with_name(f".lock.{secrets.token_hex(8)}.tmp")
    with suppress(FileNotFoundError):
        path.rename(grave)
        grave.unlink()


def release_lock(results: Path) -> None:
    """Give the lock back, if this process holds it."""
    path = lock_path(results)
    holder = _read(path)
    if holder is not None and (holder.pid, holder.host) == (os.getpid(), socket.gethostname()):
        path.unlink(missing_ok=True)
