"""Pictures, figures and words of one label of a target, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeflow.errors import FailedError
from cubeflow.maps import Cube
from cubeflow.pipeline.certificate import certified, read_certificate
from cubeflow.pipeline.stack import open_made, read_profiles
from cubeflow.pipeline.tasks import FiguresTask, Target, figures_file, files_of
from cubeflow.products.profiles import band_edges_tev
from cubeflow.products.significance import OffSource
from cubeflow.report import checks, spectra
from cubeflow.report.ds9 import write_regions
from cubeflow.report.runs import is_used, numbers, read_runs
from cubeflow.report.skymap import Field, SkyImage, draw_image, final_images
from cubeflow.store.atomic import write_atomic
from cubeflow.store.keys import from_plain, to_plain

if TYPE_CHECKING:
    from astropy.table import Table

Attributes = Mapping[str, Any]  # of a cube, as JSON has them
MAPS = ("counts", "background", "mask_safe", "exposure")
DISCS = ("disc_significance", "disc_excess", "disc_counts", "disc_background")
FILES = ("cube.h5", "dataset.fits.gz", "significance.fits.gz")
SHOWN_OUTLIERS = 20
CAPTIONS = {
    "significance": "Blue below zero, red above; equal steps of colour are equal steps in σ.",
    "excess": "Counts minus background; the colours are stretched about the noise so that faint structure shows.",
    "counts": "Events that pass the safe mask, summed in discs.",
    "background": "Predicted background, summed in the same discs.",
    "exposure": "Effective area times livetime, summed over the runs.",
}


# Of the disc at the target: name and form.
FACTS = {
    "significance": ("significance", "{:.1f} σ"),
    "excess": ("excess", "{:.1f}"),
    "counts": ("counts", "{:.0f}"),
    "background": ("background", "{:.1f}"),
    "flux": ("flux", "{:.3g} m⁻² s⁻¹"),
    "flux_err": ("its error", "{:.2g} m⁻² s⁻¹"),
    "flux_ul": ("its limit (95 %)", "{:.2g} m⁻² s⁻¹"),
    "containment": ("part of the PSF", "{:.0%}"),
}


@dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    name: str  # unique on the page
    title: str
    caption: str  # how to read it
    svg: str  # from `to_svg`: trusted markup
    file: str | None = None  # the same picture as a file, relative to the page
    wide: bool = False  # takes the whole width of the page


@dataclass(frozen=True)
class LabelSection:
    """One background of a target on the page."""

    label: str
    method: str
    target_deg: tuple[float, float]
    facts: tuple[tuple[str, str], ...]  # name and value
    figures: tuple[Figure, ...]  # in the order in which people look
    links: tuple[tuple[str, str], ...] = ()  # text and path, relative to the page
    cube_key: str = ""  # of what the cube that it shows was made of


def read_figures(results: Path, target: str, label: str, key: str) -> LabelSection:
    """Read what `make_figures` left; FailedError if it is not there, or not what was left."""
    path = results / figures_file(f"{target}/{label}", key)
    content = read_certificate(path, key)
    if content is None:
        raise FailedError(f"{path}: not there, or not as it was written; start again to draw the figures")
    return from_plain(LabelSection, content["section"])


def make_figures(results: Path, target: Target, task: FiguresTask) -> Path:
    """Draw what the report shows of a label; its section is in the certificate, ``<label>/figures-<key>.json``.

    The folder of the target holds ``runs.fits`` and ``<label>/cube.h5``.
    """
    folder = results / task.target
    output, runs = folder / task.label, read_runs(folder, task.table_key)
    with open_made(output / "cube.h5", "cube", task.cube_key) as opened:
        maps = opened.maps((*DISCS, *MAPS))
        about = opened.artifact.attributes
    masks, geom = target.exclusion_masks(), target.reduce.geometry
    pointings = np.stack([numbers(runs, "ra_pnt"), numbers(runs, "dec_pnt")], axis=1)[is_used(runs, task.label)]
    pointings = pointings[np.isfinite(pointings).all(axis=1)]
    field = Field(geom, masks.mask(geom), pointings, target.position_deg, f"{task.target}, {task.label}")
    images = final_images(maps, target.significance.radius_deg)
    links = tuple((name, f"{task.target}/{task.label}/{name}") for name in FILES)
    facts = tuple(label_facts(about))
    about_label = task.label, target.backgrounds[task.label].method, target.position_deg
    *paths, certificate = (results / file for file in files_of(task))
    made_from: dict[str, object] = {"inputs": {"cube": task.cube_key, "table": task.table_key}}
    with certified(certificate, task.key, paths, made_from):
        if task.writes_regions:
            write_regions(folder, masks, geom, runs)
        figures = [*_draw_images(output, task, images, field), *_draw_checks(task, target, maps, about, runs)]
        made_from["section"] = to_plain(LabelSection(*about_label, facts, tuple(figures), links, task.cube_key))
    return certificate


def _draw_images(output: Path, task: FiguresTask, images: Sequence[SkyImage], field: Field) -> list[Figure]:
    """Write images as PNG; return those that the page shows."""
    figures = []
    for image in images:
        name = _figure_name(task, image.name)
        is_shown = bool(np.isfinite(image.data).any()) and (task.detail.shows_all or image.name == "significance")
        png, svg = draw_image(image, field, name if is_shown else None, _describe_image(task, image), task.detail.dpi)
        write_atomic(output / f"{image.name}.png", png)
        if is_shown:
            title, file = image.title[0].upper() + image.title[1:], f"{task.target}/{task.label}/{image.name}.png"
            is_wide = field.geom.nx > 2.2 * field.geom.ny
            figures.append(Figure(name, title, CAPTIONS[image.name], svg, file, is_wide))
    return figures


def _figure_name(task: FiguresTask, kind: str) -> str:
    plain = "".join(char if char.isalnum() else "-" for char in f"{task.target}-{task.label}")
    return f"{plain}-{task.key[:8]}-{kind}"


def _describe_image(task: FiguresTask, image: SkyImage) -> str:
    """Words for those who do not see a map."""
    finite = image.data[np.isfinite(image.data)]
    span = f"from {finite.min():.3g} to {finite.max():.3g}" if finite.size else "without any value"
    return f"Sky map of {image.title} of {task.target}, background {task.label}: {image.unit} {span}."


def _draw_checks(
    task: FiguresTask, target: Target, maps: Mapping[str, Cube], about: Attributes, runs: Table
) -> list[Figure]:
    """Figures that tell whether the background is right, and spectra; those without data are left out."""
    figures: list[Figure] = []

    def add(kind: str, title: str, caption: str, draw: Any, *content: object) -> None:
        """Draw a figure of some content."""
        name, alt = _figure_name(task, kind), f"{title} of {task.target}, background {task.label}. {caption}"
        figures.append(Figure(name, title, caption, draw(*content, name, alt)))

    plain = about["off_source"]
    if plain and plain["n_pixels"]:
        values: dict[str, Any] = {name: np.nan if value is None else value for name, value in plain.items()}
        values |= {name: np.asarray(plain[name]) for name in ("edges", "histogram")}
        empty_sky = OffSource(**values)
        caption = (
            f"Outside the exclusions, {checks.off_source_text(empty_sky)}. "
            "Without sources and with the right background the mean is 0 and the width 1."
        )
        significance = np.asarray(maps["disc_significance"].data, float)
        add("off-source", "Significance of empty sky", caption, checks.draw_off_source, empty_sky, significance)
    found = checks.collect_norms(runs, task.label)
    if found is not None:
        out = [str(run) for run in np.unique(found.obs_id[found.outlier.any(axis=1)])]
        more = f" and {len(out) - SHOWN_OUTLIERS} more" if len(out) > SHOWN_OUTLIERS else ""
        caption = (
            f"Runs far from the median (5 times error and scatter): {', '.join(out[:SHOWN_OUTLIERS])}{more}."
            if out
            else "No run is further from the median than 5 times its error and the usual scatter."
        )
        add("norms", "Norm of the background by run, time and zenith", caption, checks.draw_norms, found)
    summed = read_profiles(about["profiles"])
    if summed is not None and summed.area_deg2.any():
        bands = band_edges_tev(maps["counts"].axes[0])
        caption = "Counts and background outside the exclusions, by offset from the pointing, all runs together."
        add("radial", "Acceptance by offset", caption, checks.draw_radial, summed, bands)
        caption = "Relative residual in eight sectors about the pointings, outside the exclusions, all runs together."
        add("sectors", "Acceptance by direction", caption, checks.draw_sectors, summed, bands)
    thresholds = numbers(runs, "energy_threshold")[is_used(runs, task.label)]
    energies = spectra.collect_spectra(maps, target.position_deg)
    caption = "Events of the whole map that pass the safe mask, and the background predicted for them."
    known = thresholds[np.isfinite(thresholds)]
    if np.nansum([energies.counts, energies.background]) > 0:
        add("counts-spectrum", "Counts by energy", caption, spectra.draw_counts, energies, known)
    if energies.exposure_largest.any():
        caption = "Effective area times livetime by true energy."
        add("exposure-spectrum", "Exposure by energy", caption, spectra.draw_exposure, energies)
    return figures


def label_facts(about: Attributes) -> list[tuple[str, str]]:
    """Numbers of a label, from the attributes of its cube; what is not known is a dash."""
    source = about["source"] or dict.fromkeys(FACTS)
    found = [(name, source[key], form) for key, (name, form) in FACTS.items() if key in source]
    return [
        *((name, "–" if value is None else form.format(value)) for name, value, form in found),
        ("within", f"{about['radius_deg']:g}°"),
        ("livetime", f"{about['livetime_s'] / 3600:.2f} h"),
        ("runs", str(about["n_runs"])),
    ]
