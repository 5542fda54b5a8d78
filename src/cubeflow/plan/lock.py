"""One workflow of a configuration at a time in a results folder.

The kernel holds the lock and frees it when its holder dies, however that happens. Workflows of different configurations
do not wait for each other: what they make is named by its content.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cubeflow.errors import FailedError
from cubeflow.pipeline.tasks import FOLDER
from cubeflow.store.atomic import make_folder, naming


class LockedError(FailedError):
    """Another workflow of the same configuration is at work in the results folder; the message says which."""


@dataclass(eq=False)
class Lock:
    """Lock of a configuration in a results folder."""

    results: Path
    config: str  # digest of the configuration
    _descriptor: int | None = None

    @property
    def _path(self) -> Path:
        return self.results / FOLDER / f"lock-{self.config}"

    def take(self) -> None:
        """Take the lock for this process, if it does not hold it; LockedError if another process does."""
        if self._descriptor is not None:
            return
        make_folder(self._path.parent)
        with naming(self._path), ExitStack() as opened:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            opened.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another workflow"
                raise LockedError(f"{self.results}: {holder} is at work here; wait for it or end it") from None
            with suppress(PermissionError):  # of another user, who lets all in that get into the folder, as this does
                os.fchmod(descriptor, 0o666)
            os.ftruncate(descriptor, 0)
            since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
            opened.pop_all()
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
        if (descriptor := self._descriptor) is not None:
            self._descriptor = None
            with naming(self._path), os.fdopen(descriptor):  # which closes it, whatever happens
                os.ftruncate(descriptor, 0)
