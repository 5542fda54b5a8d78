"""How far a workflow is: a small file for each batch, and who reads them all.

Jobs may run anywhere; what they share is the results folder. The files are for those who watch:
they hold no result, and nothing fails because one of them cannot be written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubeflow.plan.inventory import names_in


@dataclass
class Progress:
    """Progress of one batch.

    Parameters
    ----------
    path : Path
        File that tells it.
    total : int
        Number of runs.
    done : int
        Runs that are done.
    """

    path: Path
    total: int
    done: int = 0

    def step(self, refused: Sequence[dict[str, Any]], failed: Sequence[str]) -> None:
        """One more run is done; the file is put in place without waiting for the disk."""
        self.done += 1
        last = failed[-1] if failed else f"run {refused[-1]['obs_id']}: {refused[-1]['reason']}" if refused else ""
        content = {"total": self.total, "done": self.done, "refused": len(refused) + len(failed), "last": last}
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps(content))
                temporary.replace(self.path)
            finally:  # also when a signal ends the process
                temporary.unlink(missing_ok=True)


def progress_folder(results: Path) -> Path:
    """Where the progress of batches is told."""
    return results / ".cubeflow" / "progress"


def progress_of(manifest: Path, total: int) -> Progress:
    """Progress of the batch with this manifest, ``<results>/<target>/plan/<batch>-<tag>.json``."""
    target, results = manifest.parents[1].name, manifest.parents[2]
    return Progress(progress_folder(results) / f"{target}-{manifest.stem}.json", total)


@dataclass
class Watch:
    """Progress of all batches, read again only where it changed.

    Parameters
    ----------
    folder : Path
        From `progress_folder`.
    known : dict
        Content by name, with the time of the file.
    """

    folder: Path
    known: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    def look(self) -> Totals:
        """Read what changed and add it all up."""
        for name in sorted(names_in(self.folder)):
            if not name.startswith("."):
                self._read(name)
        contents = [content for _, content in self.known.values()]
        latest = max((item for item in self.known.values() if item[1]["last"]), key=lambda item: item[0], default=None)
        done, refused = (sum(content[key] for content in contents) for key in ("done", "refused"))
        return Totals(done, refused, latest[1]["last"] if latest else "")

    def _read(self, name: str) -> None:
        path = self.folder / name
        with suppress(OSError, ValueError):
            time = path.stat().st_mtime_ns
            if name not in self.known or self.known[name][0] != time:
                self.known[name] = time, json.loads(path.read_text())


@dataclass(frozen=True)
class Totals:
    """Runs done and refused of all batches that have begun, and the last refusal."""

    done: int
    refused: int
    last: str


def clear_progress(results: Path) -> None:
    """Forget what earlier workflows told."""
    for path in _files(progress_folder(results)):
        with suppress(OSError):
            path.unlink()


def _files(folder: Path) -> Iterator[Path]:
    return (folder / name for name in names_in(folder))
