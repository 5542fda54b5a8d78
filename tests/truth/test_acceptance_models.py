"""Acceptance models from real events: empty fields of H.E.S.S., the Crab nebula of MAGIC, the truth of CTA-1DC."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cubeflow.config import parse_config
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import energy_axis, log_edges, sphere
from cubeflow.plan.run import finish, run_whole
from cubeflow.products.acceptance_fit import FitOptions, OffOptions
from cubeflow.products.acceptance_model import fit_acceptance_model, make_off_run, with_model
from cubeflow.products.exclusion import Areas, Disc, Exclusion, ExclusionMasks
from cubeflow.products.profiles import OFFSET_WIDTH_DEG, energy_bands
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.store.artifact import open_artifact

pytestmark = [pytest.mark.truth, pytest.mark.real_data]
EDGES = log_edges(0.5, 20.0, 8)
GROUPS = [slice(0, 2), slice(2, 4), slice(4, 8)]
ANNULI = (0.0, 0.7, 1.2, 1.6, 2.0)


def field(off):
    """Offset of each cell in deg, and its octant."""
    centers = off.edges_deg[:-1] + 0.5 * off.cell_deg
    lon, lat = np.meshgrid(centers, centers, indexing="ij")
    return lon, lat, np.hypot(lon, lat), ((np.arctan2(lat, lon) % (2 * np.pi)) // (np.pi / 4)).astype(int)


def test_a_model_of_44_empty_fields_predicts_the_45th(hess_store, record):
    """Every field is left out in turn; by energy, annulus and octant, beside the published tables."""
    off = OffOptions(energy_axis(EDGES), 2.0, SafeMaskOptions(), 0.2, "RADEC")
    entries = [run for run in open_store(hess_store).runs if run.obs_info["TARGET_NAME"].strip() == "Off data"]
    observations = [read_observation(entry) for entry in entries]
    runs = [make_off_run(each, off, ExclusionMasks([])) for each in observations]
    model = fit_acceptance_model("off", runs, off, FitOptions())
    lon, lat, offset, octant = field(off)
    parts = [
        (group, (offset >= lower) & (offset < upper) & (octant == k))
        for group in GROUPS
        for lower, upper in itertools.pairwise(ANNULI)
        for k in range(8)
    ]
    pulls = {}
    for name in ("tables", "model"):
        counts, predicted = np.zeros(len(parts)), np.zeros(len(parts))
        for observation, run in zip(observations, runs, strict=True):
            known = observation if name == "tables" else with_model("off", model, observation)
            expected = known.background.integrate(EDGES, lon, lat) * run.exposure
            expected *= run.counts.sum() / expected.sum()
            counts += [run.counts[group][:, part].sum() for group, part in parts]
            predicted += [expected[group][:, part].sum() for group, part in parts]
        pulls[name] = (counts - predicted) / np.sqrt(predicted)
        text = f"45 empty fields, each predicted by its {name}: "
        record(f"models.hess.{name}.chi2", (pulls[name] ** 2).mean(), "", text + "chi2 of 96 cells, over their number")
        for number, group in enumerate(GROUPS):
            of_group = np.array([each is group for each, _ in parts])
            for ring, (lower, upper) in enumerate(itertools.pairwise(ANNULI)):
                inside = [np.any(part & (offset >= lower) & (offset < upper)) for _, part in parts] & of_group
                ratio = predicted[inside].sum() / counts[inside].sum()
                where = f"{EDGES[group.start]:.2g} to {EDGES[group.stop]:.2g} TeV, {lower} to {upper} deg"
                record(f"models.hess.{name}.{number}.{ring}", ratio, "", f"{text}predicted / observed, {where}")
    check_stated_error(model, [with_model("off", model, each) for each in observations], runs, record)
    share = np.mean(np.abs(pulls["model"]) < 1.0)
    record("models.hess.within", share, "", "empty fields, model: share of cells within their Poisson error")
    assert len(runs) == 45
    assert 0.63 < share < 0.73
    assert (pulls["model"] ** 2).mean() < 1.2 < (pulls["tables"] ** 2).mean()


def check_stated_error(model, predicting, runs, record):
    """Each field, energy band and ring beside what the model of the others and the stated error allow."""
    off, bands = model.off, energy_bands(model.off.energy)
    lon, lat, offset, _ = field(off)
    ring = np.minimum((offset / OFFSET_WIDTH_DEG).astype(int), model.systematic.shape[2] - 1)
    pulls = []
    for known, run in zip(predicting, runs, strict=True):
        expected = known.background.integrate(EDGES, lon, lat) * run.exposure
        expected *= run.counts.sum() / expected.sum()
        for k, band in enumerate(bands):
            n, mu = (np.bincount(ring.ravel(), each[band].sum(axis=0).ravel()) for each in (run.counts, expected))
            n, mu, stated = n[mu > 20], mu[mu > 20], model.systematic[0, k, mu > 20]
            variance = mu * (1 - mu / expected.sum())
            pulls += zip((n - mu) / np.sqrt(variance + (stated * mu) ** 2), (n - mu) / np.sqrt(variance), strict=True)
    for k, band in enumerate(bands):
        energies = f"{EDGES[band.start]:.2g} to {EDGES[band.stop]:.2g} TeV"
        text = f"empty fields, model: relative error of a run beyond counts, {energies}"
        for name, value in zip(("", ".err"), np.median(model.systematic[:, k], axis=1), strict=True):
            record(f"models.hess.systematic.{k}{name}", value, "", text + (", its error" if name else ""))
    (share, _), (width, alone) = np.mean(np.abs(pulls) < 1.0, axis=0), np.std(pulls, axis=0)
    record("models.hess.systematic.within", share, "", "empty fields, model: share of cells within their stated error")
    record("models.hess.systematic.width", width, "", "empty fields, model: width of pulls with the stated error")
    record("models.hess.systematic.alone", alone, "", "empty fields, model: width of pulls with the error of counts")
    assert abs(share - 0.68) < 0.05
    assert abs(width - 1.0) < 0.05 < alone - 1.0


MAGIC = """
data: {{store: {store}}}
results: {folder}
targets:
  crab:
    position: {{lon: 83.63333 deg, lat: 22.01444 deg}}
    geometry: {{width: 3 deg, pixel: 0.02 deg}}
energy: {{min: 0.15 TeV, max: 10 TeV, bins_per_decade: 5}}
energy_true: {{min: 0.05 TeV, max: 30 TeV, bins_per_decade: 10}}
offset_max: 1.5 deg
acceptance: {{model: self}}
exclusion: {folder}/crab.reg
backgrounds:
  fov: {{method: fov}}
  ring: {{method: ring, r_in: 0.4 deg, width: 0.3 deg}}
significance: {{radius: 0.1 deg}}
"""


def test_magic_has_a_crab_nebula(data_root, tmp_path, record):
    """Two runs of 20 min without a background table: each is modelled by the other."""
    store = data_root / "magic" / "data"
    if not (store / "hdu-index.fits.gz").is_file():
        pytest.skip(f"no MAGIC store in {data_root}")
    (tmp_path / "crab.reg").write_text("icrs\ncircle(83.63333, 22.01444, 0.35)\n")
    said: list[str] = []
    finish(run_whole(parse_config(MAGIC.format(store=store, folder=tmp_path)), said.append), said.append)
    for label in ("fov", "ring"):
        image = fits.getdata(tmp_path / f"crab/{label}/significance.fits.gz", "SIGNIFICANCE").squeeze()
        y, x = np.indices(image.shape) - (len(image) - 1) / 2
        offset = np.hypot(x, y) * 0.02
        peak = np.unravel_index(np.nanargmax(image), image.shape)
        outside = image[(offset > 0.5) & (offset < 1.2) & np.isfinite(image)]
        record(f"models.magic.{label}.peak", image[peak], "sigma", f"MAGIC, Crab nebula, {label}: highest significance")
        record(f"models.magic.{label}.width", outside.std(), "sigma", f"MAGIC, {label}: width beside the Crab nebula")
        assert image[peak] > 30.0
        assert offset[peak] < 0.1
        assert abs(outside.std() - 1.0) < 0.08
        # The exposure holds inside the cut on direction, and in a ring of offsets only: no flux of another disc.
        with open_artifact(tmp_path / f"crab/{label}/cube.h5", "cube") as opened:
            assert "flux" not in opened.artifact.attributes["source"]
    assert any(line.startswith("crab: fov, ring: no flux: a point-like exposure") for line in said)
    assert not [name for name in Table.read(tmp_path / "crab/runs.ecsv").colnames if "flux" in name]


def test_a_model_from_what_is_not_excluded_is_the_true_background(data_root, cta_store, record):
    """Of CTA-1DC: the galactic plane is masked in the model, and counted in the truth."""
    off = OffOptions(energy_axis(log_edges(0.1, 10.0, 8)), 4.0, SafeMaskOptions(("offset-max",)), 0.4, "RADEC")
    runs, truth = [], []
    for entry in open_store(cta_store, [data_root / "cta-1dc"]).runs:
        observation = read_observation(entry)
        observation = replace(observation, events=observation.events.select(observation.events.mc_id == 1))
        pointing = sphere.unit_vectors(observation.pointing.ra_deg, observation.pointing.dec_deg)
        lon, _ = sphere.lon_lat(sphere.icrs_to_frame(pointing, "galactic"))
        plane = sphere.frame_to_icrs(sphere.unit_vectors(lon + np.arange(-8.0, 8.5, 0.5), np.zeros(33)), "galactic")
        discs = tuple(Disc(float(ra), float(dec), 1.5) for ra, dec in zip(*sphere.lon_lat(plane), strict=True))
        runs.append(make_off_run(observation, off, ExclusionMasks([Exclusion("plane", Areas(discs))])))
        truth.append(make_off_run(observation, off, ExclusionMasks([])))
    model = fit_acceptance_model("cta", runs, off, FitOptions())
    counts = sum(run.counts for run in truth).sum(axis=(1, 2))
    predicted = (model.rate[0] * sum(run.exposure for run in truth)).sum(axis=(1, 2))
    used = model.counts.sum(axis=(0, 2, 3))
    for band, (low, high) in enumerate(zip(off.energy.edges, off.energy.edges[1:], strict=False)):
        text = f"CTA-1DC, {low:.2g} to {high:.2g} TeV within 4 deg: model from outside the plane over true background"
        record(f"models.cta.{band}", predicted[band] / counts[band], "", text)
    pull = (predicted / counts - 1.0) / np.sqrt(0.02**2 + 1.0 / used - 1.0 / counts)
    assert np.abs(pull).max() < 3.0
    assert predicted.sum() == pytest.approx(counts.sum(), rel=0.01)
