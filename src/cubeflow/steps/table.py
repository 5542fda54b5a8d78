"""The run table of a target: every selected run, also the refused, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cubeflow.plan.write import read_json
from cubeflow.steps.cells import Cells
from cubeflow.steps.columns import column_of, describe_column, label_of, order_of
from cubeflow.steps.rows import target_rows
from cubeflow.steps.table_files import MAX_FITS_COLUMNS, TableColumn, csv_parts, ecsv_parts, fits_parts
from cubeflow.storage.atomic import write_parts


def write_run_table(manifest_path: Path, say: Callable[[str], None]) -> Path:
    """Write ``runs.ecsv`` (also ``runs.csv`` and ``runs.fits``) from the manifest of the plan; return the first.

    A table with more columns than FITS allows has only the first of them in ``runs.fits``, which is said.
    """
    folder = manifest_path.parents[1]
    manifest = read_json(manifest_path)
    found = target_rows(manifest, folder)
    labels = list(manifest["leaves"])
    columns = make_columns(found.columns, labels)
    write_parts(folder / "runs.csv", csv_parts(columns))
    write_parts(folder / "runs.fits", fits_parts(columns[:MAX_FITS_COLUMNS], "RUNS"))
    # The last: its key tells that all of them are made.
    write_parts(folder / "runs.ecsv", ecsv_parts(columns, {"labels": labels, "key": manifest["key"]}))
    if len(columns) > MAX_FITS_COLUMNS:
        say(f"{folder / 'runs.fits'}: the first {MAX_FITS_COLUMNS} of {len(columns)} columns, FITS allows no more")
    ok = sum(status == "ok" for status in found.columns.get("status", Cells()))
    say(f"{folder / 'runs.ecsv'}: {len(found)} runs, {ok} of them ok")
    return folder / "runs.ecsv"


def make_columns(columns: Mapping[str, Cells], labels: Sequence[str]) -> list[TableColumn]:
    """Columns with units and descriptions, in the order of the table; None where a row has no value."""
    places = {}
    for name, values in columns.items():
        column, unit = column_of(name)
        label = label_of(column, labels)
        places[order_of(column, label, labels)] = TableColumn(column, values, unit, describe_column(column, label))
    return [column for _, column in sorted(places.items())]
