"""The task ``export``: the final products of a label, from the last stack."""

from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import RunsLeftOut, Say, counted
from cubeflow.maps import Cube, sphere
from cubeflow.observation import TIME_KEYWORDS
from cubeflow.pipeline import versions
from cubeflow.pipeline.certificate import certified, software
from cubeflow.pipeline.stack import Row, open_made, plain_profiles, read_stack
from cubeflow.pipeline.tasks import PRODUCTS, ExportTask, Refusal, SeriesTask, Target, files_of, stack_file
from cubeflow.products.dataset import dataset_maps
from cubeflow.products.exclusion import find_rims
from cubeflow.products.final import Final, make_final
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.profiles import Profiles, energy_bands, measure_systematic
from cubeflow.products.stack import Stack, blank_stack
from cubeflow.store.artifact import Artifact, write_artifact
from cubeflow.store.atomic import write_atomic
from cubeflow.store.fits import DatasetEntry, datasets_yaml, models_yaml, write_dataset_fits, write_image_fits
from cubeflow.store.keys import short, to_plain

IMAGES = ("significance", "excess", "counts", "background")
MUCH = 0.01  # share of the counts whose loss is said
NO_FLUX = "a point-like exposure holds inside the cut on direction, which the disc is not"


def export_label(results: Path, target: Target, task: ExportTask, say: Say) -> None:
    """Write `PRODUCTS` of a label, or of a part of its runs.

    Where no run is left they are without counts, exposure and background. RunsLeftOut if runs were refused and
    `Target.on_refused` is ``fail``.
    """
    folder, where = results / task.folder, task.folder.replace("/", ": ")
    root = results / stack_file(task.target, task.label, task.root)
    with open_made(root, "stack", task.root) as opened:
        rows = opened.artifact.attributes["rows"]
        require_not_refused(target, rows, task.refused, task.unread)
        totals = read_stack(opened)
    kinds = {row["run"]["is_pointlike"] for row in rows if row["status"] == "ok"}
    options = target.reduce
    if not totals.layers:
        totals = blank_stack(options.geometry, options.energy, options.energy_true)
    masks = target.exclusion_masks()
    excluded = masks.mask(options.geometry)
    systematic = find_systematic(target, task.label, totals.profiles)
    given = options.geometry, options.irf_geometry, target.significance, target.position_deg, options.spectrum
    final = make_final(totals, *given, excluded, np.array(systematic["used"], float).tolist())
    # The whole shows best that an exclusion is too small; each part would be one more trial.
    seen = () if task.part else find_rims(final.maps, masks.exclusions, excluded, target.significance.radius_deg[0])
    if (radius_deg := target.export.fit_radius_deg) is not None:
        near = options.geometry.offset_deg(*target.position_deg) <= radius_deg
        mask = np.broadcast_to(near, (options.energy.n_bins, *near.shape))
        final = replace(final, maps={**final.maps, "mask_fit": Cube(mask, "", options.geometry, (options.energy,))})
    made_from = task.recipe(target).record
    if (tile := options.tile) is not None:
        own = tile.holds(*sphere.lon_lat(options.geometry.center_vectors))
        final = replace(final, maps={**final.maps, "mask_own": Cube(own, "", options.geometry, ())})
    cube_path, dataset, datasets, models, images = paths = [folder / name for name in PRODUCTS]
    with certified(results / files_of(task)[-1], task.key, paths, made_from, [root]):
        keywords = _keywords(target, task, totals, kinds)
        maps = dataset_maps(final.maps)
        write_dataset_fits(dataset, maps, totals.gti_s, totals.livetime_s, keywords, True in kinds)
        listed = [dataset_entry(task, task.part, maps, dataset.name, systematic["used"][0])]
        write_atomic(datasets, datasets_yaml(listed))
        write_atomic(models, models_yaml(listed))
        write_image_fits(images, _images(final), keywords)
        about = {name: getattr(task, name) for name in ("target", "label", "part")}
        about |= {"is_pointlike": True in kinds, "is_mixed": len(kinds) > 1}
        about |= {"rims": to_plain(seen), "systematic": systematic}
        cube = Artifact("cube", task.key, versions.EXPORT, {}, about, {**made_from, "software": software()})
        _write_cube(cube_path, cube, final, totals, target.compression)
    summary = final.summary
    if "total" in systematic:
        say(f"{where}: systematic error of the background {systematic_text(systematic)}")
    about_runs = f"{counted(summary.n_runs, 'run')}, {summary.livetime_s / 3600:.2f} h"
    say(f"{where}: {about_runs}, {counted(summary.counts, 'count')}; {folder}")


def find_systematic(target: Target, label: str, profiles: Profiles | None) -> dict[str, list[Any]]:
    """Relative error of a background: ``used`` of all energies and in each band, and what of `Systematic` is known."""
    method, setting = target.backgrounds[label], target.significance.background_systematic
    found = {"used": np.zeros(1 + len(energy_bands(target.reduce.energy)))}
    if isinstance(method, FovOptions):
        if profiles is not None and not method.sky_model:
            found |= measure_systematic(profiles)._asdict()
        known = np.append(found["total"][0], found["band"][0]) if "total" in found else np.nan
        found["used"] += known if setting == "measured" else setting or 0.0
    return {name: np.where(np.isfinite(values), values, np.array(None)).tolist() for name, values in found.items()}


def systematic_text(found: Mapping[str, Sequence[float | None]]) -> str:
    """How wrong a background is beyond its counts, in words; `found` is the attribute ``systematic`` of a cube."""
    used = found["used"][0]
    taken = f"include {used:.1%} of it" if used else "do not include it (significance.background_systematic)"
    how = "by which counts outside the exclusions scatter about it beyond chance, by offset and direction"
    return f"{error_text(*found['total'])}, {how}; significance and flux {taken}"


def beyond_text(share: float, true_energies: str = "energy_true") -> str:
    """What it means that a share of the counts of a bin comes from outside the true energies."""
    of_bin = f"up to {100 * share:.3g} % of the counts of an energy bin come from outside {true_energies}"
    return f"{of_bin}: exposures are too small by as much"


def error_text(value: float | None, error: float | None) -> str:
    """Relative error, with its own error."""
    return "not known" if value is None or error is None else f"{value:.1%} ± {error:.1%}"


def dataset_entry(
    task: ExportTask | SeriesTask, part: str, maps: Container[str], file: str, wrong: float | None
) -> DatasetEntry:
    """What lists of datasets say of one, from the names of its maps and the relative error of its background."""
    name, is_ring = "-".join(filter(None, (task.target, task.label, part))), "counts_off" in maps
    norm = (wrong or 0.0) if "background" in maps and not is_ring else None
    return name, "MapDatasetOnOff" if is_ring else "MapDataset", file, norm


def require_not_refused(
    target: Target, rows: Sequence[Row], refused: Sequence[Refusal], unread: Mapping[str, str]
) -> None:
    """Raise RunsLeftOut if runs of a stack or of the plan are refused, and the configuration makes that a failure.

    So do files that may hold one and are left out, `unread`, each with the reason.
    """
    found = {each.obs_id: each.reason for each in refused}
    found |= {row["obs_id"]: row["reason"] for row in reversed(rows) if row["status"] == "refused"}
    if (found or unread) and target.on_refused == "fail":
        count = f"{len(found)} of {len({row['obs_id'] for row in rows} | found.keys())} runs refused"
        lost = [count] * bool(found) + [f"{counted(len(unread), 'file')} of the store left out"] * bool(unread)
        first = "run {}: {}".format(*min(found.items())) if found else "{}: {}".format(*min(unread.items()))
        raise RunsLeftOut(f"{target.name}: {', '.join(lost)}, and on_refused is fail; the first, {first}")


def _write_cube(path: Path, artifact: Artifact, final: Final, totals: Stack, compression: str) -> None:
    """Write ``cube.h5``: all final maps, the significance maps, and what they were made of."""
    datasets: dict[str, Cube | NDArray[Any]] = dict(final.maps)
    datasets |= {f"disc_{name}": cube for name, cube in _images(final).items() if name != "flux"}
    datasets["gti_s"] = totals.gti_s
    about = {**artifact.attributes, **vars(final.summary), "gti_reference": TIME_KEYWORDS}
    about |= {"profiles": plain_profiles(totals.profiles), "further": [to_plain(disc) for disc, _ in final.further]}
    write_artifact(path, replace(artifact, datasets=datasets, attributes=about), compression)


def _images(final: Final) -> dict[str, Cube]:
    """Images in discs, the significance first."""
    images = {name: getattr(final.significance, name).to_float32() for name in IMAGES}
    if "disc_flux" in final.maps:
        images["flux"] = final.maps["disc_flux"]
    for disc, found in final.further:
        where = "{:g}deg_{:g}-{:g}TeV".format(disc.radius_deg, *disc.energy_tev)
        images |= {f"{name}_{where}": getattr(found, name).to_float32() for name in IMAGES}
    return images


def _keywords(target: Target, task: ExportTask, totals: Stack, kinds: Set[bool]) -> dict[str, str | float]:
    """Keywords of the primary header of FITS products; `kinds` holds whether the exposures are point-like."""
    edges = target.reduce.energy.edges
    return {
        "OBJECT": task.target,
        "LIVETIME": totals.livetime_s,
        "E_MIN": edges[0],
        "E_MAX": edges[-1],
        "RADIUS": target.significance.radius_deg[0],
        "HDUCLAS3": "MIXED" if len(kinds) > 1 else "POINT-LIKE" if True in kinds else "FULL-ENCLOSURE",
        "BKGMETH": target.backgrounds[task.label].method,
        "CFKEY": short(task.key),
    }


def significance_text(source: Mapping[str, float | None] | None) -> str:
    """What a cube has found at the target, in words; `source` is its attribute of that name."""
    if source is None:
        return "no significance"
    if source["significance"] is None:
        return "no significance (no bin is safe, or there is no background)"
    return f"{source['significance']:z.1f} sigma"
