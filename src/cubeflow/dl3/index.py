"""Open a store: a folder with index files, or DL3 files without an index.

https://gamma-astro-data-formats.readthedocs.io/en/latest/data_storage/index.html
"""

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.classes import HDU_TYPES, choose, one_per_type, runs_of, type_of
from cubeflow.dl3.entries import HduRef, RunEntry, Store, StoreError, by_name, find_hdu, text, whole_number
from cubeflow.dl3.files import FileRefused, begins_with
from cubeflow.dl3.hdus import Header, Table, UnitError, Value, factor, open_table, read_hdus

HDU_INDEX = ("hdu-index.fits.gz", "hdu-index.fits")
OBS_INDEX = ("obs-index.fits.gz", "obs-index.fits")
FITS_START = b"SIMPLE  ="
FITS_NAME = re.compile(r"\.(fits?|fts)\b", re.IGNORECASE)  # what is called so and cannot be read may hold a run
MAX_TOLD = 3
CUT_TYPES = {"rad_ma": "rad_max"}
DIRECTIONS = {"RA_PNT", "DEC_PNT", "RA_OBJ", "DEC_OBJ"}  # in deg, whatever their unit
REQUIRED = ("OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_NAME", "HDU_NAME")
Columns = Mapping[str, NDArray[Any]]
Runs = tuple[list[RunEntry], dict[int, str]]
Infos = Mapping[int, Header]


def open_store(source: str | Path | Sequence[str | Path], roots: Iterable[str | Path] = ()) -> Store:
    """List the runs of a store, in order of their ids, and of those that cannot be used the reason.

    `source` is a folder with `hdu-index.fits.gz` (and optionally `obs-index.fits.gz`), an HDU index file, a folder of
    DL3 files, a pattern of such files, or a list of them. Without an index every file is opened, whatever its name, and
    a run is what one file holds. Links are followed; names that begin with a dot are hidden. `roots` are folders
    outside that of the index in which indexed files may lie. StoreError if there is no such store, it is empty, or its
    index cannot be used.
    """
    if not isinstance(source, str | Path):
        return _from_files(", ".join(str(path) for path in source), [Path(path) for path in source])
    path = Path(source)
    if not path.exists():
        if not set(str(path)) & set("*?["):
            raise StoreError(f"{source}: no such folder or file, and so no DL3 file")
        return _from_files(str(source), _matches(path))
    if path.is_file():
        return _from_index(path, roots) if path.name.startswith("hdu-index") else _from_files(str(source), [path])
    if index := _first(path, HDU_INDEX):
        return _from_index(index, roots)
    return _from_files(str(source), [folder / name for folder, names in walk(path) for name in names])


class _NoRun(FileRefused):
    """A file that holds something else than a run, such as responses or text."""


def walk(top: Path, follow: bool = True) -> Iterator[tuple[Path, list[str]]]:
    """Folders and what each holds beside folders, in order; links may be followed, and no folder is met twice.

    A folder that cannot be read counts as a file of its parent.
    """
    seen: set[tuple[int, int]] = set()
    unread: list[OSError] = []
    for place, folders, names in os.walk(top, onerror=unread.append, followlinks=follow):
        status = Path(place).stat()
        if (known := (status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(known)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield Path(place), sorted(name for name in names if name[0] != ".")
    yield from ((path.parent, [path.name]) for path in (Path(error.filename) for error in unread))


def _matches(pattern: Path) -> list[Path]:
    """Files that a pattern such as ``data/**/run_*.fits.gz`` fits, in order."""
    root = Path(pattern.anchor)
    head, stars, rest = str(pattern.relative_to(root)).partition("**/")
    tops = root.glob(head) if head else [root]
    found = (file for top in tops for folder, _ in walk(top) for file in folder.glob(rest)) if stars else tops
    return sorted({file for file in found if not file.is_dir()})


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if os.path.lexists(folder / name)), None)


def _from_index(index: Path, roots: Iterable[str | Path]) -> Store:
    obs_index = _first(index.parent, OBS_INDEX)
    try:
        table, written = _read_index(index, "an HDU index", "HDU_TYPE")
        columns = {name.upper(): values for name, values in written.items()}
        if missing := [name for name in REQUIRED if name not in columns]:
            raise StoreError(f"{index}: no column {', '.join(missing)}")
        obs_ids, odd = read_ids(columns, index)
        base = (index.parent / text(table.header, "BASE_DIR")).resolve()
        groups = _group_rows(index, base, roots, columns, obs_ids)
        infos, doubtful, odd_infos = read_obs_index(obs_index) if obs_index else ({}, {}, [])
    except FileRefused as error:
        raise StoreError(str(error)) from error
    runs, refused = _make_entries(groups, infos, doubtful, index)
    refused |= {i: f"{obs_index}: run {i} is not in {index.name}" for i in infos if i not in groups}
    odd += odd_infos
    if not runs and not refused:
        raise StoreError(odd[0] if odd else f"{index}: no rows")
    known = {obs_id: infos[obs_id] for obs_id in refused if obs_id in infos}
    named = {path.resolve() for path in (index, obs_index) if path}.union(*(group.paths for group in groups.values()))
    return Store(str(index.parent), tuple(runs), refused, (*odd, *_not_named(index, named)), tuple(odd), known)


def _not_named(index: Path, named: set[Path]) -> Iterator[str]:
    """Say which FITS files below the folder of an index no row names; `named` holds resolved paths."""
    for folder, names in walk(index.parent.resolve(), follow=False):
        for path in (folder / name for name in names):
            try:
                if path not in named and Path(os.path.realpath(path)) not in named and begins_with(path, FITS_START):
                    yield f"{path}: not in {index.name}"
            except FileRefused as error:
                yield str(error)


def _from_files(source: str, paths: list[Path]) -> Store:
    runs: dict[int, tuple[Path, RunEntry, str]] = {}
    problems: dict[str, bool] = {}  # and whether it ought to be read
    for path in paths:
        try:
            found = _read_runs(path.absolute())
        except FileRefused as error:
            problems[str(error)] = not isinstance(error, _NoRun)
            continue
        for entry, reason in found:
            first = runs.setdefault(entry.obs_id, (path, entry, reason))[0]
            if first != path:
                problems[f"{path}: run {entry.obs_id} is also in {first.absolute()}"] = True
    if not runs:
        told = "; ".join(list(problems)[:MAX_TOLD])
        raise StoreError(f"{source}: no DL3 file" + (f" ({told})" if told else ""))
    in_order = [(entry, reason) for _, (_, entry, reason) in sorted(runs.items())]
    refused = {entry.obs_id: reason for entry, reason in in_order if reason}
    infos = {entry.obs_id: entry.obs_info for entry, reason in in_order if reason}
    entries = tuple(entry for entry, reason in in_order if not reason)
    left_out = tuple(problem for problem, is_left_out in problems.items() if is_left_out)
    return Store(source, entries, refused, tuple(problems), left_out, infos)


def _read_runs(path: Path) -> list[tuple[RunEntry, str]]:
    """Runs of a file, and why those are refused that are; raises FileRefused if there is none."""
    if not FITS_NAME.search(path.name) and not begins_with(path, FITS_START):
        raise _NoRun(f"{path}: no FITS file")
    made: list[tuple[RunEntry, str]] = []
    for obs_id, parts in runs_of(read_hdus(path)).items():
        try:
            chosen, reason = choose(parts), ""
        except FileRefused as error:
            chosen, reason = [], str(error)
        quirks = ("hdus-of-one-class",) if len(chosen) < len(parts) else ()
        refs = (HduRef(type_of(e.hdu_class), e.hdu_class, path, e.hdu.name, number=e.hdu.index) for e in chosen)
        made.append((RunEntry(obs_id, one_per_type(refs), info_of(parts[0].hdu.header), quirks), reason))
    if not made:
        raise _NoRun(f"{path}: no EVENTS, so it belongs to no run")
    return made


def read_ids(columns: Columns, path: Path) -> tuple[list[int | None], list[str]]:
    """Run of each row of an index, None where OBS_ID is no whole number, with a line on each such value; StoreError."""
    if "OBS_ID" not in columns:
        raise StoreError(f"{path}: no column OBS_ID of one number or text a row")
    written = columns["OBS_ID"].tolist()
    obs_ids = written if columns["OBS_ID"].dtype.kind == "i" else [whole_number(value) for value in written]
    odd = Counter(repr(value) for value, obs_id in zip(written, obs_ids, strict=True) if obs_id is None)
    return obs_ids, [f"{path}: OBS_ID = {each} in {n} rows, expected a whole number" for each, n in odd.items()]


@dataclass
class _Group:
    """Rows of one run."""

    refs: dict[tuple[str, str, str], HduRef] = field(default_factory=dict)  # by type, class and type of events
    reasons: dict[HduRef, str] = field(default_factory=dict)  # why some of them cannot be used
    paths: set[Path] = field(default_factory=set)  # of all rows
    quirks: dict[str, None] = field(default_factory=dict)  # in order


def _group_rows(
    index: Path, base: Path, roots: Iterable[str | Path], columns: Columns, obs_ids: list[int | None]
) -> dict[int, _Group]:
    """Rows of an index by run, ids growing; the file of an HDU of a type that is never read is not looked for."""
    empty = np.full(len(obs_ids), b"")
    texts = [columns.get(name, empty) for name in (*REQUIRED[1:], "FILE_DIR", "MD5")]
    if any(values.dtype.kind != "S" for values in texts):
        raise StoreError(f"{index}: a column of names is no text column")
    sizes = [whole_number(size) for size in columns.get("SIZE", empty).tolist()]
    event_types = map(cache(_event_type), columns.get("EVENT_TYPE", empty).tolist())
    # Where a file is not below BASE_DIR, as of an index that was moved, it may be where gammapy looks for all.
    resolvers = {each: make_resolver(each, index.parent, roots) for each in (base, index.parent.resolve())}
    word = cache(text_of)  # an index repeats few words

    @cache
    def path_of(file_dir: bytes, file_name: bytes, is_read: bool) -> tuple[Path, str, bool]:
        folder, name = os.fsdecode(file_dir).strip(), os.fsdecode(file_name).strip()
        is_elsewhere = len(resolvers) > 1 and [os.path.lexists(at / folder / name) for at in resolvers] == [False, True]
        start, reason = index.parent.resolve() if is_elsewhere else base, ""
        try:
            if is_read:
                return resolvers[start](folder, name), reason, is_elsewhere
        except FileRefused as error:
            reason = str(error)
        return Path(os.path.normpath(start / folder / name)), reason, is_elsewhere

    groups: dict[int, _Group] = defaultdict(_Group)
    rows = zip(obs_ids, sizes, event_types, *(values.tolist() for values in texts), strict=True)
    for row, (obs_id, size, event_type, hdu_type, hdu_class, file_name, name, file_dir, md5) in enumerate(rows):
        if obs_id is None:
            continue
        group, written, known_class = groups[obs_id], word(hdu_type).lower(), word(hdu_class).lower()
        kind = CUT_TYPES.get(written, written)
        path, reason, is_elsewhere = path_of(file_dir, file_name, kind in HDU_TYPES)
        group.paths.add(path)
        if kind not in HDU_TYPES:
            continue
        if kind != written:
            group.quirks["index-hdu-type-cut"] = None
        if not file_dir:
            group.quirks["index-file-dir-masked"] = None
        if is_elsewhere:
            group.quirks["index-base-dir-elsewhere"] = None
        ref = HduRef(kind, known_class, path, word(name), size, word(md5).lower() or None, row, None, event_type or "")
        known = group.refs.setdefault((kind, known_class, ref.event_type), ref)
        if known is not ref:
            group.quirks["index-rows-repeated"] = None
            reason = reason or _difference(known, ref)
        if event_type is None:
            reason = f"HDU index: row {row}: EVENT_TYPE = {columns['EVENT_TYPE'][row]}, expected an integer or a word"
        if reason:
            group.reasons.setdefault(known, reason)
    return dict(sorted(groups.items()))


def make_resolver(base: Path, index_folder: Path, roots: Iterable[str | Path]) -> Callable[[str, str], Path]:
    """Make a function that gives the path, with links resolved, of FILE_DIR, relative to `base`, and FILE_NAME.

    It raises FileRefused unless that is a regular file in the folder of the index or one of `roots`, or below it. For
    a file outside the message holds the line to add to the configuration.
    """
    base, allowed = base.resolve(), (index_folder.resolve(), *(Path(root).resolve() for root in roots))

    def require_allowed(folder: Path) -> Path:
        if any(folder.is_relative_to(root) for root in allowed):
            return folder
        # The line allows what `folder` has in common with the index, unless that is as wide as a home.
        common = next(parent for parent in (folder, *folder.parents) if base.is_relative_to(parent))
        root = common if len(common.parts) > 2 and common != Path(os.environ.get("HOME", "/")) else folder
        line = f'data: {{roots: ["{root}"]}}'
        raise FileRefused(f"{folder}: outside {base}; to allow it, add to the configuration: {line}")

    folder_of = cache(lambda head: require_allowed((base / head).resolve()))

    def resolve(file_dir: str, file_name: str) -> Path:
        if not file_name or not (file_dir + file_name).isprintable():
            raise FileRefused(f"index: FILE_DIR, FILE_NAME = {file_dir!r}, {file_name!r}: no name of a file")
        head, name = os.path.split(Path(file_dir) / file_name)  # without FILE_DIR it stays relative
        try:
            path = folder_of(head) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                path = path.resolve()
                require_allowed(path.parent)
                mode = path.lstat().st_mode
        except OSError as error:
            raise FileRefused(f"{error.filename or file_name}: {error.strerror or error}") from error
        except RuntimeError as error:
            raise FileRefused(f"{base / head / name}: {error}") from error
        if not stat.S_ISREG(mode):
            raise FileRefused(f"{path}: expected a regular file")
        return path

    return resolve


def _event_type(value: object) -> str | None:
    """Type of events of a row, a whole number or a word; empty if it is blank or masked, None if it is another."""
    if (number := whole_number(value)) is not None:
        return str(number)
    return text_of(value) if isinstance(value, bytes) else "" if value != value else None


def _difference(first: HduRef, second: HduRef) -> str:
    """Say how the content differs that two references lead to; empty if it does not."""
    if first._replace(row=0) == second._replace(row=0):
        return ""
    try:
        contents = [find_hdu(by_name(read_hdus(ref.path)), ref).content for ref in (first, second)]
    except FileRefused as error:
        return f"HDU index: rows {first.row} and {second.row}: {error}"
    if contents[0] == contents[1]:
        return ""
    two = f"{first.path}[{first.hdu_name}] and {second.path}[{second.hdu_name}]"
    expected = "; expected one: intervals with responses of their own are runs" if first.hdu_type != "events" else ""
    return f"HDU index: two HDUs {first.hdu_class}, rows {first.row} and {second.row}: {two} differ{expected}"


def _make_entries(groups: dict[int, _Group], infos: Infos, doubtful: Mapping[int, str], path: Path) -> Runs:
    """Entries of usable runs and the reasons of the others; runs that the observation index lacks are looked into."""
    runs: list[RunEntry] = []
    refused = dict(doubtful)
    owners: dict[tuple[Path, str], int] = {}
    for obs_id, group in groups.items():
        hdus = one_per_type(group.refs.values())
        problem = next((group.reasons[ref] for ref in hdus if ref in group.reasons), "")
        for events in (ref for ref in hdus if ref.hdu_type == "events"):
            owner = owners.setdefault((events.path, events.hdu_name.upper()), obs_id)
            if owner != obs_id:
                name = f"{events.path}[{events.hdu_name}]"
                problem = f"{name}: already used by run {owner} (row {events.row} of {path.name})"
        if problem:
            refused.setdefault(obs_id, problem)
        elif obs_id not in doubtful:
            runs.append(RunEntry(obs_id, hdus, infos.get(obs_id, {}), tuple(group.quirks)))
    found, unread = read_infos(entry for entry in runs if entry.obs_id not in infos)
    runs = [replace(each, obs_info=found.get(each.obs_id, each.obs_info)) for each in runs if each.obs_id not in unread]
    return runs, refused | unread


def read_infos(entries: Iterable[RunEntry]) -> tuple[dict[int, Header], dict[int, str]]:
    """Observation information from EVENTS by run, or why there is none; a file of many runs is read once."""
    entries = list(entries)
    events = {entry.obs_id: ref for entry in entries for ref in entry.hdus if ref.hdu_type == "events"}
    refused = {each.obs_id: "no HDU of type events for this run" for each in entries if each.obs_id not in events}
    found: dict[int, Header] = {}
    by_path: dict[Path, list[int]] = defaultdict(list)
    for obs_id, ref in events.items():
        by_path[ref.path].append(obs_id)
    for path, obs_ids in by_path.items():
        try:
            hdus = by_name(read_hdus(path))
        except FileRefused as error:
            refused |= dict.fromkeys(obs_ids, str(error))
            continue
        for obs_id in obs_ids:
            try:
                found[obs_id] = info_of(find_hdu(hdus, events[obs_id]).header)
            except FileRefused as error:
                refused[obs_id] = str(error)
    return found, refused


@dataclass(frozen=True, eq=False, repr=False)
class IndexRow(Mapping[str, Value]):
    """One row of a table as a mapping from column to plain value; made only when it is asked for."""

    columns: Columns
    row: int

    def __getitem__(self, name: str) -> Value:
        value = self.columns[name][self.row]
        return text_of(value) if isinstance(value, bytes) else value.tolist()

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def text_of(value: bytes) -> str:
    """Text of a string column without blanks around it and control characters."""
    return "".join(c if c.isprintable() else "?" for c in value.decode("latin-1").strip())


def _read_index(path: Path, name: str, key: str) -> tuple[Table, dict[str, NDArray[Any]]]:
    """Table with a column `key`, and its columns of one value a row, named as written; StoreError, FileRefused."""
    tables = [open_table(hdu) for hdu in read_hdus(path) if hdu.header.get("XTENSION") == "BINTABLE"]
    table = next((table for table in tables if key in table.columns), None)
    if table is None:
        raise StoreError(f"{path}: no table with a column {key}, expected {name}")
    columns = {column.name: table.column(column.name) for column in table.columns.values() if column.is_read}
    return table, {name: values for name, values in columns.items() if values.ndim == 1}


def info_of(header: Header) -> dict[str, Value]:
    """Header as observation information, with ZEN_PNT from ALT_PNT if it has none."""
    info: dict[str, Value] = {key: value for key, value in header.items() if value is not None}
    altitude = info.get("ALT_PNT")
    if isinstance(altitude, int | float):
        info.setdefault("ZEN_PNT", 90.0 - altitude)
    return info


def read_obs_index(path: Path) -> tuple[dict[int, IndexRow], dict[int, str], list[str]]:
    """Rows of an observation index by run, why some cannot be used (two that differ), and rows without a run."""
    table, columns = _read_index(path, "an observation index", "OBS_ID")
    for name in columns.keys() & DIRECTIONS:
        unit = table.columns[name].unit
        if columns[name].dtype.kind in "iuf" and unit not in ("", "deg"):
            try:
                columns[name] = columns[name] * factor(unit, "deg")
            except UnitError:
                columns[name] = np.full(len(columns[name]), np.nan)  # for which EVENTS are asked
    obs_ids, odd = read_ids({name.upper(): values for name, values in columns.items()}, path)
    whole = np.array([-1 if obs_id is None else obs_id for obs_id in obs_ids], np.int64)
    columns = {name: whole if name.upper() == "OBS_ID" else values for name, values in columns.items()}
    rows: dict[int, IndexRow] = {}
    refused: dict[int, str] = {}
    for row, obs_id in enumerate(obs_ids):
        if obs_id is None:
            continue
        known = rows.setdefault(obs_id, IndexRow(columns, row))
        if known.row != row and repr(dict(known)) != repr(dict(IndexRow(columns, row))):
            refused[obs_id] = f"{path}: two rows that differ, {known.row} and {row}"
    return rows, refused, odd
