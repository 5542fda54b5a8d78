"""Tables for people, from the plain content that a program would read as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Plain = Mapping[str, Any]
MAX_ROWS = 50
FEW = 3  # files that are each shown in full
MEASURES = ("max_abs", "max_rel")
WIDE = 160  # columns where nobody looks through a terminal


def make_console() -> Console:
    """Console on standard output: colours and the width of the window in a terminal only."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False, emoji=False)


def print_table(console: Console, title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table, the first `MAX_ROWS` rows of it; nothing if it has no rows."""
    from rich import box
    from rich.table import Table

    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells[:MAX_ROWS]:
        table.add_row(*row)
    console.print(table)
    console.print()
    if len(cells) > MAX_ROWS:
        console.print(f"... and {len(cells) - MAX_ROWS} more; all with --json")


def show_file(about: Plain) -> None:
    """Print what `cubeflow.steps.inspect.describe_file` found."""
    console = make_console()
    console.print(f"{about['file']}: {about['format']}, {bytes_text(about['bytes'])}")
    {"artifact": _show_artifact, "fits": _show_fits, "table": _show_table}[about["format"]](console, about)


def _show_artifact(console: Console, about: Plain) -> None:
    form = "" if about["form"] == "dense" else f", {about['form']}"
    console.print(f"kind {about['kind']}{form}, algorithm {about['algorithm']}, key {about['key']}")
    cubes = {name: each for name, each in about["datasets"].items() if each["kind"] == "cube"}
    arrays = {name: each for name, each in about["datasets"].items() if each["kind"] != "cube"}
    grids: dict[str, list[str]] = {}
    for name, each in cubes.items():
        grids.setdefault(geometry_text(each["geometry"]), []).append(name)
    print_table(console, "Geometry", ("grid", "maps"), ((grid, ", ".join(names)) for grid, names in grids.items()))
    axes = {axis_text(axis) for each in cubes.values() for axis in each["axes"]}
    print_table(console, "Axes", ("axis",), ([axis] for axis in sorted(axes)))
    columns = ("name", "axes", "shape", "unit", "type", "sum", "min", "max", "not finite", "stored")
    print_table(
        console, "Maps and arrays", columns, (_dataset_row(*item) for item in [*cubes.items(), *arrays.items()])
    )
    print_table(console, "Results", ("name", "value"), flat(about["attributes"]))
    print_table(console, "Made of", ("name", "value"), flat(about["provenance"]))


def _dataset_row(name: str, each: Plain) -> list[str]:
    axes = ", ".join(axis["name"] for axis in each["axes"])
    shape = " x ".join(str(n) for n in each["shape"])
    return [name, axes, shape, each["unit"], each["dtype"], *totals_text(each), stored_text(each)]


def _show_fits(console: Console, about: Plain) -> None:
    columns = ("HDU", "kind", "shape or rows", "unit", "sum", "min", "max", "not finite")
    print_table(console, "", columns, (_hdu_row(hdu) for hdu in about["hdus"]))


def _hdu_row(hdu: Plain) -> list[str]:
    if hdu["kind"] == "image":
        shape = " x ".join(str(n) for n in hdu["shape"])
        return [hdu["name"], "image", shape, hdu["unit"], *totals_text(hdu)]
    rows = f"{hdu['rows']} rows: {', '.join(hdu['columns'])}" if hdu["kind"] == "table" else ""
    return [hdu["name"], hdu["kind"], rows, "", "", "", "", ""]


def _show_table(console: Console, about: Plain) -> None:
    status = ", ".join(f"{count} {name}" for name, count in sorted(about["status"].items()))
    console.print(f"{about['rows']} rows" + (f": {status}" if status else ""))
    rows = ((name, each["unit"], each["description"]) for name, each in about["columns"].items())
    print_table(console, "Columns", ("name", "unit", "what"), rows)


def show_difference(found: Plain, names: tuple[str, str]) -> None:
    """Print what `cubeflow.steps.diff.compare` found."""
    console = make_console()
    for side, name in zip(("first", "second"), names, strict=True):
        print_table(console, f"Only in {name}", ("file",), ([each] for each in found["only"][side]))
    listed = [each for each in found["files"] if len(found["files"]) > FEW and each["kind"] != "cube"]
    columns = ("file", "key", "maps that differ", "largest difference", "relative")
    print_table(console, "Runs", columns, (_file_row(each) for each in listed))
    for each in found["files"]:
        if each not in listed:
            _show_file_difference(console, each)
    rows = (
        (each["name"], short_text(each["first"]), short_text(each["second"]), each["files"]) for each in found["causes"]
    )
    print_table(console, "Why: what they were made of", ("name", *names, "files"), rows)
    if found["same"]:
        verdict = "the same"
    elif found["same_values"]:
        verdict = "the same values, made in another way"
    else:
        verdict = "different"
    console.print(f"{verdict}: {len(found['files'])} files differ, {found['equal']} are equal")


def _file_row(each: Plain) -> list[str]:
    """One line on the differences of a file, for those of many files."""
    names = ", ".join(dataset["name"] for dataset in each["datasets"])
    worst = [max((dataset.get(name) or 0.0 for dataset in each["datasets"]), default=0.0) for name in MEASURES]
    key = "same" if each["key"][0] == each["key"][1] else "other"
    return [each["names"][1], key, names, *(number_text(value) if names else "-" for value in worst)]


def _show_file_difference(console: Console, each: Plain) -> None:
    key = "same key" if each["key"][0] == each["key"][1] else f"keys {each['key'][0][:16]} and {each['key'][1][:16]}"
    console.print(f"{each['names'][0]} and {each['names'][1]}: {key}")
    columns = ("map", "bins", "largest difference", "relative", "first", "second", "where")
    print_table(console, "", columns, (_value_row(dataset) for dataset in each["datasets"]))
    rows = ((found["name"], short_text(found["first"]), short_text(found["second"])) for found in each["results"])
    print_table(console, "", ("result", "first", "second"), rows)


def _value_row(dataset: Plain) -> list[str]:
    if "problem" in dataset:
        return [dataset["name"], "", "", "", "", "", dataset["problem"]]
    where = dataset.get("place", str(dataset["index"]))
    numbers = [number_text(dataset[name]) for name in ("max_abs", "max_rel", "first", "second")]
    return [dataset["name"], str(dataset["count"]), *numbers, where]


def totals_text(each: Plain) -> list[str]:
    """Cells of sum, least and largest value, and how many are not finite."""
    found = each["totals"]
    return [*(number_text(found[name]) for name in ("sum", "min", "max")), str(found["not_finite"] or "")]


def number_text(value: float | None) -> str:
    """Number in six digits; a dash for none."""
    return "-" if value is None else str(value) if isinstance(value, (bool, int)) else f"{value + 0.0:.6g}"


def stored_text(each: Plain) -> str:
    """Size of a dataset in its file; a dash for one that is not stored."""
    return bytes_text(each["stored_bytes"]) if "stored_bytes" in each else "-"


def bytes_text(count: int) -> str:
    """Size in the unit that fits."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} B"


def geometry_text(geometry: Plain) -> str:
    """Frame, projection, centre and pixels in one line."""
    place = f"({geometry['lon_deg']:g}, {geometry['lat_deg']:g}) deg"
    pixels = f"{geometry['nx']} x {geometry['ny']} pixels of {geometry['pixel_deg']:g} deg"
    return f"{geometry['frame']} {geometry['projection']} at {place}, {pixels}"


def axis_text(axis: Plain) -> str:
    """Name, range and number of bins in one line."""
    edges = axis["edges"]
    return f"{axis['name']}: {edges[0]:g} to {edges[-1]:g} {axis['unit']}, {len(edges) - 1} bins, {axis['interp']}"


def flat(content: Plain, prefix: str = "") -> list[tuple[str, str]]:
    """Rows of name and value of nested mappings."""
    rows: list[tuple[str, str]] = []
    for name, value in sorted(content.items()):
        if isinstance(value, Mapping) and "crpix_x" in value:
            rows.append((f"{prefix}{name}", geometry_text(value)))
        elif isinstance(value, Mapping) and {"edges", "interp"} <= set(value):
            rows.append((f"{prefix}{name}", axis_text(value)))
        elif isinstance(value, Mapping) and name == "runs":
            rows.append((f"{prefix}{name}", f"{len(value)}: {short_text(' '.join(value))}"))
        elif isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", short_text(value)))
    return rows


def short_text(value: object) -> str:
    """Value in one short line; of a long list its length and ends."""
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} values, {short_text(value[0])} to {short_text(value[-1])}"
    if isinstance(value, list):
        return ", ".join(short_text(each) for each in value)
    text = number_text(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
