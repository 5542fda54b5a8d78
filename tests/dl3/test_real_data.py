"""The public H.E.S.S. and CTA data, against known numbers and against gammapy."""

import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy.time import Time

from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import open_table, read_hdus
from cubeflow.dl3.index import open_store
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.reader import read_observation
from cubeflow.dl3.responses import READERS

pytestmark = pytest.mark.real_data
CRAB = (23523, 23526, 23559, 23592)


@pytest.fixture(scope="module")
def crab(hess_store):
    entries = {run.obs_id: run for run in open_store(hess_store).runs}
    return [read_observation(entries[obs_id]) for obs_id in CRAB]


@pytest.fixture(scope="module")
def cta(cta_store, data_root):
    store = open_store(cta_store, roots=[data_root / "cta-1dc"])
    return read_observation(next(run for run in store.runs if run.obs_id == 111140))


def gammapy_observation(folder, obs_id):
    from gammapy.data import DataStore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        obs = DataStore.from_dir(folder).obs(obs_id)
        return obs, obs.events.table, obs.aeff, obs.edisp, obs.psf, obs.bkg


def test_totals_of_the_crab_runs(crab):
    assert sum(obs.meta["event_count"] for obs in crab) == 30129
    assert sum(obs.ontime_s for obs in crab) == pytest.approx(6742.00, abs=1e-6)
    assert sum(obs.livetime_s for obs in crab) == pytest.approx(6313.8117, abs=5e-5)
    assert [obs.repairs["events_outside_gti"] for obs in crab] == [1, 3, 2, 6]


def test_events_near_the_pointing_above_threshold(crab):
    """Numbers of PHYSICS.md; separation by the haversine formula."""
    counts = []
    for obs in crab:
        ra, dec = np.deg2rad(obs.events.ra_deg), np.deg2rad(obs.events.dec_deg)
        ra_0, dec_0 = np.deg2rad(obs.pointing.ra_deg), np.deg2rad(obs.pointing.dec_deg)
        h = np.sin((dec - dec_0) / 2) ** 2 + np.cos(dec) * np.cos(dec_0) * np.sin((ra - ra_0) / 2) ** 2
        near = np.rad2deg(2 * np.arcsin(np.sqrt(h))) < 2
        counts.append(int(np.sum(near & (obs.events.energy_tev >= obs.aeff.lo_thres_tev))))
    assert counts == [2305, 2571, 2631, 2168]


def test_known_deviations_are_named(crab, cta):
    assert {"hess-dr1-background-mirrored", "theta-nodes", "telapse-zero", "hdu-name-case"} <= set(crab[0].quirks)
    assert {"ogip-hduclass", "bkg-column-bgd", "unit-not-fits", "edisp-etrue-columns", "sigma1-zero"} <= set(cta.quirks)
    assert {"edisp-not-normalised", "fovalign-missing", "ra-wrapped", "gti-without-unit"} <= set(cta.quirks)


def test_hess_against_gammapy(hess_store, crab):
    _, events, aeff, edisp, psf, bkg = gammapy_observation(hess_store, CRAB[0])
    obs = crab[0]
    np.testing.assert_array_equal(obs.events.ra_deg, events["RA"])
    np.testing.assert_array_equal(obs.events.energy_tev, events["ENERGY"])
    since = (events["TIME"] - Time(51910, format="mjd", scale="tt")).sec
    np.testing.assert_allclose(obs.events.time_s, since, rtol=0, atol=1e-6)
    np.testing.assert_allclose(obs.aeff.area_m2, np.maximum(aeff.quantity.to_value("m2"), 0), rtol=1e-12)
    np.testing.assert_allclose(obs.aeff.energy_true.values, aeff.axes["energy_true"].center.to_value("TeV"), rtol=1e-6)
    np.testing.assert_allclose(obs.aeff.offset.values, aeff.axes["offset"].center.to_value("deg"), rtol=1e-6)
    np.testing.assert_allclose(obs.psf.density_sr, np.maximum(psf.quantity.to_value("sr-1"), 0), rtol=1e-12)
    check_dispersion(obs, edisp)
    # gammapy reads longitude west and marks it as reversed later: (energy, lon, lat) is the same array
    np.testing.assert_allclose(obs.background.rate, np.maximum(bkg.quantity.to_value("s-1 TeV-1 sr-1"), 0), rtol=1e-6)
    np.testing.assert_allclose(obs.background.lon_edges_deg, bkg.axes["fov_lon"].edges.to_value("deg"), atol=1e-6)
    assert bkg.fov_alignment == "REVERSE_LON_RADEC"


def test_a_run_that_gammapy_wrote_is_the_run_of_the_release(hess_store, crab, tmp_path):
    gammapy_observation(hess_store, CRAB[0])[0].write(tmp_path / "run.fits", overwrite=True)
    found = read_observation(open_store(tmp_path).runs[0]).background
    np.testing.assert_allclose(found.rate, crab[0].background.rate, rtol=1e-6)
    np.testing.assert_allclose(found.lon_edges_deg, crab[0].background.lon_edges_deg, atol=1e-6)


@pytest.mark.parametrize("name", ["bkg_2d", "bkg_3d"])
def test_backgrounds_whose_arrays_are_turned_against_gammapy(data_root, name):
    from gammapy.irf import Background2D, Background3D

    path = data_root / "irf-examples" / f"{name}_full_example.fits"
    table, notes = open_table(read_hdus(path)[1]), Notes()
    found = READERS[name](table, notes).rate
    other = {"bkg_2d": Background2D, "bkg_3d": Background3D}[name].read(path, hdu=1)
    expected = other.quantity.to_value("s-1 TeV-1 sr-1")
    np.testing.assert_allclose(found, expected if name == "bkg_2d" else expected[:, ::-1], rtol=1e-6)
    assert "axis-order-by-lengths" in notes.quirks


def check_dispersion(obs, edisp):
    """Same density wherever gammapy's table is normalised; else the same shape."""
    values = np.maximum(edisp.quantity.to_value(""), 0)
    norm = (values * np.diff(obs.edisp.migra_edges)[:, None]).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(obs.edisp.density * norm, values, rtol=1e-9, atol=1e-12 * values.max())
    np.testing.assert_allclose(obs.edisp.migra_edges, edisp.axes["migra"].edges.value, rtol=1e-5)


def test_cta_against_gammapy(cta_store, cta):
    _, events, aeff, edisp, psf, bkg = gammapy_observation(cta_store, 111140)
    np.testing.assert_allclose(cta.events.ra_deg, np.mod(np.asarray(events["RA"], dtype=float), 360))
    np.testing.assert_array_equal(cta.events.mc_id, events["MC_ID"])
    np.testing.assert_allclose(cta.aeff.area_m2, aeff.quantity.to_value("m2"), rtol=1e-12)
    np.testing.assert_allclose(
        cta.edisp.energy_true.values, edisp.axes["energy_true"].center.to_value("TeV"), rtol=1e-6
    )
    check_dispersion(cta, edisp)
    for name in ("scale", "sigma_1", "ampl_2", "sigma_2", "ampl_3", "sigma_3"):
        found, expected = getattr(cta.psf, name), psf.quantity[name].value
        there = found > 0 if "sigma" in name else found > -1  # gammapy writes 1 deg for a width of 0
        np.testing.assert_allclose(found[there], expected[there], rtol=1e-12)
    # gammapy's longitude grows west; the rate of ctobssim is per livetime
    expected = bkg.quantity.to_value("s-1 TeV-1 sr-1") * cta.deadc
    np.testing.assert_allclose(cta.background.rate, np.swapaxes(expected, 1, 2)[:, ::-1], rtol=1e-6)
    assert cta.pointing.ra_deg == pytest.approx(264.2315979)


def test_cta_store_without_roots_says_what_to_add(cta_store, data_root):
    store = open_store(cta_store)
    assert not store.runs
    assert f'roots: ["{(data_root / "cta-1dc").resolve()}"]' in store.refused[111140]
    store = open_store(cta_store, roots=[data_root / "cta-1dc"])
    assert sorted(store.refused) == [110380, 111630]
    assert "No such file" in store.refused[110380]


def test_damage_to_a_real_file_is_never_accepted(hess_store, tmp_path):
    packed = (hess_store / "data/hess_dl3_dr1_obs_id_023523.fits.gz").read_bytes()
    rng = random.Random(4)
    path = tmp_path / "run.fits.gz"
    cuts = [int(len(packed) * fraction) for fraction in (0.05, 0.5, 0.9, 0.999)] + [
        rng.randrange(20, len(packed)) for _ in range(6)
    ]
    damaged = [packed[:cut] for cut in cuts]
    for _ in range(30):
        content = bytearray(packed)
        content[rng.randrange(80, len(packed))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(FileRefused, match=r"run.fits.gz"):
            read_hdus(path)


def test_background_tables_of_hess_are_interpolated_in_the_logarithm(hess_store):
    """Their bins of 0.1 deg are narrow: what ``auto`` chooses is what it was before there was a choice."""
    run = next(read_observation(entry) for entry in open_store(hess_store).runs)
    assert (run.background.interpolation, run.background.is_linear) == ("auto", False)


def test_ctobssim_is_known_whatever_wrote_the_file_last(data_root, cta_store, cta, tmp_path):
    """The background of run 111140 stays per livetime where CREATOR names another program."""
    entry = next(run for run in open_store(cta_store, [data_root / "cta-1dc"]).runs if run.obs_id == 111140)
    (events,) = (ref.path for ref in entry.hdus if ref.hdu_type == "events")
    path = tmp_path / events.name
    content = events.read_bytes()
    assert content.count(b"'ctobssim (1.4.0)'") == 1
    path.write_bytes(content.replace(b"'ctobssim (1.4.0)'", b"'GammaLib'        "))
    hdus = tuple(ref._replace(path=path) if ref.path == events else ref for ref in entry.hdus)
    again = read_observation(replace(entry, hdus=hdus))
    np.testing.assert_array_equal(again.background.rate, cta.background.rate)
    assert "ctobssim-background-per-livetime" in again.quirks
    assert again.meta["events_offset_max_deg"] == 5.0
