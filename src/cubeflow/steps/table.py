"""The run table of a target: every selected run, also the refused, with the reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cubeflow.plan.write import read_json
from cubeflow.steps.kept import read_stack
from cubeflow.storage.atomic import write_atomic

Row = dict[str, Any]

SEVERITY = ("ok", "dropped", "skipped", "refused")
UNITS = {"_deg": "deg", "_s": "s", "_tev": "TeV", "_m": "m"}  # endings of names, which become units

DESCRIPTIONS = {
    "obs_id": "run",
    "status": "ok, dropped (no background), skipped (no overlap with the map) or refused",
    "reason": "why a run is not ok",
    "object": "object named in the file",
    "ra_pnt": "right ascension of the pointing, ICRS",
    "dec_pnt": "declination of the pointing, ICRS",
    "offset": "separation of the pointing from the target",
    "ontime": "sum of the good time intervals",
    "livetime": "ontime times DEADC",
    "n_events": "events read",
    "n_events_gti": "events inside the good time intervals",
    "counts": "counts in the map",
    "on": "counts in the disc about the target (significance.radius)",
    "off": "OFF counts of the ring about the target",
    "alpha": "background in the disc over OFF counts",
    "excess": "ON counts less background in the disc about the target",
    "significance": "of the excess at the target, in sigma",
    "counts_safe": "counts in safe bins of the map",
    "energy_threshold": "lower edge of the first safe bin of reconstructed energy",
    "quirks": "deviations of the files from the format",
    "repairs": "what was repaired or dropped, with how often",
}
FIRST = tuple(DESCRIPTIONS)


def run_rows(manifest: Mapping[str, Any], folder: Path) -> list[Row]:
    """Rows of all selected runs of a target, in order of id.

    Parameters
    ----------
    manifest : mapping
        ``runs-<key>.table.json`` of the plan.
    folder : Path
        Results of the target.

    Returns
    -------
    list of dict
        Columns of the run by their names, those of a background as ``<label>_<name>``.
    """
    return merge_rows(manifest, leaf_rows(manifest, folder))


def leaf_rows(manifest: Mapping[str, Any], folder: Path) -> dict[str, list[Row]]:
    """Rows of the leaf stacks of each label, as the step ``reduce`` wrote them; parameters as for `run_rows`."""
    rows: dict[str, list[Row]] = {label: [] for label in manifest["leaves"]}
    for label, leaves in manifest["leaves"].items():
        for leaf in leaves:
            rows[label] += read_stack(folder / "stack" / label / f"{leaf}.h5", names=[]).attributes["rows"]
    return rows


def merge_rows(manifest: Mapping[str, Any], leaves: Mapping[str, list[Row]]) -> list[Row]:
    """Rows of `run_rows` from those of `leaf_rows`."""
    rows: dict[tuple[int, int], Row] = {
        (int(obs_id), -1): {"obs_id": int(obs_id), "status": "refused", "reason": reason}
        for obs_id, reason in manifest["refused"].items()
    }
    for label, parts in leaves.items():
        for row in parts:
            piece = row.get("run", {}).get("piece", -1)
            _merge(rows.setdefault((row["obs_id"], piece), {}), row, label)
    return [rows[name] for name in sorted(rows)]


def _merge(merged: Row, row: Row, label: str) -> None:
    """Add the row of one label to the row of its run; the worst status of its labels is the run's."""
    merged["obs_id"] = row["obs_id"]
    for name, value in row.get("run", {}).items():
        merged[name] = _text(value) if isinstance(value, (list, dict)) else value
    for name, value in {"status": row["status"], **row.get("background", {})}.items():
        if name == "profiles":  # many numbers, for the report
            continue
        if name == "offset_deg":  # of the run from the target, whatever the background
            merged[name] = value
        elif isinstance(value, list):
            merged |= {f"{label}_{name}_{index}": item for index, item in enumerate(value)}
        else:
            merged[f"{label}_{name}"] = value
    if SEVERITY.index(row["status"]) >= SEVERITY.index(merged.get("status", "ok")):
        merged["status"], merged["reason"] = row["status"], row["reason"] or merged.get("reason", "")


def _text(value: list[Any] | dict[str, Any]) -> str:
    """Names, or names with numbers, in one cell."""
    return " ".join(value if isinstance(value, list) else (f"{key}={count}" for key, count in sorted(value.items())))


def write_run_table(manifest_path: Path, say: Callable[[str], None]) -> Path:
    """Write ``runs.ecsv`` (also ``runs.csv`` and ``runs.fits``) from the manifest of the plan; return the first."""
    folder = manifest_path.parents[1]
    manifest = read_json(manifest_path)
    rows = run_rows(manifest, folder)
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

    found = {name for row in rows for name in row}
    common = sorted(name for name in found if not name.startswith(tuple(f"{label}_" for label in labels)))
    names = sorted(common, key=lambda name: FIRST.index(_column(name)[0]) if _column(name)[0] in FIRST else len(FIRST))
    names += [name for label in labels for name in sorted(found) if name.startswith(f"{label}_")]
    table = Table(meta={"labels": labels})
    for name in names:
        column, unit = _column(name)
        values = [row.get(name) for row in rows]
        fill = next((type(value)() for value in values if value is not None), "")
        data = [fill if value is None else value for value in values]
        mask = [value is None for value in values]
        description = DESCRIPTIONS.get(column) or DESCRIPTIONS.get(column.partition("_")[2], "")
        table[column] = MaskedColumn(data, mask=mask, unit=unit, description=description)
    return table


def _column(name: str) -> tuple[str, str | None]:
    """Name and unit of a column, from a name with the unit at its end (or before the number of a group)."""
    stem, dot, group = name.rpartition("_") if name.rpartition("_")[2].isdigit() else (name, "", "")
    for ending, unit in UNITS.items():
        if stem.endswith(ending):
            return f"{stem.removesuffix(ending)}{dot}{group}", unit
    return name, None
