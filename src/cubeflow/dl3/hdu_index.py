"""Read `hdu-index` tables into runs.

References
----------
https://gamma-astro-data-formats.readthedocs.io/en/latest/data_storage/hdu_index/index.html
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.blocks import digest_hdus
from cubeflow.dl3.classes import one_per_type
from cubeflow.dl3.entries import HduRef, RunEntry, StoreError
from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.obs_index import columns_of, header_info, read_obs_index, read_table, text_of
from cubeflow.dl3.paths import Resolver, make_resolver

CUT_TYPES = {"rad_ma": "rad_max"}
REQUIRED = ("OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_NAME", "HDU_NAME")
Runs = tuple[list[RunEntry], dict[int, str]]
Infos = Mapping[int, Mapping[str, Any]]


def read_index(path: Path, obs_path: Path | None, roots: Iterable[Path]) -> tuple[*Runs, Infos]:
    """Runs of an HDU index, in order of their ids.

    Parameters
    ----------
    path, obs_path : Path
        HDU index and observation index; the second is optional.
    roots : iterable of Path
        Folders outside that of the index in which files may lie.

    Returns
    -------
    runs, refused, infos : list of RunEntry, dict of int to str, mapping of int to mapping
        Usable runs, for the others the reason, and what the observation index says of any.

    Raises
    ------
    StoreError
        If the index cannot be read, or lists one HDU of a run at two places with different content.
    """
    table = read_table(path, "an HDU index", "HDU_TYPE")
    columns = columns_of(table)
    missing = [name for name in REQUIRED if name not in {key.upper() for key in columns}]
    if missing:
        raise StoreError(f"{path}: no column {', '.join(missing)}")
    base = Path(str(table.header.get("BASE_DIR") or "").strip())
    resolver = make_resolver(path.parent / base, path.parent, roots)
    try:
        groups = _group(_Rows(columns, resolver))
        infos = read_obs_index(obs_path) if obs_path else {}
    except (FileRefused, ValueError) as error:
        raise error if isinstance(error, StoreError) else StoreError(f"{path}: {error}") from error
    runs, refused = _make_entries(groups, infos, path)
    return runs, refused | {i: f"{obs_path}: run {i} is not in {path.name}" for i in infos if i not in groups}, infos


class _Rows:
    """Rows of an HDU index as references; one that cannot be used is the reason instead."""

    def __init__(self, columns: dict[str, NDArray[Any]], resolver: Resolver) -> None:
        columns = {name.upper(): values for name, values in columns.items()}
        self.obs_id = columns["OBS_ID"].astype(np.int64)
        self.resolver = resolver
        self.paths: dict[tuple[bytes, bytes], Path | str] = {}
        self.texts: dict[bytes, str] = {}
        self.kinds: dict[tuple[bytes, bytes], tuple[str, str, tuple[str, ...]]] = {}
        empty = np.full(len(self.obs_id), b"")
        self.types, self.classes, self.names = (columns[key] for key in ("HDU_TYPE", "HDU_CLASS", "HDU_NAME"))
        self.dirs, self.files = columns.get("FILE_DIR", empty), columns["FILE_NAME"]
        self.md5 = columns.get("MD5", empty)
        self.sizes = columns.get("SIZE")
        texts = (self.types, self.classes, self.names, self.dirs, self.files, self.md5)
        if any(values.dtype.kind != "S" for values in texts):
            raise ValueError("a column of names is no text column")

    def text(self, value: bytes) -> str:
        """Decoded text; each distinct value is decoded once."""
        found = self.texts.get(value)
        if found is None:
            found = self.texts[value] = text_of(value)
        return found

    def path(self, file_dir: bytes, file_name: bytes) -> Path | str:
        """Checked path, or the reason why there is none."""
        found = self.paths.get((file_dir, file_name))
        if found is None:
            try:
                found = self.resolver.resolve(os.fsdecode(file_dir).strip(), os.fsdecode(file_name).strip())
            except FileRefused as error:
                found = str(error)
            self.paths[file_dir, file_name] = found
        return found

    def kind(self, hdu_type: bytes, hdu_class: bytes) -> tuple[str, str, tuple[str, ...]]:
        """HDU_TYPE and HDU_CLASS as they should be, and the quirks met; each distinct pair is looked at once."""
        found = self.kinds.get((hdu_type, hdu_class))
        if found is None:
            written = self.text(hdu_type).lower()
            quirks = ("index-hdu-type-cut",) if written in CUT_TYPES else ()
            found = CUT_TYPES.get(written, written), self.text(hdu_class).lower(), quirks
            self.kinds[hdu_type, hdu_class] = found
        return found

    def refs(self) -> Iterator[tuple[int, HduRef | str, tuple[str, ...]]]:
        """Run, reference or reason, and quirks of each row."""
        sizes = self.sizes.tolist() if self.sizes is not None else [None] * len(self.obs_id)
        columns = (self.types, self.classes, self.dirs, self.files, self.names, self.md5)
        rows = zip(self.obs_id.tolist(), *(column.tolist() for column in columns), sizes, strict=True)
        for row, (obs_id, hdu_type, hdu_class, file_dir, file_name, name, md5, size) in enumerate(rows):
            path = self.path(file_dir, file_name)
            kind, cls, quirks = self.kind(hdu_type, hdu_class)
            if not file_dir:
                quirks = (*quirks, "index-file-dir-masked")
            if isinstance(path, str):
                yield obs_id, path, quirks
            else:
                md5_text = self.text(md5).lower() if md5 else None
                yield obs_id, HduRef(kind, cls, path, self.text(name), size, md5_text or None, row), quirks


@dataclass
class _Group:
    """Rows of one run."""

    refs: dict[tuple[str, str], HduRef]
    quirks: dict[str, None]
    problem: str = ""


def _group(rows: _Rows) -> dict[int, _Group]:
    """Rows by run, ids growing.

    Raises
    ------
    StoreError
        If one HDU of a run is listed twice with different content.
    """
    groups: dict[int, _Group] = {}
    for obs_id, ref, quirks in rows.refs():
        group = groups.get(obs_id)
        if group is None:
            group = groups[obs_id] = _Group({}, {})
        if quirks:
            group.quirks.update(dict.fromkeys(quirks))
        if isinstance(ref, str):
            group.problem = group.problem or ref
            continue
        known = group.refs.setdefault((ref.hdu_type, ref.hdu_class), ref)
        if known is not ref:
            group.quirks["index-rows-repeated"] = None
            _require_same(obs_id, known, ref)
    return dict(sorted(groups.items()))


def _require_same(obs_id: int, first: HduRef, second: HduRef) -> None:
    """Raise StoreError unless two references lead to the same content."""
    if first._replace(row=0) == second._replace(row=0) or _digest(first) == _digest(second):
        return
    raise StoreError(
        f"HDU index: run {obs_id} has two HDUs {first.hdu_class}, rows {first.row} and {second.row}:"
        f" {first.path}[{first.hdu_name}] and {second.path}[{second.hdu_name}] differ"
    )


def _digest(ref: HduRef) -> str:
    """Content digest of an HDU; raises StoreError if it cannot be read."""
    try:
        found = [hdu.sha256 for hdu in digest_hdus(ref.path) if hdu.name.upper() == ref.hdu_name.upper()]
    except FileRefused as error:
        raise StoreError(f"HDU index: row {ref.row}: {error}") from error
    if not found:
        raise StoreError(f"HDU index: row {ref.row}: no HDU {ref.hdu_name!r} in {ref.path}")
    return found[0]


def _make_entries(groups: dict[int, _Group], infos: Mapping[int, Mapping[str, Any]], path: Path) -> Runs:
    """Entries of usable runs and the reasons of the others."""
    runs: list[RunEntry] = []
    refused: dict[int, str] = {}
    owners: dict[tuple[Path, str], int] = {}
    for obs_id, group in groups.items():
        events = group.refs.get(("events", "events"))
        owner = owners.setdefault((events.path, events.hdu_name.upper()), obs_id) if events else obs_id
        problem = group.problem
        if owner != obs_id and events:
            problem = f"{events.path}[{events.hdu_name}]: already used by run {owner} (row {events.row} of {path.name})"
        info = infos.get(obs_id)
        if not problem and info is None:
            info, problem = header_info(events, path)
        if problem:
            refused[obs_id] = problem
        else:
            runs.append(RunEntry(obs_id, one_per_type(group.refs.values()), info or {}, tuple(group.quirks)))
    return runs, refused
