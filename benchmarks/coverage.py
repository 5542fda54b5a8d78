"""Do errors, limits and significances cover the truth? docs/coverage.md, from simulated surveys.

    make coverage                             4 000 surveys, into benchmarks/coverage.json, and the page
    make coverage COVERAGE=100                fewer, for a trial
    python benchmarks/coverage.py --render    write the page again from what was found

A survey is a run on an empty field or on a source of known flux, with a background, norms, flux and limit of its own.
One call of the workflow reduces all of them, in several ways; the truth comes from the simulator alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2
import matplotlib
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.stats import poisson
from ways import HERE, REPOSITORY, snakemake_products

import cubeflow
from cubeflow.maps import make_geometry
from cubeflow.maps.sphere import angular_distance_deg, lon_lat
from cubeflow.products.cash import excess_above, make_significance_cash
from cubeflow.products.significance import LIMIT_RISE, LIMIT_SIGMA, disc_pixels
from cubeflow.simulate.array import REFERENCE_ZENITH_DEG, SimulationOptions, make_responses, plan_run
from cubeflow.simulate.events import CM2_PER_M2, SOURCE_AMPLITUDE, SOURCE_INDEX, draw_source
from cubeflow.simulate.store import simulate_run, write_index

matplotlib.use("agg")
from matplotlib import pyplot as plt

FIGURES, TEMPLATE = HERE / "coverage.json", HERE / "coverage.md.jinja"
PAGE = REPOSITORY / "docs" / "coverage.md"
PICTURE = REPOSITORY / "docs" / "gallery" / "coverage.svg"
CENTRE = (83.633, 22.014)
RADIUS_DEG = 0.1
EDGES_TEV = tuple(np.geomspace(1.0, 10.0, 5).round(6).tolist())
FIRST_RUN = {0.0: 100_001, 0.1: 110_001, 0.3: 120_001, 1.0: 130_001}  # by the flux of the source in Crab nebulae
ONE_SIGMA, ONE_SIDED, LIMIT = 0.682689, 0.841345, 0.95
LONG_S = 1e6  # livetime in which the simulator shows where events of a source fall
Pulls = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """Surveys of one kind: what is in their fields, and how they are reduced."""

    title: str
    flux: float  # of the source, in Crab nebulae
    labels: tuple[str, ...] = ("fov", "ring", "adaptive")
    edges_tev: tuple[float, ...] = EDGES_TEV
    settings: Mapping[str, Any] = field(default_factory=dict)  # of its own


SOURCE = {
    "position": {"lon": f"{CENTRE[0]} deg", "lat": f"{CENTRE[1]} deg"},
    "amplitude": f"{SOURCE_AMPLITUDE} cm-2 s-1 TeV-1",
    "spectrum": {"type": "power-law", "index": SOURCE_INDEX},
}
BACKGROUNDS = {
    "fov": {"method": "fov", "energy_groups": 2},
    "tilt": {"method": "fov", "fit": "tilt"},
    "model": {"method": "fov", "energy_groups": 2, "sky_model": [SOURCE]},
    "ring": {"method": "ring", "r_in": "0.4 deg", "width": "0.3 deg"},
    "adaptive": {
        "method": "adaptive-ring",
        "r_in": "0.35 deg",
        "width": "0.2 deg",
        "r_out_max": "0.95 deg",
        "step": "0.2 deg",
    },
}
ALL = ("fov", "tilt", "ring", "adaptive")
SELF = {"acceptance": {"model": "self"}}
KINDS = {
    "empty": Kind("no source", 0.0, ALL),
    "empty-few": Kind("no source, few counts", 0.0, ALL, EDGES_TEV[2:]),
    "empty-self": Kind("no source, acceptance from the events", 0.0, ("fov", "ring"), settings=SELF),
    "faint": Kind("0.1 Crab", 0.1),
    "weak-few": Kind("0.3 Crab, few counts", 0.3, edges_tev=EDGES_TEV[2:]),
    "bright": Kind("1 Crab", 1.0, ("fov", "ring")),
    "bright-open": Kind("1 Crab, nothing excluded", 1.0, ("model",), settings={"exclusion": []}),
}
# Maps are made of the first runs of a kind, in stacks by night, of 4 runs, or by run, for the width off source.
MAPS = {"nights": ("empty", 80, "night"), "runs": ("empty", 20, "run"), "few": ("empty-few", 20, "run")}


@dataclass(frozen=True)
class Figure:
    """How often something covers the truth, in surveys of a kind and a background."""

    kind: str
    label: str
    what: str  # norm, tilt, significance, flux, flux upwards, limit
    n: int
    share: float
    error: float  # binomial
    expected: float
    mean: float | None = None  # of the pulls, as is the width
    width: float | None = None


def simulate(folder: Path, each: int) -> None:
    """Write a store with so many surveys of each flux, and the configuration."""
    store = folder / "store"
    for flux, first in FIRST_RUN.items():
        for number in range(first, first + each):
            simulate_run(store, number, options_of(flux))
    write_index(store, options_of(0.0))
    (folder / "exclusion.reg").write_text(f"icrs\ncircle({CENTRE[0]}, {CENTRE[1]}, 0.3)\n")
    (folder / "config.yaml").write_text(json.dumps(configuration(each)))


def options_of(flux: float) -> SimulationOptions:
    """What is in a field."""
    sources = ((*CENTRE, flux),) if flux else ()
    return SimulationOptions(seed=20, sources=sources, offset_max_deg=1.5, tiny=True, shared_irf=True)


def configuration(each: int) -> dict[str, Any]:
    """All kinds as targets of one store, and beside them maps of the first surveys of two of them."""

    def target(kind: Kind, runs: int, width_deg: float, **more: object) -> dict[str, Any]:
        first = FIRST_RUN[kind.flux]
        return {
            "position": SOURCE["position"],
            "geometry": {"width": f"{width_deg} deg", "pixel": "0.02 deg"},
            "observations": {"ids": list(range(first, first + min(runs, each)))},
            "energy": {"edges": [f"{edge} TeV" for edge in kind.edges_tev]},
            "backgrounds": {label: BACKGROUNDS[label] for label in kind.labels},
            **kind.settings,
            **more,
        }

    targets = {name: target(kind, each, 0.5) for name, kind in KINDS.items()}
    for name, (kind, runs, by) in MAPS.items():
        labels = {label: BACKGROUNDS[label] for label in ("fov", "ring", "adaptive")}
        part = min(1.0, max(each / 400, 0.25))
        targets[name] = target(KINDS[kind], round(part * runs), 2.0, stack={"by": by}, backgrounds=labels)
    return {
        "data": {"store": "store"},
        "targets": targets,
        "energy_true": {"min": "0.3 TeV", "max": "30 TeV", "bins": 20},
        "irf_grid": {"pixel": "0.5 deg", "rad_max": "0.6 deg", "rad_bins": 30},
        "offset_max": "1.3 deg",
        "exclusion": "exclusion.reg",
        "spectrum": {"type": "power-law", "index": SOURCE_INDEX},
        "significance": {"radius": f"{RADIUS_DEG} deg"},
        "stack": {"batch": 500},
        "artifacts": {"keep": "none"},
    }


@cache
def contained(edges_tev: tuple[float, ...]) -> dict[float, float]:
    """Part of the events of a source at these energies that falls into the disc, by its offset from the pointing, deg.

    It is that of the events which the simulator draws in a long run; pointings lie at three offsets.
    """
    table, found = make_responses(REFERENCE_ZENITH_DEG, tiny=True), {}
    for number in range(3):
        run = plan_run(number, options_of(0.0))
        pointing = run.ra_pnt_deg, run.dec_pnt_deg
        energy, direction = draw_source(np.random.default_rng(1), table, pointing, (*CENTRE, 1.0), LONG_S)
        used = (energy >= edges_tev[0]) & (energy < edges_tev[-1])
        distance = angular_distance_deg(CENTRE, lon_lat(direction[used]))
        found[round(float(angular_distance_deg(CENTRE, pointing)), 3)] = float(np.mean(distance < RADIUS_DEG))
    return found


def true_fluxes(kind: Kind, offset_deg: Pulls) -> Pulls:
    """Flux of the source within the disc in the kind's energies, m-2 s-1, for runs at some offsets, shape (n,)."""
    slope = 1.0 - SOURCE_INDEX
    low, *_, high = np.power(kind.edges_tev, slope)
    whole = kind.flux * SOURCE_AMPLITUDE * CM2_PER_M2 * (high - low) / slope
    return np.array([whole * contained(kind.edges_tev)[round(float(each), 3)] for each in offset_deg])


def columns(runs: Table, name: str) -> Pulls:
    """Column of a run table, of all energy groups if there are several; NaN where there is no answer."""
    found = [each for each in runs.colnames if each == name or (each.rpartition("_")[0] == name and each[-1].isdigit())]
    return np.concatenate([np.ma.filled(runs[each].astype(float), np.nan) for each in found])


def compare(runs: Table, kind: Kind, label: str) -> Iterator[tuple[str, float, Pulls, NDArray[np.bool]]]:
    """What a run table says of a background: name, how often it should cover the truth, pulls, and whether it does."""
    if label in ("fov", "tilt", "model"):
        for what, true in (("norm", 1.0), ("tilt", 0.0)) if label == "tilt" else (("norm", 1.0),):
            pulls = (columns(runs, f"{label}_{what}") - true) / columns(runs, f"{label}_{what}_err")
            pulls = pulls[np.isfinite(pulls)]
            yield what, ONE_SIGMA, pulls, np.abs(pulls) <= 1
    significance = columns(runs, f"{label}_significance")
    known = np.isfinite(significance)
    if not kind.flux:
        yield "significance", ONE_SIGMA, significance[known], np.abs(significance[known]) <= 1
        return
    truth = true_fluxes(kind, runs["offset"])[known]
    flux, error, limit = (columns(runs, f"{label}_{name}")[known] for name in ("flux", "flux_err", "flux_ul"))
    pulls = (flux - truth) / error
    yield "flux", ONE_SIGMA, pulls, np.abs(pulls) <= 1
    yield "flux upwards", ONE_SIDED, pulls, pulls >= -1
    if kind.flux < 1:
        yield "limit", LIMIT, np.zeros(0), ~(limit < truth)  # a detection has no limit, which excludes nothing


def measure(results: Path) -> Iterator[tuple[Figure, Pulls]]:
    """Compare all run tables with the truth; also the pulls. Fields with many counts are also taken together."""
    together: dict[tuple[str, str], list[tuple[float, Pulls, NDArray[np.bool]]]] = {}
    for name, kind in KINDS.items():
        runs = Table.read(results / name / "runs.ecsv")
        for label in kind.labels:
            for what, expected, pulls, covers in compare(runs, kind, label):
                yield make_figure(name, label, what, expected, pulls, covers), pulls
                if name in ("empty", "faint", "bright"):
                    together.setdefault((label, what), []).append((expected, pulls, covers))
    for (label, what), found in together.items():
        if len(found) > 1:
            (expected, *_), all_pulls, all_covers = zip(*found, strict=True)
            pulls = np.concatenate(all_pulls)
            yield make_figure("all", label, what, expected, pulls, np.concatenate(all_covers)), pulls


def make_figure(kind: str, label: str, what: str, expected: float, pulls: Pulls, covers: NDArray[np.bool]) -> Figure:
    """Share, its binomial error, and mean and width of the pulls, if there are any."""
    spread = (float(pulls.mean()), float(pulls.std(ddof=1))) if pulls.size else (None, None)
    return Figure(kind, label, what, len(covers), *binomial(covers), expected, *spread)


def binomial(covers: NDArray[np.bool]) -> tuple[float, float]:
    """Share of True, and its error, which is that of one success and one failure more."""
    n, share = len(covers), float(np.mean(covers))
    smooth = (n * share + 1) / (n + 2)
    return share, float(np.sqrt(smooth * (1 - smooth) / n))


def off_source(results: Path) -> Iterator[dict[str, Any]]:
    """Width of significances outside the exclusion, mean and error, and that of Poisson counts over the background."""
    for name, (kind, _, _) in MAPS.items():
        for label in ("fov", "ring", "adaptive"):
            paths = sorted((results / name / label / "parts").glob("*/cube.h5"))
            cubes = [cubeflow.load(path) for path in paths]
            widths = np.array([cube.attributes["off_source"]["width"] for cube in cubes])
            discs = np.concatenate([cube.maps["disc_background"].data.ravel() for cube in cubes])
            background = float(np.nanmean(discs))
            n = np.arange(int(background + 20 * np.sqrt(background + 1)))
            probability = poisson.pmf(n, background)
            found = make_significance_cash(n, background)
            mean = probability @ found
            yield {
                "name": name,
                "kind": kind,
                "label": label,
                "n": len(widths),
                "background": background,
                "width": float(widths.mean()),
                "error": float(widths.std(ddof=1) / np.sqrt(len(widths))),
                "poisson": float(np.sqrt(probability @ (found - mean) ** 2)),
            }


def small_numbers() -> Iterator[dict[str, float]]:
    """Coverage over a known background, from the sum over all counts that a disc may have: no simulation, no pixels."""
    for background in (0.5, 3.0, 10.0, 50.0):
        n = np.arange(300)
        excess = n - background
        above = [[excess_above(k, background, None, 1.0, k - background) for k in n]]
        above += [[excess_above(k, background, None, LIMIT_RISE, max(k - background, 0.0)) for k in n]]
        upper, limit = np.array(above)
        significance = make_significance_cash(n, background)
        null = float(poisson.pmf(n, background) @ (np.abs(significance) <= 1))
        for source in (0.5, 1.5, 3.0, 6.0, 12.0):
            probability = poisson.pmf(n, background + source)
            yield {
                "background": background,
                "source": source,
                "flux": float(probability @ (np.abs(excess - source) <= upper - excess)),
                "flux upwards": float(probability @ (upper >= source)),
                "limit": float(probability @ ((significance >= LIMIT_SIGMA) | (limit >= source))),
                "significance without a source": null,
            }


def rims() -> dict[str, float]:
    """Width of the normal significance at a target whose disc shares the pixels on its rim by area, by pixel size.

    Counts with weights w have the variance sum w^2 instead of sum w.
    """
    found = {}
    for pixel_deg in (0.01, 0.02, 0.04, 0.05):
        geom = make_geometry("icrs", "TAN", *CENTRE, (1.0, 1.0), pixel_deg)
        *_, share = disc_pixels(geom, CENTRE, RADIUS_DEG)
        found[f"{pixel_deg:g}"] = float(np.sqrt(np.sum(share**2) / np.sum(share)))
    return found


def draw(pulls: Mapping[tuple[str, str, str], Pulls], picture: Path) -> None:
    """Pulls of norms, significances and fluxes beside the normal distribution."""
    panels = (
        ("(norm − 1) / error", "norm", (("empty", "fov"), ("empty", "tilt"), ("bright-open", "model"))),
        ("significance, no source", "significance", (("empty", "fov"), ("empty", "ring"), ("empty", "adaptive"))),
        ("(flux − truth) / error", "flux", (("bright", "fov"), ("faint", "fov"), ("weak-few", "fov"))),
    )
    with plt.rc_context({"svg.hashsalt": "cubeflow", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
        x, edges = np.linspace(-4, 4, 161), np.arange(-4, 4.01, 0.5)
        for panel, (title, what, shown) in zip(axes, panels, strict=True):
            for (kind, label), colour in zip(shown, ("#2b6cb0", "#c05621", "#2f855a"), strict=True):
                found = np.histogram(pulls[kind, label, what], edges, density=True)[0]
                panel.stairs(found, edges, color=colour, label=KINDS[kind].title if what == "flux" else label)
            panel.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), "k--", lw=1)
            panel.set(xlabel=title, xlim=(-4, 4), ylim=(0, 0.9))
            panel.legend(fontsize=7, loc="upper left")
        axes[0].set_ylabel("density")
        figure.savefig(picture, metadata={"Date": None})
        plt.close(figure)


def evaluate(results: Path, picture: Path) -> dict[str, Any]:
    """All figures, from the results of the workflow; the picture is drawn, too."""
    measured = list(measure(results))
    draw({(each.kind, each.label, each.what): pulls for each, pulls in measured}, picture)
    means = {}
    for name, kind in KINDS.items():
        runs = Table.read(results / name / "runs.ecsv")
        named = ("on", "background", "counts")
        means[name] = {of: float(np.nanmean(columns(runs, f"{kind.labels[0]}_{of}"))) for of in named}
    figures = [asdict(figure) for figure, _ in measured]
    more = {"off_source": list(off_source(results)), "small_numbers": list(small_numbers()), "rims": rims()}
    return {"means": means, "figures": figures, **more}


def render(found: Mapping[str, Any]) -> str:
    """Page in Markdown, from the figures."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    axes = {name + "s": sorted({row[name] for row in found["small_numbers"]}) for name in ("background", "source")}
    return environment.from_string(TEMPLATE.read_text()).render(found, kinds=KINDS, **axes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, unless the page alone is asked for, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surveys", type=int, default=4000, help="to be simulated, a quarter for each flux")
    parser.add_argument("--render", action="store_true", help="only write the page again")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="where to keep the figures")
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write the page")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw the picture")
    given = parser.parse_args(arguments)
    if not given.render:
        each = given.surveys // len(FIRST_RUN)
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            simulate(folder, each)
            used = snakemake_products(folder / "config.yaml", folder)
            found = {"each": each, "cpu_minutes": used.cpu / 60, **evaluate(folder / "results", given.picture)}
        given.figures.write_text(json.dumps(found, indent=1) + "\n")
    given.page.write_text(render(json.loads(given.figures.read_text())))


if __name__ == "__main__":
    main()
