"""The tasks ``off`` and ``model``: what OFF runs give, one small artifact each, and the acceptance model from them."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cubeflow.dl3.entries import RunEntry
from cubeflow.dl3.hdus import Header
from cubeflow.dl3.reader import ReadOptions, name_file, read_observation
from cubeflow.errors import FailedError, MistakeError, Say
from cubeflow.irf.background import BackgroundRate, mean_by_offset
from cubeflow.maps import FloatArray
from cubeflow.observation import RunRefused, RunSkipped
from cubeflow.pipeline import versions
from cubeflow.pipeline.certificate import software
from cubeflow.pipeline.reduce import guarding
from cubeflow.pipeline.stack import open_made
from cubeflow.pipeline.tasks import ModelTask, OffTask, Target, UnitKeys, gadf_file, model_file, off_file
from cubeflow.products.acceptance_model import OffRun, RunFacts, fit_acceptance_model, make_off_run, model_background
from cubeflow.products.exclusion import ExclusionMasks
from cubeflow.products.pieces import in_selected_time
from cubeflow.store.artifact import Artifact, write_artifact
from cubeflow.store.atomic import make_folder, sweep_temporaries
from cubeflow.store.fits import Keywords, write_background_fits, write_tables_fits
from cubeflow.store.keys import from_plain, to_plain


def make_off_batch(results: Path, target: Target, task: OffTask, say: Say) -> None:
    """Make what is missing of a batch of OFF runs; one that cannot be used leaves the reason.

    FailedError if an input file is not the one planned with, or disk or memory failed. The other runs are done.
    """
    assert target.model is not None
    exclusions = ExclusionMasks([each.read() for each in target.model.exclusions])
    failed: list[str] = []
    for keys in task.units:
        path = results / off_file(task.model, keys.unit.name, keys.reduced)
        if path.exists():
            continue
        try:
            made = _off_artifact(target, keys, exclusions, say)
            make_folder(path.parent)
            sweep_temporaries(path.parent)
            write_artifact(path, made, target.compression)
        except FailedError as error:
            failed.append(str(error))
    if failed:
        raise FailedError("\n".join(failed))


def _off_artifact(target: Target, keys: UnitKeys, exclusions: ExclusionMasks, say: Say) -> Artifact:
    """Read an OFF run and count it."""
    assert target.model is not None
    off, recipe = target.model.off, keys.recipe(target.off_recipe())
    try:
        with guarding(f"run {keys.unit.name}", say):
            options = ReadOptions(require=(), duplicates=off.duplicates, digests=keys.inputs, where=off.events_where)
            observation = in_selected_time(read_observation(keys.entry, options), off.time_mjd)
            run = make_off_run(observation, off, exclusions)
        about: dict[str, object] = {"status": "ok", "run": to_plain(run.facts)}
        datasets = {"counts": run.counts, "exposure": run.exposure}
    except (RunRefused, RunSkipped) as error:
        say(f"{target.model.name}: left out: {name_file(str(error), keys.entry)}")
        about, datasets = {"status": "refused", "reason": str(error)}, {}
    made_from = {**recipe.record, "software": software()}
    return Artifact("off", keys.reduced, versions.OFF, datasets, about, made_from)


def make_model(results: Path, target: Target, task: ModelTask, say: Say) -> None:
    """Fit an acceptance model to its OFF runs, and write it; FailedError as `open_made`, or if there is no model."""
    assert target.model is not None
    off, fit, runs = target.model.off, target.model.fit, []
    for unit, key in task.runs.items():
        with open_made(results / off_file(task.model, unit, key), "off", key) as opened:
            about = opened.artifact.attributes
            if about["status"] == "ok":
                counts, exposure = (np.asarray(opened.dataset(name)) for name in ("counts", "exposure"))
                runs.append(OffRun(from_plain(RunFacts, about["run"]), counts, exposure))
    model = fit_acceptance_model(target.model.key, runs, off, fit)
    datasets = {name: value for name, value in vars(model).items() if isinstance(value, np.ndarray)}
    about = {name: to_plain(value) for name, value in vars(model).items() if name not in datasets}
    made_from = {**task.recipe(target).record, "software": software()}
    path = results / model_file(task.model, task.key)
    write_artifact(path, Artifact("model", task.key, versions.MODEL, datasets, about, made_from), target.compression)
    nodes: list[tuple[BackgroundRate, FloatArray | None, Keywords]] = []
    for rate, error, cosine in zip(model.rate, model.error, model.cos_zenith, strict=True):
        response = model_background(off, rate)
        first = np.searchsorted(off.energy.edges_array, response.energy_edges_tev[0])
        known = np.where(np.isfinite(error), error, 0.0)[first : first + len(response.rate)]
        angle = {"ZEN_PNT": float(np.rad2deg(np.arccos(cosine)))} if np.isfinite(cosine) else {}
        nodes.append((response, known * response.rate, angle))
        if model.fit.form == "radial":
            n_bins = round(2 * off.offset_max_deg / off.cell_deg)
            nodes.append((mean_by_offset(response, off.offset_max_deg, n_bins), None, angle))
    about_file = {"KEY": task.key, "INSTRUME": model.runs[0].instrument}
    write_background_fits(results / gadf_file(task.model, task.key), nodes, about_file)
    said = f"{task.model}: {model.fit.form}, {len(model.runs)} of {len(task.runs)} runs, {model.counts.sum()} counts"
    if model.held_out and set(model.held_out.values()) == {None}:
        said += "; no form can be fitted to a part of the runs: cell by cell"
    n_seen = np.cumsum(model.counts.any(axis=(0, 2, 3)))  # energies with counts up to each
    empty, is_inner = np.diff(n_seen, prepend=0) == 0, (n_seen > 0) & (n_seen < n_seen[-1])
    for what, where in (("none", empty & ~is_inner), ("interpolated", empty & is_inner)):
        if where.any():
            said += f"; {what} at {', '.join(f'{center:.3g}' for center in off.energy.centers[where])} TeV"
    say(said)


def write_index(folder: Path, entries: Iterable[RunEntry], gadf: Path) -> int:
    """Write index files by which other programs take the background of runs from the file of a model.

    Each run has the response of the nearest zenith angle. The files of the runs stay where they are: paths in
    ``hdu-index.fits.gz`` go out from `folder`. Gives the number of runs; MistakeError if a zenith angle is not known.
    """
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(gadf) as hdus:
        tables = [hdu for hdu in hdus[1:] if not hdu.name.startswith("RADIAL")]
        zenith_deg = {hdu.name: hdu.header.get("ZEN_PNT", 0.0) for hdu in tables}

    def number(info: Header, name: str) -> float:
        value = info.get(name)
        return float(value) if isinstance(value, int | float) else np.nan

    rows, runs = [], []
    for entry in entries:
        here_deg, altitude_deg = number(entry.obs_info, "ZEN_PNT"), number(entry.obs_info, "ALT_PNT")
        if np.isnan(here_deg) and 0 < altitude_deg < 90:  # beyond are placeholders
            here_deg = 90.0 - altitude_deg
        if len(zenith_deg) > 1 and np.isnan(here_deg):
            raise MistakeError(f"run {entry.obs_id}: expected ZEN_PNT or ALT_PNT in the index, found neither")
        away = {name: abs(each - here_deg) for name, each in zenith_deg.items()}
        of_run = [ref[:4] for ref in entry.hdus if ref.hdu_type != "bkg"]
        for kind, kind_class, path, name in (*of_run, ("bkg", "bkg_3d", gadf, min(away, key=away.__getitem__))):
            place = os.path.relpath(path.resolve().parent, folder.resolve())
            rows.append((entry.obs_id, kind, kind_class, place, path.name, name))
        runs.append((entry.obs_id, *(number(entry.obs_info, name) for name in ("RA_PNT", "DEC_PNT"))))
    make_folder(folder)
    names = ["OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME"]
    write_tables_fits(folder / "hdu-index.fits.gz", {"HDU_INDEX": Table(rows=rows, names=names)})
    listed = Table(rows=runs, names=["OBS_ID", "RA_PNT", "DEC_PNT"], units=[None, "deg", "deg"])
    write_tables_fits(folder / "obs-index.fits.gz", {"OBS_INDEX": listed})
    return len(runs)
