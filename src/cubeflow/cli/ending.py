"""How a verb ends when it is told to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

import click

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind the work, so that temporary files go; the exit status is 130 or 143."""
    if current_thread() is not main_thread():  # only there can signals be handled
        yield
        return
    before = {number: signal.signal(number, _stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    """End once: what comes after the first signal does not disturb the clearing up."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    click.echo(f"cubeflow: stopped by {signal.Signals(number).name}", err=True)
    sys.exit(128 + number)
