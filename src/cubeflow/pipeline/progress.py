"""How far a workflow is: a small file for each batch, and one who reads them all and shows it.

Jobs may run anywhere; what they share is the results folder. The files are for those who watch:
they hold no result, and nothing fails because one of them cannot be written.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread

from cubeflow.errors import Say
from cubeflow.pipeline.tasks import FOLDER
from cubeflow.regular import read_regular
from cubeflow.store.keys import parse_json

LOOK_S = 1.0
LINE_S = 30.0


def progress_folder(results: Path) -> Path:
    """Where the progress of batches is told."""
    return results / FOLDER / "progress"


@dataclass(frozen=True)
class Totals:
    """Runs and figures done, those of the runs that cannot be used, and why the last of these cannot."""

    done: int = 0
    refused: int = 0
    last: str = ""


@dataclass
class Progress:
    """Progress of one batch, told in a file."""

    path: Path
    told: Totals = Totals()  # without those that failed

    def step(self, problem: str = "", failed: Sequence[str] = ()) -> None:
        """One more run is done, or cannot be used; of those that failed, all so far are given."""
        last = failed[-1] if failed else problem or self.told.last
        self.told = Totals(self.told.done + 1, self.told.refused + bool(problem), last)
        content = replace(self.told, refused=self.told.refused + len(failed))
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(asdict(content)))  # who reads half of it looks again


def add_up(folder: Path, known: dict[str, tuple[int, Totals]]) -> Totals:
    """Progress of all batches; what is `known`, with its time and by name of its file, is read again if it changed."""
    for path in sorted(folder.glob("[!.]*")):
        with suppress(OSError, ValueError, TypeError):
            changed = path.stat().st_mtime_ns
            if known.get(path.name, (None,))[0] != changed:
                known[path.name] = changed, Totals(**parse_json(read_regular(path)))
    told = sorted(known.values(), key=lambda each: each[0])
    last = next((totals.last for _, totals in reversed(told) if totals.last), "")
    return Totals(sum(totals.done for _, totals in told), sum(totals.refused for _, totals in told), last)


@contextmanager
def showing(results: Path, total: int, say: Say, look: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Show how far all batches are, while the block runs: a live bar in a terminal, a line now and then elsewhere.

    `total` is the number of runs and figures that its jobs go through; nothing is shown of them where it is 0.
    `look` is called every second, in a thread.
    """
    folder, known, ended = progress_folder(results), dict[str, tuple[int, Totals]](), Event()
    for path in folder.glob("*"):  # told by earlier workflows
        path.unlink(missing_ok=True)
    with ExitStack() as shown:
        show = shown.enter_context(_bar(total)) if total and sys.stderr.isatty() else lines(total, say)

        def follow() -> None:
            """Look until the end, and once more then."""
            while not ended.wait(LOOK_S):
                show(add_up(folder, known))
                look()
            show(add_up(folder, known))

        thread = Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def lines(total: int, say: Say) -> Callable[[Totals], None]:
    """Say how far it is, at most every `LINE_S` seconds, if anything happened."""
    start = latest = time.monotonic()
    seen = Totals()

    def show(totals: Totals) -> None:
        nonlocal latest, seen
        now = time.monotonic()
        if totals != seen and (now - latest >= LINE_S or totals.done >= total):
            latest, seen = now, totals
            say(line_of(totals, total, now - start))

    return show


def line_of(totals: Totals, total: int, elapsed_s: float) -> str:
    """How far it is, in one line: what is done, rate, time left and the last refusal."""
    rate = totals.done / elapsed_s if elapsed_s > 0 else 0.0
    left = f", {duration((total - totals.done) / rate)} left" if rate and totals.done < total else ""
    refused = f"; {totals.refused} refused, the last: {totals.last}" if totals.refused else ""
    share = f"{totals.done} of {total} runs and figures ({100 * totals.done // total} %)"
    return f"progress: {share}, {rate:.1f}/s{left}{refused}"


def duration(seconds: float) -> str:
    """Time in hours, minutes or seconds, whichever fits."""
    size, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Totals], None]]:
    """Live bar at the foot of the terminal; what Snakemake says goes on above it."""
    from rich import progress as rich
    from rich.console import Console

    columns = rich.BarColumn(), rich.MofNCompleteColumn(), rich.TextColumn("{task.fields[rate]}")
    last = rich.TimeRemainingColumn(), rich.TextColumn("{task.fields[last]}", style="yellow", markup=False)
    start = time.monotonic()
    shown = rich.Progress("runs and figures", *columns, *last, console=Console(stderr=True), auto_refresh=False)
    with shown as bar, ExitStack() as moved:
        task = bar.add_task("", total=total, rate="", last="")

        def show(totals: Totals) -> None:
            rate = f"{totals.done / max(time.monotonic() - start, 1e-3):.1f}/s"
            why = f"{totals.refused} refused; {totals.last}" if totals.refused else ""
            bar.update(task, completed=totals.done, rate=rate, last=why, refresh=True)

        # The handlers of Snakemake's log hold the stream that was: they are to write above the bar.
        for name in ("snakemake.logging", "snakemake"):
            for each in logging.getLogger(name).handlers:
                if isinstance(each, logging.StreamHandler) and each.stream in (sys.__stderr__, sys.__stdout__):
                    moved.callback(each.setStream, each.stream)
                    each.setStream(sys.stderr)
        yield show
