"""Lets the n-th call of the operating system that makes a file fail."""

import errno
import io
import os
from pathlib import Path

import pytest


class Flaky:
    """Counts the calls by which a file is made; the n-th raises the error of that number."""

    def __init__(self, patch, n, number=errno.EIO):
        self.n, self.number, self.count, self.failed = n, number, 0, ""
        opened, flaky = Path.open, self

        class Raw(io.FileIO):
            def write(self, data):
                return flaky.call("write", super().write, data)

            def readinto(self, buffer):
                return flaky.call("read", super().readinto, buffer)

            def truncate(self, size=None):
                return flaky.call("truncate", super().truncate, size)

            def close(self):
                if not self.closed:
                    super().close()
                    flaky.call("close", int)

        def open_flaky(path, mode="r", *args, **kwargs):
            if mode != "x+b":
                return opened(path, mode, *args, **kwargs)
            flaky.call("open", opened, path, mode).close()
            return io.BufferedRandom(Raw(path, "r+"))

        patch.setattr(Path, "open", open_flaky)
        for name in ("fsync", "replace"):
            original = getattr(os, name)
            patch.setattr(os, name, lambda *args, name=name, original=original: self.call(name, original, *args))

    def call(self, name, original, *args):
        self.count += 1
        if self.count == self.n:
            self.failed = name
            raise OSError(self.number, os.strerror(self.number))
        return original(*args)


@pytest.fixture
def flaky():
    """Class that lets the n-th call fail."""
    return Flaky
