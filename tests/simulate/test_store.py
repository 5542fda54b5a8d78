"""The simulated store: valid GADF, reproducible, and complete in its index."""

import errno
import gzip
import os
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.simulate.store import SimulationOptions, simulate_run, simulate_store, write_gzip, write_index
from cubeflow.store.atomic import StorageError

TINY = SimulationOptions(tiny=True, duration_s=30.0, n_runs=5)
IRF_CLASSES = ["aeff_2d", "edisp_2d", "psf_3gauss", "bkg_3d"]


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    simulate_store(folder, SimulationOptions())
    return folder


def test_gammapy_opens_the_demo_store(demo) -> None:
    from gammapy.data import DataStore

    store = DataStore.from_dir(demo)
    problems = [r for r in store.check(["obs_table", "hdu_table", "consistency"]) if r["level"] != "debug"]
    assert problems == []
    observations = store.get_observations(required_irf="full-enclosure")
    assert [int(obs.obs_id) for obs in observations] == list(range(100001, 100007))
    for obs in observations:
        assert obs.available_irfs == ["aeff", "edisp", "psf", "bkg"]
        assert len(obs.events.table) > 1000
        deadc = obs.events.table.meta["DEADC"]
        assert obs.observation_live_time_duration.to_value("s") == pytest.approx(obs.gti.time_sum.value * deadc)
        separation = obs.get_pointing_icrs(obs.tmid).separation(obs.target_radec).deg
        assert 0.49 < separation < 0.71


def test_demo_files_are_small_and_have_valid_checksums(demo) -> None:
    for path in demo.iterdir():
        assert path.stat().st_size < 200_000
        with fits.open(path, checksum=True) as hdus:
            hdus.verify("exception")
            assert all((hdu.verify_checksum(), hdu.verify_datasum()) == (1, 1) for hdu in hdus)
            assert not any(key.startswith("DATE") for hdu in hdus for key in hdu.header)


def test_headers_and_columns_follow_gadf(demo) -> None:
    with fits.open(demo / "obs_100001.fits.gz") as hdus:
        assert all(hdu.header["HDUCLASS"] == "GADF" and hdu.header["HDUVERS"] == "0.3" for hdu in hdus[1:])
        assert [hdu.header.get("HDUCLAS4") for hdu in hdus[3:]] == ["AEFF_2D", "EDISP_2D", "PSF_3GAUSS", "BKG_3D"]
        assert hdus["BACKGROUND"].header["FOVALIGN"] == "RADEC"
        assert [c.name for c in hdus["BACKGROUND"].columns][::2] == ["ENERG_LO", "DETX_LO", "DETY_LO", "BKG"]
        assert hdus["BACKGROUND"].data["BKG"].shape == (1, 20, 20, 12)
        assert hdus["ENERGY DISPERSION"].data["MATRIX"].shape == (1, 5, 60, 24)
        migra = hdus["ENERGY DISPERSION"].data
        norm = (migra["MATRIX"][0] * (migra["MIGRA_HI"] - migra["MIGRA_LO"])[0][:, np.newaxis]).sum(axis=1)
        np.testing.assert_allclose(norm, 1.0, rtol=1e-5)
        assert 0.3 < hdus["EFFECTIVE AREA"].header["LO_THRES"] < 1.0


@pytest.mark.parametrize("obs_id", range(100001, 100007))
def test_events_lie_in_the_good_time_intervals_in_order(demo, obs_id: int) -> None:
    with fits.open(demo / f"obs_{obs_id}.fits.gz") as hdus:
        events, gti, header = hdus["EVENTS"].data, hdus["GTI"].data, hdus["EVENTS"].header
        inside = (events["TIME"][:, np.newaxis] >= gti["START"]) & (events["TIME"][:, np.newaxis] <= gti["STOP"])
        assert inside.any(axis=1).all()
        assert inside.any(axis=0).all()
        assert len(gti) == (2 if obs_id == 100002 else 1)
        assert (np.diff(events["TIME"]) >= 0.0).all()
        np.testing.assert_array_equal(events["EVENT_ID"], np.arange(1, len(events) + 1))
        assert header["ONTIME"] == pytest.approx((gti["STOP"] - gti["START"]).sum())
        assert header["LIVETIME"] == pytest.approx(header["ONTIME"] * header["DEADC"])
        assert (header["TSTART"], header["TSTOP"]) == (gti["START"][0], gti["STOP"][-1])


def test_runs_follow_each_other_in_time_over_several_nights(demo) -> None:
    with fits.open(demo / "obs-index.fits.gz") as hdus:
        rows = hdus[1].data
    assert (rows["TSTART"][1:] > rows["TSTOP"][:-1]).all()
    assert len(set(rows["TSTART"] // 86400)) == 2
    assert len({(row["RA_PNT"], row["DEC_PNT"]) for row in rows}) == 6
    assert len(set(rows["ZEN_PNT"])) == 5


def test_observation_index_repeats_the_headers(demo) -> None:
    with fits.open(demo / "obs-index.fits.gz") as index:
        for row in index[1].data:
            header = fits.getheader(demo / f"obs_{row['OBS_ID']}.fits.gz", "EVENTS")
            for key in ("RA_PNT", "DEC_PNT", "ALT_PNT", "AZ_PNT", "TSTART", "TSTOP", "ONTIME", "LIVETIME", "DEADC"):
                assert row[key] == header[key]
            assert (row["OBJECT"], row["TELLIST"]) == (header["OBJECT"], header["TELLIST"])


def test_hdu_index_lists_every_hdu_where_it_is(tmp_path) -> None:
    paths = simulate_store(tmp_path, TINY)
    assert [p.name for p in paths[-2:]] == ["hdu-index.fits.gz", "obs-index.fits.gz"]
    with fits.open(tmp_path / "hdu-index.fits.gz") as index:
        rows = index[1].data
        assert len(rows) == 5 * 6
        for row in rows:
            header = fits.getheader(tmp_path / row["FILE_DIR"] / row["FILE_NAME"], row["HDU_NAME"])
            assert row["HDU_CLASS"] == header.get("HDUCLAS4", header["HDUCLAS1"]).lower()
            assert header.get("OBS_ID", row["OBS_ID"]) == row["OBS_ID"]


def test_same_options_give_the_same_bytes(tmp_path) -> None:
    simulate_store(tmp_path / "a", TINY)
    simulate_store(tmp_path / "b", TINY)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    simulate_store(tmp_path / "c", replace(TINY, seed=43))
    assert contents(tmp_path / "c")["obs_100001.fits.gz"] != contents(tmp_path / "a")["obs_100001.fits.gz"]


def test_runs_added_later_equal_runs_made_at_once(tmp_path) -> None:
    simulate_store(tmp_path / "once", TINY)
    simulate_store(tmp_path / "grown", replace(TINY, n_runs=2))
    for obs_id in (100005, 100003, 100004):
        simulate_run(tmp_path / "grown", obs_id, TINY)
    write_index(tmp_path / "grown", TINY)
    assert contents(tmp_path / "grown") == contents(tmp_path / "once")


def test_index_of_chosen_runs(tmp_path) -> None:
    simulate_store(tmp_path, TINY)
    write_index(tmp_path, TINY, obs_ids=[100004, 100002])
    with fits.open(tmp_path / "obs-index.fits.gz") as index:
        assert index[1].data["OBS_ID"].tolist() == [100002, 100004]


def test_shared_responses_are_one_file(tmp_path) -> None:
    paths = simulate_store(tmp_path, replace(TINY, shared_irf=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    with fits.open(tmp_path / "hdu-index.fits.gz") as index:
        rows = index[1].data
        responses = rows[np.isin(rows["HDU_CLASS"], IRF_CLASSES)]
        assert set(responses["FILE_NAME"]) == {"irf.fits.gz"}
        assert len(responses) == 5 * 4
    with fits.open(tmp_path / "obs_100001.fits.gz") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "EVENTS", "GTI"]


def test_empty_field_has_background_only(tmp_path) -> None:
    path = simulate_run(tmp_path, 100001, replace(TINY, sources=(), tiny=False))
    with fits.open(path) as hdus:
        assert set(hdus["EVENTS"].data["MC_ID"]) == {1}
        assert hdus["EVENTS"].header["OBJECT"] == "empty field"


def test_second_source_and_source_out_of_reach(tmp_path) -> None:
    sources = ((83.633, 22.014, 50.0), (84.0, 23.0, 50.0), (93.0, 22.014, 50.0))
    with fits.open(simulate_run(tmp_path, 100001, replace(TINY, sources=sources))) as hdus:
        events = hdus["EVENTS"].data
        assert set(events["MC_ID"]) == {1, 2, 3}
        second = events[events["MC_ID"] == 3]
        assert np.median(second["RA"]) == pytest.approx(84.0, abs=0.05)
        assert np.median(second["DEC"]) == pytest.approx(23.0, abs=0.05)


def test_store_without_runs(tmp_path) -> None:
    simulate_store(tmp_path, replace(TINY, n_runs=0))
    with fits.open(tmp_path / "obs-index.fits.gz") as index:
        assert len(index[1].data) == 0


def test_right_ascension_wraps_at_zero(tmp_path) -> None:
    options = replace(TINY, centre=(0.0, 30.0), sources=((0.0, 30.0, 10.0),), background_scale=5.0)
    with fits.open(simulate_run(tmp_path, 100004, options)) as hdus:
        ra = hdus["EVENTS"].data["RA"]
    assert ((ra >= 0.0) & (ra < 360.0)).all()
    assert ((ra < 5.0) | (ra > 355.0)).all()
    assert (ra < 5.0).any()
    assert (ra > 355.0).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_runs": -1}, "n_runs -1"),
        ({"first_obs_id": 2**63 - 1}, "numbers of runs below 2"),
        ({"duration_s": 0.0}, "duration_s 0.0: expected"),
        ({"duration_s": float("nan")}, "duration_s nan: expected"),
        ({"offset_max_deg": 4.0}, "offset_max_deg 4.0: expected"),
        ({"background_scale": 0.0}, "background_scale must be positive"),
        ({"sources": ((0.0, 0.0, -1.0),)}, "fluxes of sources must not be negative"),
    ],
)
def test_options_out_of_range_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_gzip_has_no_date_and_leaves_no_temporary_file(tmp_path) -> None:
    path = write_gzip(tmp_path / "a.fits.gz", b"content")
    packed = path.read_bytes()
    assert gzip.decompress(packed) == b"content"
    assert packed[4:8] == b"\0\0\0\0"
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits.gz"]


def test_failed_write_leaves_the_old_file_alone(tmp_path, monkeypatch) -> None:
    path = write_gzip(tmp_path / "a.fits.gz", b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(StorageError, match=r"a\.fits\.gz: no space is left"):
        write_gzip(path, b"new")
    assert gzip.decompress(path.read_bytes()) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits.gz"]
