"""Open a store: a folder with index files, or DL3 files without an index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path

from cubeflow.dl3.blocks import Hdu, read_hdus
from cubeflow.dl3.classes import classify, one_per_type
from cubeflow.dl3.entries import HduRef, RunEntry, Store, StoreError
from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdu_index import read_index
from cubeflow.dl3.obs_index import info_of

__all__ = ["HduRef", "RunEntry", "Store", "StoreError", "open_store"]

HDU_INDEX = ("hdu-index.fits.gz", "hdu-index.fits")
OBS_INDEX = ("obs-index.fits.gz", "obs-index.fits")
SUFFIXES = (".fits", ".fits.gz", ".fit", ".fit.gz")


def open_store(source: str | Path | Sequence[str | Path], roots: Iterable[str | Path] = ()) -> Store:
    """List the runs of a store.

    Parameters
    ----------
    source : str, Path or sequence of them
        Folder with `hdu-index.fits.gz` (and optionally `obs-index.fits.gz`), an HDU index file, a folder of DL3
        files, a pattern of such files, or a list of them. Without an index every file is opened, and a run
        is what one file holds.
    roots : iterable of str or Path
        Folders outside that of the index in which indexed files may lie.

    Returns
    -------
    Store
        Runs in order of their ids; those that cannot be used with the reason.

    Raises
    ------
    StoreError
        If there is no such store, it is empty, or its index cannot be used.
    """
    if not isinstance(source, str | Path):
        return _from_files(", ".join(str(path) for path in source), [Path(path) for path in source])
    path = Path(source)
    if not path.exists():
        if not set(str(path)) & set("*?["):
            raise StoreError(f"{source}: no such folder or file, and so no DL3 file")
        return _from_files(str(source), sorted(_matches(path)))
    if path.is_file():
        return _from_index(path, roots) if path.name.startswith("hdu-index") else _from_files(str(source), [path])
    index = _first(path, HDU_INDEX)
    if index is not None:
        return _from_index(index, roots)
    return _from_files(str(source), sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES)))


class _NoRun(FileRefused):
    """A sound file that holds something else than a run, such as responses."""


def _matches(pattern: Path) -> Iterable[Path]:
    """Files that a pattern such as ``data/*/run_*.fits.gz`` fits."""
    fixed = list(takewhile(lambda part: not set(part) & set("*?["), pattern.parts))
    rest = pattern.parts[len(fixed) :]
    return Path(*fixed).glob(str(Path(*rest))) if rest else ()


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    """First of the named files that is there."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def _from_index(index: Path, roots: Iterable[str | Path]) -> Store:
    """Store of an HDU index."""
    runs, refused, infos = read_index(index, _first(index.parent, OBS_INDEX), [Path(root) for root in roots])
    if not runs and not refused:
        raise StoreError(f"{index}: no rows")
    known = {obs_id: infos[obs_id] for obs_id in refused if obs_id in infos}
    return Store(str(index.parent), tuple(runs), refused, refused_infos=known)


def _from_files(source: str, paths: list[Path]) -> Store:
    """Store of files that hold one run each."""
    runs: dict[int, RunEntry] = {}
    refused: dict[int, str] = {}
    problems: list[str] = []
    left_out: list[str] = []
    for path in paths:
        try:
            entry = _read_entry(path.absolute())
        except FileRefused as error:
            problems.append(str(error))
            left_out += [] if isinstance(error, _NoRun) else problems[-1:]
            continue
        if entry.obs_id in runs:
            problems.append(f"{path}: run {entry.obs_id} is also in {runs[entry.obs_id].hdus[0].path}")
            left_out += problems[-1:]
        else:
            runs[entry.obs_id] = entry
    if not runs:
        raise StoreError(f"{source}: no DL3 file" + (f" ({problems[0]})" if problems else ""))
    return Store(source, tuple(runs[obs_id] for obs_id in sorted(runs)), refused, tuple(problems), tuple(left_out))


def _read_entry(path: Path) -> RunEntry:
    """Run of one file; raises FileRefused if it holds no EVENTS or no OBS_ID."""
    found: dict[str, tuple[HduRef, Hdu]] = {}
    for hdu in read_hdus(path):
        hdu_type, hdu_class = classify(hdu)
        if hdu_type:
            found.setdefault(hdu_class, (HduRef(hdu_type, hdu_class, path, hdu.name, row=hdu.index), hdu))
    if "events" not in found:
        raise _NoRun(f"{path}: no EVENTS, so it belongs to no run")
    header = found["events"][1].header
    obs_id = whole_number(header.get("OBS_ID"))
    if obs_id is None:
        raise FileRefused(f"{path}[EVENTS]: OBS_ID = {header.get('OBS_ID')!r}, expected a whole number")
    return RunEntry(obs_id, one_per_type(ref for ref, _ in found.values()), info_of(header))


def whole_number(value: object) -> int | None:
    """Whole number of a header value that may be written as text; None if it is none."""
    if isinstance(value, str) and value.strip().lstrip("+-").isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
