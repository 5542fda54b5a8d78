"""The rule ``report``: pictures and regions of every target, and the page that shows all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cubeflow.maps import geometry_from_plain
from cubeflow.plan.write import read_json
from cubeflow.report.ds9 import exclusion_regions, pointing_regions
from cubeflow.report.page import LabelSection, Page, TableData, TargetSection, make_page
from cubeflow.report.skymap import Field
from cubeflow.steps.exclusion import planned_masks, read_exclusions
from cubeflow.steps.report_kept import keep_label
from cubeflow.steps.report_label import LabelInput, summary_line
from cubeflow.steps.report_plan import report_content
from cubeflow.steps.rows import Row, TargetRows, target_rows
from cubeflow.steps.table import make_columns
from cubeflow.steps.timing import planned_jobs, read_timing
from cubeflow.storage.atomic import write_atomic, write_parts

Say = Callable[[str], None]
MAX_LEFT_OUT = 300
SHOWN = (
    "obs_id",
    "status",
    "object",
    "zenith",
    "offset",
    "livetime",
    "energy_threshold",
    "counts_safe",
    "excess",
    "significance",
)
SHOWN_OF_LABEL = ("norm_0", "norm_err_0", "excess", "significance")
LIBRARIES = ("cubeflow", "snakemake", "numpy", "scipy", "astropy", "h5py")


@dataclass(frozen=True, eq=False)
class TargetInput:
    """What is read of a target before its cubes.

    Parameters
    ----------
    name : str
        Its name.
    folder : Path
        Its results.
    finals : mapping of str to mapping
        Manifest of the final products of each label.
    runs : TargetRows
        Run table, and what its labels have in common.
    table_key : str
        Key of the run table.
    """

    name: str
    folder: Path
    finals: Mapping[str, Mapping[str, Any]]
    runs: TargetRows
    table_key: str


def write_report(results: Path, manifest_path: Path | None, say: Say) -> Path:
    """Write ``report.html``, and beside each cube its pictures and regions.

    Parameters
    ----------
    results : Path
        Results folder.
    manifest_path : Path or None
        Manifest of the report; None for the current plan.
    say : callable
        Takes one line.

    Returns
    -------
    Path
        The page, which is written last.
    """
    index = read_json(manifest_path or results / "plan.json")["targets"]
    content = report_content({name: part for name, part in index.items() if part["finals"] or part.get("refused", 1)})
    n_finals = sum(len(part["finals"]) for part in content["targets"].values())
    sections, lines, keys = [], [], []
    for name, part in content["targets"].items():
        target = read_target(results, name, part)
        section, made = make_target(target, n_finals)
        sections.append(section)
        lines += made
        keys += [(f"{name}, {label}", str(final["key"])) for label, final in target.finals.items()]
        say(f"{name}: {len(target.finals)} backgrounds, {len(target.runs)} runs; {target.folder}")
    timing = read_timing(results / "benchmarks", planned_jobs(read_json(results / "plan.json")["targets"]))
    page = Page("cubeflow report", content["key"], lines, sections, versions_of(LIBRARIES), keys, timing)
    path = results / "report.html"
    write_parts(path, make_page(page))
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return path


def read_target(results: Path, name: str, part: Mapping[str, Any]) -> TargetInput:
    """Read manifests and rows of a target."""
    folder = results / name
    table = read_json(folder / "plan" / part["table"])
    finals = {label: read_json(folder / "plan" / final) for label, final in part["finals"].items()}
    return TargetInput(name, folder, finals, target_rows(table, folder), table["key"])


def make_target(target: TargetInput, n_finals: int) -> tuple[TargetSection, list[dict[str, str]]]:
    """Section of a target and its lines of the summary; writes its regions and pictures."""
    labels: list[LabelSection] = []
    lines = []
    links = [(f"runs.{ending}", f"{target.name}/runs.{ending}") for ending in ("ecsv", "csv")]
    if target.finals:
        field = write_regions(target)
        links += [(region, f"{target.name}/{region}") for region in ("exclusion.reg", "pointings.reg")]
        for label, manifest in target.finals.items():
            given = LabelInput(target.name, label, manifest, target.folder, target.runs, target.table_key)
            section, summary = keep_label(given, field, n_finals)
            labels.append(section)
            lines.append(summary_line(given, summary))
    return target_section(target, labels, links), lines


def target_section(
    target: TargetInput, labels: Sequence[LabelSection], links: Sequence[tuple[str, str]]
) -> TargetSection:
    """Words and tables of a target around the sections of its labels."""
    left_out, n_left_out = find_left_out(target.runs)
    return TargetSection(
        name=target.name,
        facts=target_facts(target, n_left_out),
        table=run_table(target.runs, n_left_out),
        labels=labels,
        left_out=left_out,
        more_left_out=n_left_out - len(left_out),
        warnings=count_warnings(target.runs.rows("quirks", "repairs")),
        links=links,
    )


def find_left_out(runs: TargetRows) -> tuple[list[tuple[int, str, str]], int]:
    """Run, status and reason of the first runs that were not used, and the number of all."""
    left_out = (row for row in runs.rows("obs_id", "status", "reason") if row["status"] != "ok")
    first = [(row["obs_id"], row["status"], row["reason"]) for row in islice(left_out, MAX_LEFT_OUT)]
    return first, len(first) + sum(1 for _ in left_out)


def write_regions(target: TargetInput) -> Field:
    """Write the DS9 files of a target; return what its images share."""
    final = next(iter(target.finals.values()))
    geom, files = geometry_from_plain(final["geometry"]), final["settings"]["exclusion"]
    keep = planned_masks(final).mask(geom)
    regions = exclusion_regions(read_exclusions(files), keep, geom)
    write_atomic(target.folder / "exclusion.reg", regions.encode())
    rows = partial(target.runs.rows, "obs_id", "status", "ra_pnt_deg", "dec_pnt_deg")
    write_parts(target.folder / "pointings.reg", (line.encode() for line in pointing_regions(rows())))
    known = (row for row in rows() if row["status"] == "ok" and row["ra_pnt_deg"] is not None)
    pointings = np.fromiter((row[name] for row in known for name in ("ra_pnt_deg", "dec_pnt_deg")), float)
    position = final["export"]["ra_deg"], final["export"]["dec_deg"]
    return Field(geom, keep, pointings.reshape(-1, 2), position, target.name)


def target_facts(target: TargetInput, n_left_out: int) -> list[tuple[str, str]]:
    """Position and numbers of runs."""
    facts = [("runs selected", str(len(target.runs))), ("left out", str(n_left_out))]
    for final in list(target.finals.values())[:1]:
        position = final["export"]
        facts.insert(0, ("position (ICRS)", f"{position['ra_deg']:.4f}° {position['dec_deg']:+.4f}°"))
    return facts


def run_table(runs: TargetRows, n_left_out: int) -> TableData:
    """Run table for the page: the columns of ``runs.ecsv``."""
    labels = list(runs.used)
    shown = [*SHOWN, *(f"{label}_{name}" for label in labels for name in SHOWN_OF_LABEL)]
    if n_left_out:
        shown.append("reason")
    return TableData(len(runs), make_columns(runs.columns, labels), shown)


def count_warnings(rows: Iterable[Row]) -> list[tuple[str, int, str]]:
    """Deviations and repairs with the number of runs that have them, the most frequent first."""
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        found.update({(name, "deviation") for name in str(row.get("quirks") or "").split()})
        found.update({(each.partition("=")[0], "repair") for each in str(row.get("repairs") or "").split()})
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(name, number, kind) for (name, kind), number in ordered]


def versions_of(packages: Sequence[str]) -> list[tuple[str, str]]:
    """Installed version of each package that is there."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in packages:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found
