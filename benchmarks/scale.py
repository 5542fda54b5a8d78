"""Cost against runs, pixels and energy bins, on simulated runs, and what follows for surveys: docs/scale.md.

    make bench-scale                          measure, into benchmarks/scale.json, and write the page
    python benchmarks/scale.py --only plans   some parts: grids, events, plans; the others stay
    python benchmarks/scale.py --only         write the page again from what was measured
    python benchmarks/scale.py --quick        fewer runs, for a trial

CPU time is that of the process that reduces a batch; it depends little on what else the machine does, wall time is
not. The cost of a run is that of a batch of many runs less that of a batch of few, over the difference. Ten runs of
ten million events take 4 GB of disk while they are there, a store of 10^5 tiny runs next to nothing: its files are
links to a few.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import workflow_scale
import yaml
from astropy.io import fits
from page import largest, machine
from usage import kept_mb, run
from ways import CUBEFLOW, HERE, REPOSITORY, do, write_plan

from cubeflow.plan.jobs import read_jobs
from cubeflow.simulate.store import SimulationOptions, simulate_store, write_index

FIGURES, TEMPLATE = HERE / "scale.json", HERE / "scale.md.jinja"
WORKFLOW = HERE / "workflow.json"
PAGE = REPOSITORY / "docs" / "scale.md"
PIXELS = (0.08, 0.04, 0.028, 0.02)
BINS = (4, 8, 16, 32)
EVENTS = ((1, 10**5), (1, 10**6), (1, 10**7), (10, 10**7))  # runs, and events of each
RUNS = (10**4, 10**5)
MAX_LINKS = 50_000  # to a file; ext4 allows 65 000


@dataclass(frozen=True)
class Grid:
    """Geometry and axes of a batch: a field of view of `offset_max_deg`, bins of reconstructed and of true energy."""

    pixel_deg: float = 0.04
    bins: int = 8
    bins_true: int = 12
    offset_max_deg: float = 2.0
    width_deg: float = 5.5

    @property
    def pixels(self) -> float:
        """Pixels of the cutout of a run."""
        return (2 * self.offset_max_deg / self.pixel_deg) ** 2


STANDARD = Grid()
HESS = Grid(pixel_deg=0.02, bins=17, bins_true=24, offset_max_deg=2.5, width_deg=6.5)
CTAO = Grid(pixel_deg=0.02, bins=20, bins_true=30, offset_max_deg=4.0, width_deg=9.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, unless the page alone is asked for, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=("grids", "events", "plans"), default=["grids", "events", "plans"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    found = json.loads(options.figures.read_text()) if options.figures.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        if "grids" in options.only:
            found |= measure(*((1, 3) if options.quick else (2, 8)))
        if "events" in options.only:
            found["events"] = [large_runs(Path(name), *each) for each in EVENTS[: 2 if options.quick else None]]
        if "plans" in options.only:
            found["plans"] = [plan_many(Path(name), n) for n in RUNS[: 1 if options.quick else None]]
    options.figures.write_text(json.dumps(found, indent=1) + "\n")
    options.page.write_text(render(json.loads(options.figures.read_text())))


def measure(few: int, many: int) -> dict[str, Any]:
    """Measure everything with batches of `few` and of `many` runs; plain numbers."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "store"
        simulate_store(store, SimulationOptions(n_runs=many, shared_irf=True, offset_max_deg=3.9))
        found: dict[str, Any] = {
            "runs": [reduce(store, STANDARD, n_runs) for n_runs in sorted({1, 2, 4, 8, few, many}) if n_runs <= many],
            "pixels": [per_run(store, replace(STANDARD, pixel_deg=pixel), few, many) for pixel in PIXELS],
            "bins": [per_run(store, replace(STANDARD, bins=bins, bins_true=bins * 3 // 2), few, many) for bins in BINS],
        }
        found |= {key: per_run(store, grid, few, many) for key, grid in (("hess", HESS), ("ctao", CTAO))}
    about = {"machine": machine(), "load": [load, os.getloadavg()[0]], "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    return {**found, "few": few, "many": many, "about": about}


def per_run(store: Path, grid: Grid, few: int, many: int) -> dict[str, Any]:
    """Cost of one more run in a batch, and of what comes before the first."""
    low, high = reduce(store, grid, few), reduce(store, grid, many)
    cpu = (high["cpu"] - low["cpu"]) / (many - few)
    return {**high, "cpu": cpu, "start": low["cpu"] - few * cpu, "disk": high["disk"] / many}


def reduce(store: Path, grid: Grid, n_runs: int) -> dict[str, Any]:
    """Reduce a batch of runs, and export it: plain numbers, with the grid and the voxels of a run's maps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, plan = write_plan(write_config(store, grid, n_runs, folder), folder)
        used, final = do("reduce", plan, folder), do("export", plan, folder)
        kept = {"disk": kept_mb(folder / "results"), "sum": kept_mb(folder / "results", "stack")}
    row = {**asdict(grid), "pixels": grid.pixels, "voxels": grid.pixels * (grid.bins + grid.bins_true)}
    row |= {"n_runs": n_runs, "cpu": used.cpu, "memory": used.memory, **kept}
    return {**printed(row), "finish": final.cpu, "finish_memory": final.memory}


def large_runs(folder: Path, n_runs: int, n_events: int) -> dict[str, Any]:
    """Reduce a batch of runs of so many events, drawn from those of simulated runs: what was asked for, and used."""
    store, options = folder / "large", SimulationOptions(n_runs=n_runs, shared_irf=True)
    simulate_store(store, options)
    for obs_id in options.obs_ids:
        draw_again(store / f"obs_{obs_id}.fits.gz", n_events)
    place = folder / f"{n_runs}x{n_events}"
    place.mkdir()
    _, plan = write_plan(write_config(store, HESS, n_runs, place), place)
    asked, used = max(job.memory_mb for job in read_jobs(plan) if job.kind == "reduce"), do("reduce", plan, place)
    shutil.rmtree(store)
    return printed({"n_runs": n_runs, "n_events": n_events, "asked": asked, **asdict(used)})


def draw_again(path: Path, n_events: int) -> None:
    """Put so many events, drawn from those that a run has, into it; it is not compressed then, which its name hides."""
    with fits.open(path, memmap=False) as hdus:
        few, rng = hdus["EVENTS"].data, np.random.default_rng(n_events)
        events = np.asarray(few)[rng.integers(0, len(few), n_events)]
        events["TIME"] = np.sort(rng.uniform(few["TIME"].min(), few["TIME"].max(), n_events))
        header = hdus["EVENTS"].header
        for key in ("CHECKSUM", "DATASUM"):
            header.remove(key)
        hdus["EVENTS"] = fits.BinTableHDU(events, header)
        hdus.writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def plan_many(folder: Path, n_runs: int) -> dict[str, Any]:
    """Plan so many runs, whose files are links to a few, with files never seen before and again."""
    place = folder / f"plan{n_runs}"
    workflow_scale.simulate(place, 1)
    first = source = place / "store" / f"obs_{workflow_scale.FIRST}.fits.gz"
    for number in range(1, n_runs):
        path = first.with_name(f"obs_{workflow_scale.FIRST + number}.fits.gz")
        if number % MAX_LINKS:
            os.link(source, path)
        else:
            source = Path(shutil.copy(first, path))
    obs_ids = range(workflow_scale.FIRST, workflow_scale.FIRST + n_runs)
    write_index(first.parent, workflow_scale.OPTIONS, obs_ids)
    new, again = (asdict(run(CUBEFLOW, "plan", "-c", "config.yaml", folder=place)) for _ in range(2))
    return printed({"n_runs": n_runs, "new": new, "again": again})


def printed(row: dict[str, Any]) -> dict[str, Any]:
    """Say what was measured as it comes."""
    print(row, flush=True)
    return row


def write_config(store: Path, grid: Grid, n_runs: int, folder: Path) -> Path:
    """Write the configuration of a batch."""
    config = {
        "data": {"store": str(store)},
        "results": str(folder / "results"),
        "targets": {
            "field": {
                "observations": {"ids": list(SimulationOptions(n_runs=n_runs).obs_ids)},
                "position": {"frame": "icrs", "lon": "83.633 deg", "lat": "22.014 deg"},
                "geometry": {"width": [f"{grid.width_deg} deg"] * 2, "pixel": f"{grid.pixel_deg} deg"},
            }
        },
        "energy": {"min": "0.5 TeV", "max": "50 TeV", "bins": grid.bins},
        "energy_true": {"min": "0.3 TeV", "max": "80 TeV", "bins": grid.bins_true},
        "offset_max": f"{grid.offset_max_deg} deg",
        # more events are drawn than the responses say: any norm will do
        "backgrounds": {"fov": {"method": "fov", "on_failure": "keep", "norm_max": 1e6}},
        "stack": {"batch": 1024},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def exponent(rows: Sequence[dict[str, Any]], x: str, y: str) -> dict[str, float]:
    """Exponent of y over x over all points, and between the two largest."""
    at, value = (np.log([row[name] for row in rows]) for name in (x, y))
    return {"all": float(np.polyfit(at, value, 1)[0]), "last": float((value[-1] - value[-2]) / (at[-1] - at[-2]))}


def line(rows: Sequence[dict[str, Any]], x: str, y: str) -> dict[str, float]:
    """Straight line through the points: the value at 0, and the slope."""
    slope, start = np.polyfit([row[x] for row in rows], [row[y] for row in rows], 1)
    return {"start": float(start), "slope": float(slope)}


def render(found: dict[str, Any]) -> str:
    """Page in Markdown."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    workflow = json.loads(WORKFLOW.read_text())["tables"]
    tables = {"small": workflow["1000 simulated runs"], "large": workflow["10000 simulated runs"]}
    functions = {"exponent": exponent, "line": line, "largest": largest}
    return environment.from_string(TEMPLATE.read_text()).render(**found, **tables, **functions)


if __name__ == "__main__":
    main()
