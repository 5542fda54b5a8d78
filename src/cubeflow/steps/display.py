"""Show how far a workflow is while it runs: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from cubeflow.steps.progress import Totals, Watch, progress_folder

LOOK_S = 1.0
LINE_S = 30.0
Say = Callable[[str], None]
Show = Callable[[Totals], None]


class Display:
    """Follows the progress of all batches in a thread of its own.

    Parameters
    ----------
    results : Path
        Results folder.
    total : int
        Number of runs that the jobs of the workflow go through.
    say : callable
        Takes one line, where there is no terminal.
    """

    def __init__(self, results: Path, total: int, say: Say) -> None:
        self._watch = Watch(progress_folder(results))
        self._total, self._say = total, say
        self._ended, self._shown = Event(), ExitStack()
        self._thread: Thread | None = None

    def begin(self) -> None:
        """Start to show; nothing if there is no run to reduce."""
        if self._total and self._thread is None:
            is_terminal = sys.stderr.isatty()
            show = self._shown.enter_context(bar(self._total)) if is_terminal else Lines(self._total, self._say)
            self._thread = Thread(target=self._follow, args=(show,), daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Show the last state, and leave the terminal as it was."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._shown.close()
            self._thread = None

    def _follow(self, show: Show) -> None:
        while not self._ended.wait(LOOK_S):
            show(self._watch.look())
        show(self._watch.look())


class Lines:
    """A line at most every `LINE_S` seconds, if anything happened.

    Parameters
    ----------
    total : int
        Number of runs.
    say : callable
        Takes one line.
    """

    def __init__(self, total: int, say: Say) -> None:
        self._total, self._say = total, say
        self._start = self._latest = time.monotonic()
        self._seen = Totals(0, 0, "")

    def __call__(self, totals: Totals) -> None:
        """Say how far it is."""
        now = time.monotonic()
        is_over = totals.done >= self._total
        if totals == self._seen or (now - self._latest < LINE_S and not is_over):
            return
        self._latest, self._seen = now, totals
        self._say(line_of(totals, self._total, now - self._start))


def line_of(totals: Totals, total: int, elapsed_s: float) -> str:
    """How far it is, in one line: runs done, rate, time left and the last refusal."""
    rate = totals.done / elapsed_s if elapsed_s > 0 else 0.0
    left = f", {duration((total - totals.done) / rate)} left" if rate and totals.done < total else ""
    refused = f"; {totals.refused} refused, the last: {totals.last}" if totals.refused else ""
    share = f"{100 * totals.done // total} %" if total else ""
    return f"progress: {totals.done} of {total} runs ({share}), {rate:.1f} runs/s{left}{refused}"


def duration(seconds: float) -> str:
    """Time in hours, minutes or seconds, whichever fits."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@contextmanager
def bar(total: int) -> Iterator[Show]:
    """Live bar at the foot of the terminal; what Snakemake says goes on above it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[last]}", style="yellow", markup=False),
    )
    start = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress, _logs_above():
        task = progress.add_task("runs", total=total, rate="", last="")

        def show(totals: Totals) -> None:
            """Move the bar."""
            rate = f"{totals.done / max(time.monotonic() - start, 1e-3):.1f}/s"
            last = f"{totals.refused} refused; {totals.last}" if totals.refused else ""
            progress.update(task, completed=totals.done, rate=rate, last=last)

        yield show


@contextmanager
def _logs_above() -> Iterator[None]:
    """Let the handlers that write to the terminal write to where it is now, above the bar."""
    named = [logging.getLogger(name) for name in ("snakemake.logging", "snakemake")]
    every = [handler for logger in named for handler in logger.handlers if isinstance(handler, logging.StreamHandler)]
    handlers = [handler for handler in every if handler.stream in (sys.__stderr__, sys.__stdout__)]
    before = [(handler, handler.setStream(sys.stderr)) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in before:
            if stream is not None:
                handler.setStream(stream)
