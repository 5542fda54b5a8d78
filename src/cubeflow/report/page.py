"""The report: one page that needs nothing but itself."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from cubeflow.errors import Say
from cubeflow.pipeline.certificate import certified, software
from cubeflow.pipeline.progress import Progress, progress_folder
from cubeflow.pipeline.tasks import PAGE, PICTURES, PRODUCTS, REGIONS, FiguresTask, ReportTask, files_of, inputs_of
from cubeflow.plan.jobs import read_jobs, read_made, read_targets
from cubeflow.products.tiles import ORDER, covered_ranges
from cubeflow.report import figures
from cubeflow.report.runs import Runs, count_warnings, left_out, pointings, read_runs, table_parts, without_folders
from cubeflow.report.skymap import HOT_SIGMA
from cubeflow.store.atomic import make_folder, replacing
from cubeflow.store.fits import write_coverage_fits

TEMPLATES = "cubeflow.report", "templates"
SECTIONS = (
    ("Where", ("significance",)),
    ("At the target", ("theta2", "energies")),
    ("In time", ("evolution",)),
    ("Is the background right?", ("off-source", "norms", "profiles")),
    ("What was seen", ("counts", "exposure")),
)
MAX_LEFT_OUT = 300
SHOWN = "obs_id", "status", "start", "zenith", "offset", "livetime", "energy_threshold", "counts_safe"
SHOWN_OF_LABEL = "excess", "significance", "norm_0"


@dataclass(frozen=True, eq=False)
class TargetSection:
    """One target on the page."""

    name: str  # also that of its folder
    runs: Runs  # its run table
    labels: Sequence[figures.LabelSection]
    asked: str = ""  # which runs were wanted, in words
    reason: str = ""  # why it has no run

    @property
    def verdict(self) -> str:
        """One line on whether there is a source, at the target or elsewhere."""
        found = [f"{each.facts['significance']} ({each.label})" for each in self.labels]
        words = list(dict.fromkeys(figures.verdict(each.significance) for each in self.labels))
        peaks = [each.hot_spots[0] for each in self.labels[:1] if each.hot_spots]
        far = [spot for spot in peaks if figures.verdict(spot.significance) == "Detected" not in words]
        away = "".join(f"; but {figures.spot_text(spot)}" for spot in far)
        about = ", ".join(found) or ("see below" if self.runs.n_runs else self.reason)
        return f"{' or '.join(words) or 'No run is left'}: {about}{away}"

    @property
    def sections(self) -> Iterator[tuple[str, list[list[tuple[str, figures.Figure]]]]]:
        """Headings, each with rows of figures: label by label those of one kind, or kind by kind what only one has."""
        for heading, kinds in SECTIONS:
            rows: list[list[tuple[str, figures.Figure]]] = []
            for kind in kinds:
                row = [(each.label, figure) for each in self.labels for figure in each.figures if figure.kind == kind]
                if len(row) == 1 and rows and len({figure.kind for _, figure in rows[-1]}) == len(rows[-1]):
                    rows[-1] += row
                elif row:
                    rows.append(row)
            if rows:
                yield heading, rows

    def spot_rows(self) -> Iterator[tuple[str, ...]]:
        """Hot spots of the labels, in words."""
        spots = ((each.label, spot) for each in self.labels for spot in each.hot_spots if spot.significance > HOT_SIGMA)
        for label, spot in spots:
            about = figures.position_text(spot.ra_deg, spot.dec_deg), f"{spot.offset_deg:.2f}°", str(spot.n_pixels)
            yield label, f"{spot.significance:.1f} σ", *about, "yes" if spot.is_excluded else "no"

    @property
    def links(self) -> list[str]:
        """Paths of its files, below the results."""
        names = ["runs.ecsv", "runs.csv", *(REGIONS if self.labels else ())]
        of_label = [f"{each.label}/{name}" for each in self.labels for name in (*PRODUCTS, *PICTURES)]
        return [f"{self.name}/{name}" for name in (*names, *of_label)]

    def table_parts(self) -> Iterator[str]:
        """Run table as JSON, with the columns that are shown at first."""
        names = [*SHOWN, *(f"{each.label}_{name}" for each in self.labels for name in SHOWN_OF_LABEL)]
        return table_parts(self.runs, names)

    def summary(self) -> Iterator[dict[str, str]]:
        """Line of the summary for each label, or for none."""
        if not self.labels:
            about = {"verdict": "No run is left", "runs": "0", "left_out": str(self.runs.n_runs)}
            names = "label", "method", "significance", "excess", "counts", "background", "livetime", "peak"
            yield dict.fromkeys(names, "–") | about
        for section in self.labels:
            about = {"label": section.label, "method": section.method, "verdict": figures.verdict(section.significance)}
            elsewhere = any(spot.significance >= figures.DETECTED for spot in section.hot_spots)
            about["verdict"] += ", but elsewhere" * (about["verdict"] != "Detected" and elsewhere)
            peaks = (f"{spot.significance:.1f} σ, {spot.offset_deg:.2f}°" for spot in section.hot_spots)
            about["peak"] = next(peaks, "–")
            yield about | dict(section.facts) | {"left_out": str(self.runs.n_runs - int(section.facts["runs"]))}


@dataclass(frozen=True, eq=False)
class Page:
    """A page of the report: of all targets, or of one of them."""

    key: str  # of what it was made of
    targets: Sequence[TargetSection]  # in the order of the configuration
    made: Mapping[str, str]  # how, in words: command, store, versions of programs
    is_index: bool = False  # the targets have their own pages
    root: str = ""  # from here to the results
    index: str = ""  # from here to the page of all targets
    left_out: Sequence[tuple[str, list[str]]] = ()  # files that may hold a run and cannot be used, each with why

    @property
    def how(self) -> Iterator[tuple[str, str]]:
        """How it was made, in words; with the runs that each target asked for, and the keys of its cubes."""
        yield from self.made.items()
        for target in self.targets:
            yield f"runs of {target.name}", target.asked
            yield from ((f"{target.name}, {each.label}", each.cube_key) for each in target.labels)


def side_by_side(pairs: Iterable[Iterable[tuple[str, str]]]) -> list[tuple[str, list[str]]]:
    """Names in order, each with its value in every column of pairs; with one value where all are the same."""
    columns = [dict(column) for column in pairs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, [column.get(name, "–") for column in columns]) for name in names]
    return [(name, values[:1] if len(set(values)) == 1 else values) for name, values in rows]


def do_job(plan_file: Path, name: str, say: Say, results: Path) -> None:
    """Draw the figures of a job of a plan that was written, or put the report together, in a folder of results."""
    (job,) = read_jobs(plan_file, [name])
    drawn = {task.target for task in job.tasks if isinstance(task, FiguresTask)}
    targets = read_targets(plan_file, drawn)
    for task in job.tasks:
        if isinstance(task, FiguresTask):
            say(f"{task.target}: {task.label}: {figures.make_figures(results, targets[task.target], task)}")
            Progress(progress_folder(results) / f"figures-{task.target}-{task.label}").step()
        elif isinstance(task, ReportTask):
            path = write_report(results, task, read_made(plan_file))
            say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def write_report(results: Path, task: ReportTask, made: Mapping[str, str]) -> Path:
    """Put the page together from run tables, and from the figures of each label; of many targets, a page each.

    Raises FailedError if the figures of a label are not there.
    """
    sections = []
    for target in task.targets:
        labels = [figures.read_figures(results, target.name, label, key) for label, key in target.labels.items()]
        runs = read_runs(results / target.name, target.table) if target.table else Runs({}, {})
        sections.append(TargetSection(target.name, runs, labels, target.asked, without_folders(target.reason)))
    made = {**made, **software(), "snakemake": version("snakemake")}
    *files, certificate = (results / file for file in files_of(task))
    paths = files[:-1] if task.has_tiles else files
    files_left_out = [(Path(name).name, [why]) for name, _, why in (line.partition(": ") for line in task.left_out)]
    whole = Page(task.key, sections, made, len(paths) > 1, "../" * (len(sections) == 1), left_out=files_left_out)
    own = replace(whole, is_index=False, root="../", index=f"../{PAGE}", left_out=())
    alone = [replace(own, targets=[each]) for each in sections[: len(paths) - 1]]
    read = [results / file for file in inputs_of(task) if file.endswith(".json")]
    with certified(certificate, task.key, files, task.recipe.record, read):
        if task.has_tiles:
            tiles = ((each.runs, about.reach_deg) for each, about in zip(sections, task.targets, strict=True))
            discs = {(*place, reach) for runs, reach in tiles if reach for place in pointings(runs).tolist()}
            write_coverage_fits(files[-1], covered_ranges(sorted(discs)), ORDER)
        for path, page in zip(paths, [whole, *alone], strict=True):
            make_folder(path.parent)
            with replacing(path) as file:
                file.writelines(make_page(page))
    return paths[0]


def make_page(page: Page) -> Iterator[bytes]:
    """HTML of a page, in parts; every string but the SVG is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader(*TEMPLATES), undefined=StrictUndefined, autoescape=True)
    environment.trim_blocks = environment.lstrip_blocks = True
    folder = files(TEMPLATES[0]) / TEMPLATES[1]
    script = "".join((folder / name).read_text("utf-8") for name in ("report.js", "alive.js"))
    environment.filters["markup"] = Markup
    parts = environment.get_template("report.html").generate(
        page=page,
        script=Markup(script),
        style=Markup((folder / "report.css").read_text("utf-8")),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        left_out_of=left_out,
        max_left_out=MAX_LEFT_OUT,
        warnings_of=count_warnings,
        side_by_side=side_by_side,
        shared=SECTIONS[-1][1],
    )
    return (part.encode() for part in parts)
