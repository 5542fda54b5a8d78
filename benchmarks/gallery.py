"""Pictures of the documentation, all of simulated data: ``python benchmarks/gallery.py`` writes docs/gallery.

The demo is run as a reader runs it; a source that flares, and OFF runs, are simulated beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
from astropy.table import QTable, Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.pipeline.tasks import files_of, inputs_of
from cubeflow.plan.make import Plan
from cubeflow.plan.run import run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_run, simulate_store

matplotlib.use("agg")
from matplotlib import pyplot as plt

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "docs" / "gallery"
FLUXES = (0.3, 0.4, 1.0, 2.6, 3.0, 2.2, 1.5, 1.0, 0.6, 0.3)  # of the flare, in units of the Crab nebula
CENTRE = (83.633, 22.014)
PLACES = {  # of the rules in the diagram: column, row
    "off": (0, 0),
    "model": (0, 1),
    "reduce": (1, 1),
    "stack": (2, 0),
    "table": (2, 2),
    "export": (3, 1),
    "series": (4, 0),
    "figures": (4, 1),
    "report": (4, 2),
}
STYLE = {"svg.hashsalt": "cubeflow", "svg.fonttype": "none", "font.family": "sans-serif", "figure.dpi": 100}
FLARE = """
data: {store: store, pattern: "**/*.fits.gz"}
targets:
  source:
    position: {lon: 83.633 deg, lat: 22.014 deg}
    geometry: {width: 5 deg, pixel: 0.04 deg}
    observations: {within: 3 deg}
energy: {min: 1 TeV, max: 20 TeV, bins: 8}
energy_true: {min: 0.3 TeV, max: 40 TeV, bins: 20}
exclusion: exclusion.reg
spectrum: {type: power-law, index: 2.6}
stack: {by: run, fanout: 2}
acceptance: {model: empty}
models:
  empty:
    observations: {where: "RA_PNT < 60"}
    energy: {min: 1 TeV, max: 20 TeV, bins: 8}
    fit: {zenith: [0 deg, 30 deg, 60 deg]}
backgrounds:
  fov: {method: fov, energy_groups: 4}
  ring: {method: ring, r_in: 0.5 deg, width: 0.3 deg}
"""


def save(figure: plt.Figure, name: str) -> None:
    """Write a picture without a date."""
    figure.savefig(FOLDER / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def run_demo(folder: Path) -> Path:
    """Run the demo in a folder of its own; returns the folder of its target."""
    for name in ("workflow", "environment.yml", "config"):
        (folder / name).symlink_to(REPOSITORY / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["snakemake", "--cores", "2", "--quiet"], cwd=folder, env=os.environ | {"PATH": path}, check=True)
    return folder / "results" / "demo"


def run_flare(folder: Path) -> Plan:
    """Simulate and reduce a source that flares, with a model from OFF runs."""
    for number, flux in enumerate(FLUXES):
        options = SimulationOptions(sources=((*CENTRE, flux),))
        simulate_run(folder / "store" / "source", options.first_obs_id + number, options)
    empty = SimulationOptions(n_runs=12, first_obs_id=200001, centre=(40.0, 10.0), sources=())
    simulate_store(folder / "store" / "empty", empty)
    shutil.copy(REPOSITORY / "config" / "exclusion.reg", folder)
    (folder / "flare.yaml").write_text(FLARE)
    os.chdir(folder)
    return run_whole(load_config("flare.yaml"), print)


def rule_edges(plan: Plan) -> set[tuple[str, str]]:
    """Pairs of steps of which the second reads what the first makes."""
    maker = {file: task.kind for task in plan.all_tasks for file in files_of(task)}
    return {(maker[file], task.kind) for task in plan.all_tasks for file in inputs_of(task)}


def draw_rules(edges: set[tuple[str, str]]) -> None:
    """Diagram of the rules; each arrow has the name of its edge as id."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    axes.set(xlim=(-0.4, 4.4), ylim=(2.3, -0.6))
    axes.axis("off")
    for name, (x, y) in PLACES.items():
        box = {"boxstyle": "round,pad=0.5", "facecolor": "#eaf2fb", "edgecolor": "#2b6cb0"}
        axes.text(x, y, name, ha="center", va="center", fontsize=12, bbox=box, color="black")
    for first, second in sorted(edges):
        (x0, y0), (x1, y1) = PLACES[first], PLACES[second]
        if first == second:
            place, curve = {"xy": (x0 + 0.12, y0 - 0.19), "xytext": (x0 - 0.12, y0 - 0.19)}, "arc3,rad=-1.6"
        else:
            place, curve = {"xy": (x1, y1), "xytext": (x0, y0)}, "arc3,rad=0"
        gap = 0 if first == second else 15 if x0 == x1 else 22  # boxes are wider than high
        arrow = {"arrowstyle": "->", "color": "#2b6cb0", "shrinkA": gap, "shrinkB": gap, "connectionstyle": curve}
        axes.annotate("", **place, arrowprops=arrow).arrow_patch.set_gid(f"{first}-{second}")
    save(figure, "rules.svg")


def draw_theta2(crab: Path) -> None:
    """Squared distance from the source."""
    cube = cubeflow.load(crab / "fov" / "cube.h5")
    counts, background = (cube.maps[name].sum_over_energy() for name in ("counts", "background"))
    edges = np.linspace(0, 0.25, 26)
    theta2 = counts.geom.offset_deg(*CENTRE) ** 2
    on, off = (np.histogram(theta2, edges, weights=each.data[0])[0] for each in (counts, background))
    figure, axes = plt.subplots(figsize=(5, 3.2))
    axes.stairs(off, edges, fill=True, color="#c8d6e5", label="background")
    axes.errorbar(0.5 * (edges[1:] + edges[:-1]), on, np.sqrt(on), fmt="k.", label="counts")
    axes.set(xlabel="squared distance from the source (deg²)", ylabel="events", xlim=(0, 0.25), ylim=(0, None))
    axes.legend()
    save(figure, "theta2.svg")


def draw_off_source(crab: Path) -> None:
    """Significances outside the exclusion."""
    figure, axes = plt.subplots(figsize=(5, 3.2))
    for label, colour in (("fov", "#2b6cb0"), ("ring", "#c05621")):
        found = cubeflow.load(crab / label / "cube.h5").attributes["off_source"]
        text = f"{label}: mean {found['mean']:.2f} ± {found['mean_err']:.2f}, width {found['width']:.2f}"
        edges = np.array(found["edges"])
        share = np.array(found["histogram"]) / sum(found["histogram"]) / np.diff(edges)
        axes.stairs(share, edges, color=colour, label=text)
    x = np.linspace(-5, 5, 201)
    axes.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), "k--", lw=1, label="normal distribution")
    axes.set(xlabel="significance (σ)", ylabel="share of pixels per σ", yscale="log", ylim=(1e-4, 2), xlim=(-5, 5))
    axes.legend(fontsize=8)
    save(figure, "off-source.svg")


def draw_backgrounds(crab: Path) -> None:
    """Background of both methods, and exposure."""
    figure, panels = plt.subplots(1, 3, figsize=(9, 2.9), layout="constrained")
    for panel, (label, name) in zip(
        panels, (("fov", "background"), ("ring", "background"), ("fov", "exposure")), strict=True
    ):
        each = cubeflow.load(crab / label / "cube.h5").maps[name]
        image = panel.imshow(each.data.sum(axis=0), origin="lower", extent=(3, -3, -3, 3), cmap="viridis")
        panel.set_title(f"{name}, {label}" if name == "background" else name, fontsize=10)
        panel.set_xlabel("degrees from the target", fontsize=8)
        unit = "events" if name == "background" else "m² s, summed over bins of energy"
        figure.colorbar(image, ax=panel, shrink=0.8, label=unit)
    save(figure, "backgrounds.png")


def draw_norms(crab: Path) -> None:
    """Norm of each run in each group of energies."""
    runs = Table.read(crab / "runs.ecsv")
    figure, axes = plt.subplots(figsize=(5, 3.2))
    for group in range(4):
        norm, error = (np.ma.filled(runs[f"fov_{name}_{group}"], np.nan) for name in ("norm", "norm_err"))
        low, high = (runs[f"fov_energy_{name}_{group}"][0] for name in ("min", "max"))
        place = np.arange(len(runs)) + 0.12 * (group - 1.5)
        axes.errorbar(place, norm, error, fmt="o", ms=4, label=f"{low:.1f} to {high:.1f} TeV")
    axes.axhline(1, color="grey", lw=0.8)
    axes.set_xticks(np.arange(len(runs)), [str(number) for number in runs["obs_id"]], rotation=30)
    axes.set(xlabel="run", ylabel="norm of the background")
    axes.set_ylim(0.2, 2.2)
    axes.legend(fontsize=8, ncols=2)
    save(figure, "norms.svg")


def draw_responses(crab: Path) -> None:
    """Energy dispersion and PSF at the source."""
    cube = cubeflow.load(crab / "fov" / "cube.h5")
    edisp, psf = cube.maps["edisp"], cube.maps["psf"]
    y, x = (n // 2 for n in edisp.geom.shape)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    image = left.pcolormesh(
        edisp.axis("energy_true").edges, edisp.axis("energy").edges, edisp.data[..., y, x].T, rasterized=True
    )
    left.set(xscale="log", yscale="log", xlabel="true energy (TeV)", ylabel="energy (TeV)")
    figure.colorbar(image, ax=left, label="probability")
    rad = np.array(psf.axis("rad").edges)
    for index in (6, 10, 14):
        low, high = psf.axis("energy_true").edges[index : index + 2]
        right.stairs(psf.data[index, :, y, x], rad, label=f"{low:.2g} to {high:.2g} TeV")
    right.set(xlabel="distance (deg)", ylabel="PSF (1/sr)", xlim=(0, 0.3))
    right.legend(fontsize=8)
    save(figure, "responses.svg")


def draw_flare(label: Path) -> None:
    """Light curve of the flare, a panel for each night, and what was simulated."""
    points = QTable.read(label / "lightcurve.ecsv")
    time = 24 * (0.5 * (points["time_min"] + points["time_max"]) - points["time_min"][0]).to_value("d")
    flux, error = (points[name][:, 0].to_value("1e-11 cm-2 s-1") for name in ("flux", "flux_err"))
    truth = np.array(FLUXES) * flux.sum() / sum(FLUXES)
    nights = np.split(np.arange(len(time)), np.flatnonzero(np.diff(time) > 5) + 1)
    figure, panels = plt.subplots(1, len(nights), figsize=(7, 3), sharey=True, layout="constrained")
    for panel, night in zip(panels, nights, strict=True):
        panel.hlines(truth[night], time[night] - 0.23, time[night] + 0.23, color="#c05621", label="simulated")
        panel.errorbar(time[night], flux[night], error[night], fmt="ko", ms=4, label="measured")
        panel.set(xlabel="hours since the start", ylim=(0, None))
    panels[0].set_ylabel("flux above 1 TeV (10⁻¹¹ cm⁻² s⁻¹)")
    panels[0].legend()
    save(figure, "flare.svg")


def draw_model(path: Path) -> None:
    """Acceptance model from OFF runs: rate in the field of view at three energies."""
    rate = cubeflow.load(path).arrays["rate"]
    figure, panels = plt.subplots(1, 3, figsize=(9, 2.9), layout="constrained")
    for panel, index in zip(panels, (0, 3, 6), strict=True):
        low, high = 20 ** (np.array([index, index + 1]) / 8)
        shown = rate[0, index, ::-1].T  # (lat, lon), east to the left
        image = panel.imshow(shown, origin="lower", extent=(2.2, -2.2, -2.2, 2.2), cmap="viridis")
        panel.set_title(f"{low:.2g} to {high:.2g} TeV", fontsize=10)
        panel.set_xlabel("field-of-view longitude (deg)", fontsize=8)
        figure.colorbar(image, ax=panel, shrink=0.8, label="s⁻¹ sr⁻¹")
    save(figure, "model.png")


def draw_report(page: Path) -> None:
    """Top of the report, as Chromium shows it."""
    shot = page.with_name("report.png")
    size = ["--window-size=1280,1560", "--hide-scrollbars", "--force-device-scale-factor=0.8"]
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", *size, f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    shrink(shot, FOLDER / "report.png")


def shrink(source: Path, target: Path) -> None:
    """Write a picture with a palette of 64 colours."""
    from PIL import Image

    with Image.open(source) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(target, optimize=True)


def draw_all(folder: Path) -> Iterator[str]:
    """Draw every picture; the names of those that are there."""
    crab = run_demo(folder / "demo")
    shutil.copy(crab / "fov" / "significance.svg", FOLDER)
    draw_theta2(crab)
    draw_off_source(crab)
    draw_backgrounds(crab)
    draw_norms(crab)
    draw_responses(crab)
    draw_report(crab / "report.html")
    plan = run_flare(folder / "flare")
    draw_flare(folder / "flare/results/source/fov")
    draw_model(next((folder / "flare/results/models/empty").glob("model-*.h5")))
    draw_rules(rule_edges(plan) | {("reduce", "table")})  # of a target with one batch, which has no stack
    for path in sorted(FOLDER.glob("*.png")):
        shrink(path, path)
    yield from sorted(f"{path.name}: {path.stat().st_size / 1000:.0f} kB" for path in FOLDER.iterdir())


def main() -> None:
    """Draw all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as scratch, plt.rc_context(STYLE):
        for name in ("demo", "flare"):
            (Path(scratch) / name).mkdir()
        print(*draw_all(Path(scratch)), sep="\n")
        os.chdir(REPOSITORY)


if __name__ == "__main__":
    main()
