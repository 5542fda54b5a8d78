"""The run table of a target: every selected run, also the refused, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

from cubeflow.plan.write import read_json
from cubeflow.products.profiles import Profiles, sum_profiles
from cubeflow.steps.columns import column_of, describe_column, label_of, order_of
from cubeflow.steps.kept import read_stack
from cubeflow.steps.table_files import MAX_FITS_COLUMNS, TableColumn, csv_text, ecsv_text, fits_bytes
from cubeflow.storage.atomic import write_atomic

Row = dict[str, Any]

SEVERITY = ("ok", "dropped", "skipped", "refused")


@dataclass(frozen=True)
class TargetRows:
    """What the leaf stacks of a target say of its runs.

    Parameters
    ----------
    rows : list of dict
        One for each selected run in order of id: columns of the run by their names, those of a background as
        ``<label>_<name>``.
    used : dict of str to int
        Number of runs, or pieces of runs, in the stack of each label.
    profiles : dict of str to Profiles or None
        Sum over the runs of each label; None without any.
    """

    rows: list[Row]
    used: dict[str, int]
    profiles: dict[str, Profiles | None]


def target_rows(manifest: Mapping[str, Any], folder: Path) -> TargetRows:
    """Rows of all selected runs of a target; leaf by leaf, for their profiles are many numbers.

    Parameters
    ----------
    manifest : mapping
        ``runs-<key>.table.json`` of the plan.
    folder : Path
        Results of the target.
    """
    rows: dict[tuple[int, int], Row] = {
        (int(obs_id), -1): {"obs_id": int(obs_id), "status": "refused", "reason": reason}
        for obs_id, reason in manifest["refused"].items()
    }
    used = dict.fromkeys(manifest["leaves"], 0)
    profiles: dict[str, Profiles | None] = dict.fromkeys(manifest["leaves"])
    for label, leaves in manifest["leaves"].items():
        for leaf in leaves:
            parts = read_stack(folder / "stack" / label / f"{leaf}.h5", names=[]).attributes["rows"]
            for row in parts:
                _merge(rows.setdefault((row["obs_id"], row.get("run", {}).get("piece", -1)), {}), row, label)
            good = [row["background"] for row in parts if row["status"] == "ok"]
            used[label] += len(good)
            known = profiles[label]
            before = [] if known is None else [vars(known)]
            profiles[label] = sum_profiles(before + [each["profiles"] for each in good if "profiles" in each])
    return TargetRows([rows[name] for name in sorted(rows)], used, profiles)


def _merge(merged: Row, row: Row, label: str) -> None:
    """Add the row of one label to the row of its run; the worst status of its labels is the run's."""
    merged["obs_id"] = row["obs_id"]
    for name, value in row.get("run", {}).items():
        merged[intern(name)] = intern(_text(value)) if isinstance(value, (list, dict)) else value
    for name, value in {"status": row["status"], **row.get("background", {})}.items():
        if name == "profiles":  # many numbers, for the report
            continue
        if name == "offset_deg":  # of the run from the target, whatever the background
            merged[name] = value
        elif isinstance(value, list):
            merged |= {intern(f"{label}_{name}_{index}"): item for index, item in enumerate(value)}
        else:
            merged[intern(f"{label}_{name}")] = value
    if SEVERITY.index(row["status"]) >= SEVERITY.index(merged.get("status", "ok")):
        merged["status"], merged["reason"] = row["status"], row["reason"] or merged.get("reason", "")


def _text(value: list[Any] | dict[str, Any]) -> str:
    """Names, or names with numbers, in one cell."""
    return " ".join(value if isinstance(value, list) else (f"{key}={count}" for key, count in sorted(value.items())))


def write_run_table(manifest_path: Path, say: Callable[[str], None]) -> Path:
    """Write ``runs.ecsv`` (also ``runs.csv`` and ``runs.fits``) from the manifest of the plan; return the first.

    A table with more columns than FITS allows has only the first of them in ``runs.fits``, which is said.
    """
    folder = manifest_path.parents[1]
    manifest = read_json(manifest_path)
    rows = target_rows(manifest, folder).rows
    labels = list(manifest["leaves"])
    columns = make_columns(rows, labels)
    write_atomic(folder / "runs.csv", csv_text(columns).encode())
    write_atomic(folder / "runs.fits", fits_bytes(columns[:MAX_FITS_COLUMNS], "RUNS"))
    # The last: its key tells that all of them are made.
    write_atomic(folder / "runs.ecsv", ecsv_text(columns, {"labels": labels, "key": manifest["key"]}).encode())
    if len(columns) > MAX_FITS_COLUMNS:
        say(f"{folder / 'runs.fits'}: the first {MAX_FITS_COLUMNS} of {len(columns)} columns, FITS allows no more")
    ok = sum(row["status"] == "ok" for row in rows)
    say(f"{folder / 'runs.ecsv'}: {len(rows)} runs, {ok} of them ok")
    return folder / "runs.ecsv"


def make_columns(rows: list[Row], labels: list[str]) -> list[TableColumn]:
    """Columns with units and descriptions, in the order of the table; None where a row has no value."""
    places = {}
    for name in {name for row in rows for name in row}:
        column, unit = column_of(name)
        label = label_of(column, labels)
        values = tuple(row.get(name) for row in rows)
        places[order_of(column, label, labels)] = TableColumn(column, values, unit, describe_column(column, label))
    return [column for _, column in sorted(places.items())]
