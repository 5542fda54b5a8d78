"""The run table of a target: every selected run, also the refused, with the reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

from cubeflow.plan.write import read_json
from cubeflow.products.profiles import Profiles, sum_profiles
from cubeflow.steps.columns import column_of, describe_column, label_of, order_of
from cubeflow.steps.kept import read_stack
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
    """Write ``runs.ecsv`` (also ``runs.csv`` and ``runs.fits``) from the manifest of the plan; return the first."""
    folder = manifest_path.parents[1]
    manifest = read_json(manifest_path)
    rows = target_rows(manifest, folder).rows
    table = make_table(rows, list(manifest["leaves"]))
    table.meta["key"] = manifest["key"]
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    write_atomic(folder / "runs.ecsv", text.getvalue().encode())
    text = io.StringIO()
    table.write(text, format="ascii.csv")
    write_atomic(folder / "runs.csv", text.getvalue().encode())
    write_atomic(folder / "runs.fits", _fits_bytes(table))
    ok = sum(row["status"] == "ok" for row in rows)
    say(f"{folder / 'runs.ecsv'}: {len(rows)} runs, {ok} of them ok")
    return folder / "runs.ecsv"


def _fits_bytes(table) -> bytes:  # type: ignore[no-untyped-def]
    """Table as a FITS file; empty cells of text are blank, of numbers NaN or the null value of the column.

    FITS knows ASCII alone: other letters become question marks.
    """
    from astropy.io import fits

    content, plain = io.BytesIO(), table.copy()
    for name in (name for name in table.colnames if table[name].dtype.kind == "U"):
        column = table[name].filled("")
        plain[name] = [str(value).encode("ascii", "replace").decode() for value in column]
    hdu = fits.table_to_hdu(plain)
    hdu.header["EXTNAME"] = "RUNS"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(content, checksum=False)
    return content.getvalue()


def make_table(rows: list[Row], labels: list[str]):  # type: ignore[no-untyped-def]
    """Astropy table with units and descriptions; cells without a value are masked."""
    from astropy.table import MaskedColumn, Table

    places = {}
    for name in {name for row in rows for name in row}:
        column, unit = column_of(name)
        label = label_of(column, labels)
        places[order_of(column, label, labels)] = name, column, unit, describe_column(column, label)
    table = Table(meta={"labels": labels})
    for _, (name, column, unit, description) in sorted(places.items()):
        values = [row.get(name) for row in rows]
        fill = next((type(value)() for value in values if value is not None), "")
        data = [fill if value is None else value for value in values]
        mask = [value is None for value in values]
        table[column] = MaskedColumn(data, mask=mask, unit=unit, description=description)
    return table
