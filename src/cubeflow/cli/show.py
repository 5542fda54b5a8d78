"""Tables for people, from the plain content that a program would read as JSON."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cubeflow.errors import counted

if TYPE_CHECKING:
    from cubeflow.tools.check import CheckedRun

Plain = Mapping[str, Any]
MAX_ROWS = 50
FEW = 3  # files that are each shown in full
TOTALS = ("sum", "min", "max", "not finite")
WIDE = 160  # columns where nobody looks through a terminal


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table, the first `MAX_ROWS` rows of it; nothing if it has no rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    cells = [[cell if isinstance(cell, str) else short_text(cell) for cell in row] for row in rows]
    if not cells:
        return
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells[:MAX_ROWS]:
        table.add_row(*row)
    # Colours and the width of the window in a terminal only.
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False, emoji=False)
    console.print(table, "")
    if len(cells) > MAX_ROWS:
        click.echo(f"... and {len(cells) - MAX_ROWS} more; all with --json")


def show_check(runs: "Sequence[CheckedRun]", left_out: Sequence[str], idle: Sequence[str]) -> None:
    """Print tables of runs, of quirks, of refusals, and of files: those `left_out`, and those that nobody reads."""
    from cubeflow.dl3.quirks import QUIRKS

    met = Counter(name for run in runs for name in run.quirks)
    quirks = [(name, met[name], quirk.description) for name, quirk in QUIRKS.items() if name in met]
    rows = []
    for run in (run for run in runs if not run.reason):
        # Some repairs are quirks, too, and told as these.
        told = ((name, count) for name, count in run.repairs.items() if name.replace("_", "-") not in run.quirks)
        repairs = " ".join(f"{name}={count}" for name, count in told)
        rows.append((run.obs_id, run.object_name, run.n_events, f"{run.livetime_s:.1f}", len(run.quirks), repairs))
    refused = [(run.obs_id, run.reason) for run in runs if run.reason]
    print_table("Runs", ("run", "object", "events", "livetime / s", "quirks", "repairs"), rows)
    print_table("Quirks", ("quirk", "runs", "what files do, and how it is read"), quirks)
    print_table("Refused", ("run", "why"), refused)
    print_table("Files that may hold a run and cannot be used", ("why",), zip(left_out, strict=True))
    print_table("Files that nobody reads", ("why",), zip(idle, strict=True))
    files = f"{counted(len(left_out), 'file')} left out, {counted(len(idle), 'file')} that nobody reads"
    click.echo(f"{counted(len(runs), 'run')}, {len(refused)} refused, {files}")


def show_file(about: Plain) -> None:
    """Print what `cubeflow.tools.inspect.describe_file` found."""
    from rich.filesize import decimal

    click.echo(f"{about['file']}: {about['format']}, {decimal(about['bytes'])}")
    if about["format"] == "artifact":
        _show_artifact(about)
    elif about["format"] == "fits":
        rows = ((hdu["name"], hdu["kind"], _extent(hdu), hdu.get("unit", ""), *_totals(hdu)) for hdu in about["hdus"])
        print_table("", ("HDU", "kind", "shape or rows", "unit", *TOTALS), rows)
    else:
        status = ", ".join(f"{count} {name}" for name, count in sorted(about["status"].items()))
        click.echo(counted(about["rows"], "row") + (f": {status}" if status else ""))
        columns = ((name, each["unit"], each["description"]) for name, each in about["columns"].items())
        print_table("Columns", ("name", "unit", "what"), columns)


def _show_artifact(about: Plain) -> None:
    click.echo(f"kind {about['kind']}, algorithm {about['algorithm']}, key {about['key']}")
    grids: dict[str, list[str]] = defaultdict(list)
    axes: dict[str, None] = {}
    rows = []
    for name, each in sorted(about["datasets"].items(), key=lambda item: item[1]["kind"] != "cube"):
        if "geometry" in each:
            grids[short_text(each["geometry"])].append(name)
            axes |= dict.fromkeys(map(short_text, each["axes"]))
        names = ", ".join(axis["name"] for axis in each.get("axes", ()))
        rows.append((name, names, _extent(each), each.get("unit", ""), each["dtype"], *_totals(each)))
    print_table("Geometry", ("grid", "maps"), ((grid, ", ".join(names)) for grid, names in grids.items()))
    print_table("Axes", ("axis",), ([axis] for axis in sorted(axes)))
    print_table("Maps and arrays", ("name", "axes", "shape", "unit", "type", *TOTALS), rows)
    print_table("Results", ("name", "value"), flat(about["attributes"]))
    print_table("Made of", ("name", "value"), flat(about["provenance"]))


def _extent(each: Plain) -> str:
    """Shape of an array, rows and columns of a table."""
    if "rows" in each:
        return f"{counted(each['rows'], 'row')}: {', '.join(each['columns'])}"
    return " x ".join(map(str, each.get("shape", ())))


def _totals(each: Plain) -> list[object]:
    """Cells of `TOTALS`."""
    found = each.get("totals")
    return [found["sum"], found["min"], found["max"], found["not_finite"] or ""] if found else [""] * 4


def show_difference(found: Plain, names: tuple[str, str]) -> None:
    """Print what `cubeflow.tools.diff.compare` found."""
    for side, name in zip(("first", "second"), names, strict=True):
        print_table(f"Only in {name}", ("file",), ([each] for each in found["only"][side]))
    listed = [each for each in found["files"] if len(found["files"]) > FEW and each["kind"] != "cube"]
    columns = ("file", "key", "maps that differ", "largest difference", "relative")
    rows = []
    for each in listed:  # of many files one line each
        maps, key = each["datasets"], "same" if each["key"][0] == each["key"][1] else "other"
        worst = [max((one[name] for one in maps if one.get(name)), default=None) for name in ("max_abs", "max_rel")]
        rows.append([each["names"][1], key, ", ".join(one["name"] for one in maps), *worst])
    print_table("Runs", columns, rows)
    for each in found["files"]:
        if each not in listed:
            _show_file_difference(each)
    print_table("Products and run tables whose bytes differ", ("file",), ([each] for each in found["products"]))
    causes = ((each["name"], *_sides(each), each["files"]) for each in found["causes"])
    print_table("Why: what they were made of", ("name", *names, "files"), causes)
    verdict = "the same values, made in another way" if found["same_values"] else "different"
    verdict = "the same" if found["same"] else verdict
    n_only = sum(map(len, found["only"].values()))
    only = f", {n_only} in one folder only" if n_only else ""
    click.echo(f"{verdict}: of HDF5 files, {len(found['files'])} differ, {found['equal']} are equal{only}")
    if found["not_compared"]:
        click.echo(f"not compared: {', '.join(found['not_compared'])}")


def _show_file_difference(each: Plain) -> None:
    key = "same key" if each["key"][0] == each["key"][1] else f"keys {each['key'][0][:16]} and {each['key'][1][:16]}"
    click.echo(f"{each['names'][0]} and {each['names'][1]}: {key}")
    measures = ("count", "max_abs", "max_rel", "first", "second")
    rows = []
    for one in each["datasets"]:
        where = one.get("problem") or one.get("place") or str(one["index"])
        rows.append([one["name"], *("" if "problem" in one else one[name] for name in measures), where])
    columns = ("map", "bins", "largest difference", "relative", "first", "second", "where")
    print_table("", columns, rows)
    print_table("", ("result", "first", "second"), ((one["name"], *_sides(one)) for one in each["results"]))


def _sides(each: Plain) -> list[str]:
    return [short_text(each["first"]), short_text(each["second"])]


def flat(content: Plain, prefix: str = "") -> list[tuple[str, str]]:
    """Rows of name and value of nested mappings."""
    rows: list[tuple[str, str]] = []
    for name, value in sorted(content.items()):
        if not isinstance(value, Mapping) or "crpix_x" in value or "interp" in value:
            rows.append((f"{prefix}{name}", short_text(value)))
        elif name == "runs":
            rows.append((f"{prefix}{name}", f"{len(value)}: {short_text(' '.join(value))}"))
        else:
            rows += flat(value, f"{prefix}{name}.")
    return rows


def short_text(value: Any) -> str:
    """Value in one short line: numbers in six digits, a dash for none, of a long list its length and ends."""
    if isinstance(value, Mapping) and "crpix_x" in value:
        place = f"({value['lon_deg']:g}, {value['lat_deg']:g}) deg"
        pixels = f"{value['nx']} x {value['ny']} pixels of {value['pixel_deg']:g} deg"
        return f"{value['frame']} {value['projection']} at {place}, {pixels}"
    if isinstance(value, Mapping) and "interp" in value:
        edges = value["edges"]
        ends = f"{edges[0]:g} to {edges[-1]:g} {value['unit']}"
        return f"{value['name']}: {ends}, {counted(len(edges) - 1, 'bin')}, {value['interp']}"
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} values, {short_text(value[0])} to {short_text(value[-1])}"
    if isinstance(value, list):
        return ", ".join(short_text(each) for each in value)
    text = "-" if value is None else f"{value + 0.0:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
