"""Answers, figures and pictures of one label of a target, for the report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cubeflow.errors import FailedError, counted
from cubeflow.maps import Axis, Cube, FloatArray, Maps, release
from cubeflow.pipeline.certificate import certified, read_certificate
from cubeflow.pipeline.export import MUCH, NO_FLUX, beyond_text, error_text, significance_text, systematic_text
from cubeflow.pipeline.stack import open_made, read_profiles
from cubeflow.pipeline.tasks import FiguresTask, Target, certificate_file, files_of
from cubeflow.products.exclusion import Disc, Rim
from cubeflow.products.final import make_map_significance
from cubeflow.products.profiles import band_edges_tev, energy_bands
from cubeflow.products.ring_background import AdaptiveRingOptions, RingOptions
from cubeflow.products.significance import OffSource, number_or_none
from cubeflow.report import charts
from cubeflow.report.drawing import superscript, svg_file
from cubeflow.report.ds9 import exclusion_regions, pointing_regions
from cubeflow.report.runs import Runs, date, is_used, left_out, numbers, pointings, read_runs, run_names, suspicions
from cubeflow.report.skymap import Field, HotSpot, SkyImage, draw_map, final_images, find_hot_spots, positions
from cubeflow.store.atomic import write_atomic
from cubeflow.store.keys import from_plain, to_plain

Attributes = Mapping[str, Any]  # of a cube, or options, as JSON has them
Pairs = Iterator[tuple[str, str]]
DISCS = ("disc_significance", "disc_counts")
MAPS = (*DISCS, "counts", "background", "mask_safe", "exposure", "acceptance", "counts_off", "alpha")
DETECTED, HINT = 5.0, 3.0  # sigma
MAX_LISTED = 5
CAPTIONS = {
    "significance": "Blue below zero, red above; equal steps of colour are equal steps in σ up to 5.",
    "counts": "Events that pass the safe mask, summed in discs.",
    "exposure": "Effective area times livetime, summed over the runs.",
}
IN_DISC = {"significance": "{:z.1f} σ", "excess": "{:z.1f}", "counts": "{:.0f}", "background": "{:.1f}"}


@dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    kind: str  # of all labels those of one kind stand beside each other
    name: str  # unique among all targets
    title: str
    caption: str  # how to read it
    svgs: tuple[str, ...]  # trusted markup


@dataclass(frozen=True)
class LabelSection:
    """One background of a target on the page."""

    label: str
    method: str
    significance: float | None  # at the target, sigma
    facts: Mapping[str, str]  # numbers of the disc at the target, livetime and runs
    answers: tuple[tuple[str, str], ...]  # questions with their answers
    figures: tuple[Figure, ...]  # in the order in which people look
    hot_spots: tuple[HotSpot, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()  # with which it was made
    cube_key: str = ""  # of what the cube that it shows was made of
    sky: str = ""  # where the places of its maps lie, see `positions`


def read_figures(results: Path, target: str, label: str, key: str) -> LabelSection:
    """Read what `make_figures` left; FailedError if it is not there, or not what was left."""
    path = results / certificate_file(f"{target}/{label}", key, "figures")
    content = read_certificate(path, key)
    if content is None:
        raise FailedError(f"{path}: not there, or not as it was written; start again to draw the figures")
    return from_plain(LabelSection, content["section"])


def make_figures(results: Path, target: Target, task: FiguresTask) -> Path:
    """Draw what the report shows of a label; its section is in the certificate, ``<label>/figures-<key>.json``.

    The folder of the target holds ``runs.ecsv`` and ``<label>/cube.h5``.
    """
    folder = results / task.target
    output, runs = folder / task.label, read_runs(folder, task.table_key)
    with open_made(output / "cube.h5", "cube", task.cube_key) as opened:
        maps, about, made = opened.maps(MAPS), opened.artifact.attributes, opened.artifact.provenance
    for cube in maps.values():  # let the memory of maps in scratch files go
        release(cube.data)
    masks, geom = target.exclusion_masks(), target.reduce.geometry
    radius_deg, method = target.significance.radius_deg[0], target.backgrounds[task.label]
    ring = method if isinstance(method, RingOptions | AdaptiveRingOptions) else None
    radii = () if ring is None else (ring.r_in_deg, ring.r_in_deg + ring.width_deg)
    field = Field(geom, masks.mask(geom), pointings(runs, task.label), target.position_deg, radius_deg, radii)
    *paths, certificate = (results / file for file in files_of(task))
    made_from = task.recipe(target).record
    read = [folder / certificate_file(*item) for item in ((task.label, task.cube_key), ("", task.table_key))]
    with certified(certificate, task.key, paths, made_from, read):
        if task.writes_regions:  # any label says the same
            write_atomic(folder / "exclusion.reg", exclusion_regions(masks.exclusions, field.excluded, geom).encode())
            write_atomic(folder / "pointings.reg", pointing_regions(runs).encode())
        figures = [*_draw_maps(output, task, maps, about, field), *_draw_charts(task, maps, about, runs, field)]
        significance = np.asarray(maps["disc_significance"].data[0], float)
        spots = find_hot_spots(significance, field)
        used = [{"name": name, "key": key} for name, key in made["options"]["reduce"]["inputs"].items()]
        model = {"acceptance model": used[0]} if used else {}
        section = LabelSection(
            label=task.label,
            method=method.method,
            significance=(about["source"] or {}).get("significance"),
            facts=label_facts(about),
            answers=tuple(answer(target, task.label, about, runs, spots, field)),
            figures=tuple(figures),
            hot_spots=tuple(spots),
            settings=tuple(_settings({"background": to_plain(method), **to_plain(target.reduce), **model})),
            cube_key=task.cube_key,
            sky=positions(geom, target.position_deg),
        )
        made_from["section"] = to_plain(section)
    return certificate


def _figure_name(task: FiguresTask, kind: str) -> str:
    plain = "".join(char if char.isalnum() else "-" for char in f"{task.target}-{task.label}")
    return f"{plain}-{task.key[:8]}-{kind}"


def _draw_maps(output: Path, task: FiguresTask, maps: Maps, about: Attributes, field: Field) -> Iterator[Figure]:
    """Write images as SVG; give those that the page shows."""
    for image in final_images(maps, field.radius_deg):
        layers, name = [image], _figure_name(task, image.name)
        if image.name == "significance":
            layers += _band_images(maps, field.radius_deg, np.array(about["systematic"]["used"], float)[1:], image.top)
        whole, zoom = draw_map(layers, field, name)
        write_atomic(output / f"{image.name}.svg", svg_file(whole))
        if (image.name == "significance" or task.writes_regions) and np.isfinite(image.data).any():
            svgs = (whole, zoom) if zoom and image.name == "significance" else (whole,)
            yield Figure(image.name, name, image.title[0].upper() + image.title[1:], CAPTIONS[image.name], svgs)


def _band_images(maps: Maps, radius_deg: float, systematic: FloatArray, top: float | None) -> Iterator[SkyImage]:
    """Significance in bands of energy, in the colours of that of all; none where rings are one for all energies."""
    energy, off = maps["counts"].axes[0], maps.get("counts_off")
    bands = energy_bands(energy)
    if "background" not in maps or len(bands) < 2 or (off is not None and off.axes[0] != energy):
        return
    binned = {name: cube for name, cube in maps.items() if cube.axes[0] == energy}
    for band, (low, high), wrong in zip(bands, band_edges_tev(energy), systematic.tolist(), strict=True):
        axis = Axis(energy.name, energy.edges[band.start : band.stop + 1], energy.unit, energy.interp)
        part = {name: Cube(cube.data[band], cube.unit, cube.geom, (axis,)) for name, cube in binned.items()}
        mask = maps["mask_safe"].data[band]
        found = make_map_significance(part, mask, radius_deg, wrong)
        for cube in maps.values():
            release(cube.data)
        title = f"significance, {low:.3g} to {high:.3g} TeV"
        yield SkyImage("band", title, "σ", found.significance.data[0], top)


def _draw_charts(task: FiguresTask, maps: Maps, about: Attributes, runs: Runs, field: Field) -> Iterator[Figure]:
    """Figures of the target and of the background; those without data are left out."""

    def figure(kind: str, title: str, caption: str, draw: Any, *content: object) -> Figure:
        alt = f"{title} of {task.target}, background {task.label}"
        return Figure(kind, _figure_name(task, kind), title, caption, (draw(*content, alt),))

    found = charts.collect_source(maps, field.target_deg, field.radius_deg, field.excluded)
    if found.theta2_counts.any():
        caption = f"By squared distance from the target; the first bin is the disc of {field.radius_deg:g}°."
        yield figure("theta2", "Profile about the target", caption, charts.draw_theta2, found)
        thresholds = numbers(runs, "energy_threshold")[is_used(runs, task.label)]
        thresholds = thresholds[np.isfinite(thresholds)]
        caption = "In the disc at the target, and outside it and the exclusions; shaded: thresholds of the runs."
        yield figure("energies", "Counts by energy", caption, charts.draw_energies, found, thresholds)
    if (evolution := charts.collect_evolution(runs, task.label)) is not None:
        caption = "Fluxes of the assumed spectrum; a steady source in steady conditions follows the dashed line."
        yield figure("evolution", "Run by run, and with livetime", caption, charts.draw_evolution, evolution)
    summed = read_profiles(about["profiles"])
    if (empty_sky := _empty_sky(about)) is not None:
        caption = f"Background {charts.off_source_text(empty_sky, summed)}."
        of_sky = empty_sky, np.asarray(maps["disc_significance"].data, float)
        yield figure("off-source", "Significance of empty sky", caption, charts.draw_off_source, *of_sky)
    if (norms := charts.collect_norms(runs, task.label)) is not None:
        caption = "A colour for each group of energies; far off is more than 5 times error and scatter from the median."
        yield figure("norms", "Norm of the background", caption, charts.draw_norms, norms)
    if summed is not None and summed.area_deg2.any():
        bands = band_edges_tev(maps["counts"].axes[0])
        caption = "Outside the exclusions, by offset from the pointing; below, residuals by offset and by direction."
        stated = np.array(about["systematic"]["ring"][0], float) if "ring" in about["systematic"] else None
        title = "Acceptance by offset and direction"
        yield figure("profiles", title, caption, charts.draw_profiles, summed, bands, stated)


def _empty_sky(about: Attributes) -> OffSource | None:
    """Off-source distribution of a cube; None without pixels."""
    plain = about["off_source"]
    if not (plain and plain["n_pixels"]):
        return None
    values: dict[str, Any] = {name: np.nan if value is None else value for name, value in plain.items()}
    return OffSource(**values | {name: np.asarray(plain[name]) for name in ("edges", "histogram")})


def label_facts(about: Attributes) -> dict[str, str]:
    """Numbers of a label, from the attributes of its cube; what is not known is a dash."""
    values = {name: (about["source"] or {}).get(name) for name in IN_DISC}
    facts = {name: "–" if x is None else IN_DISC[name].format(x).replace("-", "−") for name, x in values.items()}
    return facts | {"livetime": f"{about['livetime_s'] / 3600:.2f} h", "runs": str(about["n_runs"])}


def verdict(significance: float | None) -> str:
    """Whether there is a source, in words."""
    if significance is None:
        return "No answer"
    return "Detected" if significance >= DETECTED else "Hint" if significance >= HINT else "Not detected"


def answer(target: Target, label: str, about: Attributes, runs: Runs, spots: list[HotSpot], field: Field) -> Pairs:
    """What people ask of a label first, with the answers."""
    facts, found = label_facts(about), about["source"] or {}
    significance, used = found.get("significance"), runs.rows(is_used(runs, label))
    yield "Is there a source?", f"{verdict(significance)}: {facts['significance']} at the target"
    yield "Peak of the map", spot_text(spots[0]) if spots else "–"
    edges = target.reduce.energy.edges
    why = NO_FLUX if about["is_pointlike"] else "no exposure, or no significance, at the target"
    yield f"Flux, {edges[0]:.3g} to {edges[-1]:.3g} TeV", flux_text(found, field.radius_deg, f"no answer: {why}")
    for disc in about["further"]:
        name = "Within {:g}°, {:.3g} to {:.3g} TeV".format(disc["radius_deg"], *disc["energy_tev"])
        said = significance_text(disc["source"]).replace("sigma", "σ").replace("-", "−")
        yield name, f"{said}; {flux_text(disc['source'] or {}, disc['radius_deg'])}"
    yield "Events at the target", f"{facts['counts']} ON, {facts['background']} background, excess {facts['excess']}"
    yield from _answers_in_time(runs, label, field.radius_deg)
    yield from _answers_on_background(target, label, about, runs)
    lost = [f"{run} {status}: {reason}" for run, _, status, reason in left_out(runs, [label])]
    yield "Left out", f"{runs.n_runs - used.n_runs} of {runs.n_runs} runs: {_listed(lost)}" if lost else "no run"
    names = "counts", "counts_safe", "counts_cut", "counts_without_acceptance"
    counts, safe, cut, unknown = (np.nansum(numbers(used, name)) for name in names)
    of_cut = f", {cut:.0f} of them in bins that a threshold cuts (finer bins keep more)" if cut else ""
    beyond = f"{counts - safe:.0f} of {counts:.0f} outside the safe energies of their runs{of_cut}"
    missed = [beyond] * int(counts > safe) + [f"{unknown:.0f} without acceptance"] * int(unknown > 0)
    yield "Counts not used", "; ".join(missed) or f"none of {counts:.0f}"
    if (share := np.max(np.nan_to_num(numbers(used, "beyond_energy_true")), initial=0.0)) > MUCH:
        yield "True energies", beyond_text(share)
    rims = [Rim(**rim).text.replace(" sigma", " σ").replace(" deg", "°").replace("-", "−") for rim in about["rims"]]
    yield "Excluded from the background", _listed([exclusion_text(target, field), *rims])
    times = np.concatenate([numbers(used, "tstart"), numbers(used, "tstop"), [np.nan]])
    days = " to ".join(dict.fromkeys(date(end.reduce(times))[:10] for end in (np.fmin, np.fmax)))
    kind = "" if target.event_type is None else f"event type {target.event_type}"
    about_runs = {name: dict.fromkeys(map(str, filter(None, used.column(name)))) for name in ("telescope", "object")}
    named = "".join(f"; {name} {_listed([*found], ', ')}" for name, found in about_runs.items() if found)
    yield "Data", ", ".join(filter(None, [counted(about["n_runs"], "run"), facts["livetime"], days, kind])) + named
    yield "Target (ICRS)", position_text(*target.position_deg)


def _answers_in_time(runs: Runs, label: str, radius_deg: float) -> Pairs:
    """Which run was the brightest, and whether all are alike; nothing without a background at the target."""
    evolution = charts.collect_evolution(runs, label)
    if evolution is None:
        return
    best = int(np.argmax(np.nan_to_num(evolution.flux, nan=-np.inf)))
    found = {"flux": number_or_none(evolution.flux[best]), "flux_err": number_or_none(evolution.flux_err[best])}
    brightest = f"{run_names(evolution.rows)[best]}: {flux_text(found, radius_deg)}"
    yield "Brightest", "no run has a flux" if found["flux"] is None else brightest
    steady = charts.chi2_constant(evolution.flux, evolution.flux_err)
    yield "Steady?", charts.chi2_text(*steady, charts.TELLING, ("steady", "varies"))


def _answers_on_background(target: Target, label: str, about: Attributes, runs: Runs) -> Pairs:
    """How well the background is known, and which runs are odd."""
    empty_sky, norms = _empty_sky(about), charts.collect_norms(runs, label)
    flat = "–" if empty_sky is None else charts.off_source_text(empty_sky, read_profiles(about["profiles"]))
    yield "Is the background flat?", flat
    if "total" in about["systematic"]:
        bands = zip(band_edges_tev(target.reduce.energy), *about["systematic"]["band"], strict=True)
        by_band = "; ".join(f"{low:.3g} to {high:.3g} TeV {error_text(*each)}" for (low, high), *each in bands)
        yield "Systematic error of the background", f"{systematic_text(about['systematic'])}. By energy: {by_band}"
    if norms is not None:
        alike = charts.chi2_text(*norms.chi2, charts.TELLING, ("alike", "differ"))
        yield "Norms of the runs", f"{alike}; median {np.nanmedian(norms.norm):.3g}"
    suspects: dict[str, list[str]] = {}
    for run, why in (*(norms.suspects if norms else ()), *suspicions(runs, label)):
        suspects.setdefault(why, []).append(run)
    odd = [f"{_listed(found, ', ')}: {why}" for why, found in suspects.items()]
    yield "Runs to look at", _listed(odd) or "none stands out"


def _listed(items: Sequence[str], between: str = "; ") -> str:
    """The first of some items in a row."""
    more = f"{between}and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return between.join(items[:MAX_LISTED]) + more


def spot_text(spot: HotSpot) -> str:
    """Significance and place of a hot spot."""
    place = position_text(spot.ra_deg, spot.dec_deg)
    return f"{spot.significance:.1f} σ at {place}, {spot.offset_deg:.2g}° from the target"


def position_text(ra_deg: float, dec_deg: float) -> str:
    """Position on the sky."""
    return f"RA {ra_deg:.3f}°, Dec {dec_deg:+.3f}°".replace("-", "−")


def flux_text(found: Mapping[str, float | None], radius_deg: float, without: str = "–") -> str:
    """Flux in the disc at the target, cm-2 s-1, with its error, and its limit where it is not significant."""
    flux, error, limit = (found.get(name) for name in ("flux", "flux_err", "flux_ul"))
    if flux is None or error is None:
        return without
    power = int(np.floor(np.log10(max(abs(flux), error))))
    value = f"{flux / 10.0**power:z.2f}".replace("-", "−")
    text = f"({value} ± {error / 10.0**power:.2f}) × 10{superscript(power - 4)} cm⁻² s⁻¹"
    if limit is not None:
        text = f"below {limit / 10.0**power:.2f} × 10{superscript(power - 4)} cm⁻² s⁻¹ (95 %); {text}"
    part = found.get("containment")
    return f"{text} within {radius_deg:g}°" + ("" if part is None else f", which holds {part:.0%} of the PSF")


def exclusion_text(target: Target, field: Field) -> str:
    """What is excluded from the background: files with their areas, of which a lone circle is named, and the share."""
    names = []
    for each in target.exclusions:
        areas = each.areas.areas if each.areas else ()
        what = counted(len(areas), "area") if areas else "an image"
        if len(areas) == 1 and isinstance(disc := areas[0], Disc):
            what = f"a circle of {disc.radius_deg:g}° about {position_text(disc.ra_deg, disc.dec_deg)}"
        names.append(f"{each.file.path.name}: {what}")
    return f"{'; '.join(names)}; {field.excluded.mean():.1%} of the map" if names else "nothing"


def _settings(plain: Attributes, prefix: str = "") -> Pairs:
    """Options by dotted name, as text; an axis in short."""
    for name, value in plain.items():
        if isinstance(value, Mapping) and "edges" in value:
            edges = value["edges"]
            yield prefix + name, f"{len(edges) - 1} bins, {edges[0]:g} to {edges[-1]:g} {value['unit']}"
        elif isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
