"""What is known of a run before it is read: its row of the observation index, or its EVENTS header.

References
----------
https://gamma-astro-data-formats.readthedocs.io/en/latest/data_storage/obs_index/index.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cubeflow.dl3.bintable import Table, open_table
from cubeflow.dl3.blocks import read_hdus
from cubeflow.dl3.cards import clean
from cubeflow.dl3.entries import HduRef, StoreError
from cubeflow.dl3.files import FileRefused


@dataclass(frozen=True, eq=False, repr=False)
class IndexRow(Mapping[str, Any]):
    """One row of a table as a mapping from column to plain value; made only when it is asked for."""

    columns: Mapping[str, NDArray[Any]]
    row: int

    def __getitem__(self, name: str) -> Any:
        value = self.columns[name][self.row]
        return text_of(value) if isinstance(value, bytes) else value.tolist()

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


def text_of(value: bytes) -> str:
    """Text of a string column without blanks around it and control characters."""
    return clean(value.decode("latin-1").strip())


def read_table(path: Path, name: str, key: str) -> Table:
    """Table of an index file that has a column `key`.

    Raises
    ------
    StoreError
        If the file cannot be read or has no such table.
    """
    try:
        hdus = read_hdus(path)
        tables = [open_table(hdu) for hdu in hdus if hdu.header.get("XTENSION") == "BINTABLE"]
    except FileRefused as error:
        raise StoreError(str(error)) from error
    named = [table for table in tables if key in table.fields]
    if not named:
        raise StoreError(f"{path}: no table with a column {key}, expected {name}")
    return named[0]


def columns_of(table: Table) -> dict[str, NDArray[Any]]:
    """Columns of a table with one value a row, by name as written."""
    columns = {field.name: table.column(field.name) for field in table.fields.values() if field.code not in "XCMPQ"}
    return {name: values for name, values in columns.items() if values.ndim == 1}


def header_info(events: HduRef | None, index: Path) -> tuple[dict[str, Any], str]:
    """Values of the EVENTS header for a run without a row in the observation index; the reason if there is none."""
    if events is None:
        return {}, f"{index}: no HDU of type events for this run"
    try:
        headers = [hdu.header for hdu in read_hdus(events.path) if hdu.name.upper() == events.hdu_name.upper()]
    except FileRefused as error:
        return {}, str(error)
    if not headers:
        return {}, f"{events.path}: no HDU {events.hdu_name!r} (row {events.row} of {index.name})"
    return info_of(headers[0]), ""


def info_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """Header as observation information, with ZEN_PNT from ALT_PNT if it has none."""
    info = {key: value for key, value in header.items() if value is not None}
    altitude = info.get("ALT_PNT")
    if isinstance(altitude, int | float):
        info.setdefault("ZEN_PNT", 90.0 - altitude)
    return info


def read_obs_index(path: Path) -> dict[int, IndexRow]:
    """Rows of an observation index by run.

    Raises
    ------
    StoreError
        If a run has two rows that differ.
    """
    columns = columns_of(read_table(path, "an observation index", "OBS_ID"))
    key = next(name for name in columns if name.upper() == "OBS_ID")
    rows: dict[int, IndexRow] = {}
    for row, obs_id in enumerate(columns[key].tolist()):
        known = rows.setdefault(obs_id, IndexRow(columns, row))
        if known.row != row and repr(dict(known)) != repr(dict(IndexRow(columns, row))):
            raise StoreError(f"{path}: run {obs_id} has two rows that differ, {known.row} and {row}")
    return rows
