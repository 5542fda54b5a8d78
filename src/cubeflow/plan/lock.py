"""One workflow of a configuration at a time in a results folder.

The kernel holds the lock and frees it when its holder dies, however that happens. Workflows of different configurations
do not wait for each other: what they make is named by its content.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cubeflow.errors import FailedError
from cubeflow.pipeline.tasks import FOLDER
from cubeflow.store.atomic import naming


class LockedError(FailedError):
    """Another workflow of the same configuration is at work in the results folder; the message says which."""


@dataclass(eq=False)
class Lock:
    """Lock of a configuration in a results folder."""

    results: Path
    config: str  # digest of the configuration
    _descriptor: int | None = None

    def take(self) -> None:
        """Take the lock for this process; LockedError if another process holds it."""
        path = self.results / FOLDER / f"lock-{self.config}"
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another workflow"
                os.close(descriptor)
                raise LockedError(f"{self.results}: {holder} is at work here; wait for it or end it") from None
            with suppress(PermissionError):  # of another user, who lets all in that get into the folder, as this does
                os.fchmod(descriptor, 0o666)
            os.ftruncate(descriptor, 0)
            since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
        self._descriptor = descriptor

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in a block."""
        self.take()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Give the lock back, if this process holds it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
