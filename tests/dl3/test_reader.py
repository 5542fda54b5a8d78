"""Whole runs: what comes out of a valid one, and what happens to each fault."""

import contextlib
import hashlib
from io import BytesIO

import numpy as np
import pytest

from cubeflow.dl3 import hdus
from cubeflow.dl3.files import InputChanged, digest_file, read_content
from cubeflow.dl3.index import StoreError, open_store
from cubeflow.dl3.reader import ReadOptions, name_file, read_enclosure, read_gti_and_site, read_observation
from cubeflow.observation import RunRefused

HESS = {"CREATOR": "SASH FITS::EventListWriter", "HDUVERS": "0.2"}


def replace(name, column, function):
    """Edit one column of a table."""

    def edit(run):
        values, unit = run[name].columns[column]
        run[name].columns[column] = (function(values.copy()), unit)

    return edit


def put(index, value):
    """Set one element of an array."""

    def change(values):
        values[index] = value
        return values

    return change


def test_valid_run_has_no_quirks_or_repairs(read, stores):
    obs = read()
    assert (obs.quirks, obs.repairs) == ((), {})
    columns = stores.make_run(7)["events"].columns
    np.testing.assert_allclose(obs.events.time_s, columns["TIME"][0] + stores.TT_OFFSET_S, rtol=0, atol=1e-6)
    np.testing.assert_allclose(obs.gti.start_s, stores.START_S + stores.TT_OFFSET_S, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(obs.events.energy_tev, columns["ENERGY"][0].astype(float))
    np.testing.assert_array_equal(obs.events.ra_deg, columns["RA"][0].astype(float))
    assert obs.events.mc_id is None
    assert (obs.ontime_s, obs.livetime_s, obs.deadc) == (100.0, 90.0, 0.9)
    assert (obs.pointing.ra_deg, obs.pointing.dec_deg) == (83.6, 22.5)
    assert (obs.site.lon_deg, obs.site.lat_deg) == (16.5, -23.27)
    assert [obs.meta[k] for k in ("object", "zenith_deg", "event_count", "n_tels")] == ["Test", 30.0, 40, 4]


def test_valid_run_has_the_responses_that_were_written(read, stores):
    obs = read()
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    np.testing.assert_allclose(obs.edisp.density, stores.edisp(), rtol=1e-6)
    np.testing.assert_allclose(obs.psf.density_sr, stores.psf(), rtol=1e-6)
    np.testing.assert_allclose(obs.aeff.energy_true.values, np.sqrt(stores.ENERGY[1:] * stores.ENERGY[:-1]), rtol=1e-6)
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev(), rtol=1e-6)
    np.testing.assert_allclose(obs.background.lon_edges_deg, stores.DETX, atol=1e-6)
    assert (obs.aeff.lo_thres_tev, obs.aeff.hi_thres_tev, obs.background.alignment) == (0.5, 50.0, "RADEC")


@pytest.mark.parametrize("key", ["MJDREFI", "MJDREFF", "TIMESYS"])
@pytest.mark.parametrize("hdu", ["events", "gti"])
def test_time_frame_has_no_default(read, hdu, key):
    with pytest.raises(RunRefused, match=rf"run 7: .*run_7.fits.gz\[{hdu.upper()}\]: {key} is missing"):
        read(**{hdu: {key: None}})


@pytest.mark.parametrize("deadc", [None, 0.0, 1.2, -0.5, "abc", True])
def test_dead_time_correction_has_no_default(read, deadc):
    with pytest.raises(RunRefused, match=r"DEADC = "):
        read(events={"DEADC": deadc})


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"RA_PNT": None}, "RA_PNT = None"),
        ({"DEC_PNT": None}, "DEC_PNT = None"),
        ({"DEC_PNT": 91.0}, "expected 0 to 360 and -90 to 90"),
        ({"RA_PNT": 1000.0}, "expected 0 to 360 and -90 to 90"),
        ({"RA_PNT": "nan"}, "RA_PNT = 'nan', expected a number"),
        ({"OBS_MODE": "DRIFT"}, "OBS_MODE = 'DRIFT'"),
        ({"RADESYS": "FK4"}, "RADESYS = 'FK4'"),
        ({"OBS_ID": 8}, "OBS_ID = 8, expected 7"),
        ({"TIMESYS": "LOCAL"}, "TIMESYS = 'LOCAL', expected one of"),
    ],
)
def test_pointing_and_identity(stores, tmp_path, header, match):
    path = stores.write_run(tmp_path, 7, events=header)
    entry = open_store(path).runs[0]
    entry = type(entry)(7, entry.hdus)
    with pytest.raises(RunRefused, match=match):
        read_observation(entry)


def test_obs_id_only_in_the_index(stores, tmp_path):
    stores.write_run(tmp_path, 7, events={"OBS_ID": None})
    store = open_store(stores.write_index(tmp_path, stores.index_rows(7, "run_7.fits.gz")))
    assert read_observation(store.runs[0]).quirks == ("obs-id-missing",)


@pytest.mark.parametrize(
    ("header", "quirks"),
    [
        ({"OBS_ID": 7.0}, ("odd-whole-number",)),
        ({"OBS_ID": "0007"}, ("odd-whole-number",)),
        ({"N_TELS": "4"}, ("odd-whole-number",)),
        ({"N_TELS": 4.0}, ("odd-whole-number",)),
        ({"MJDREFI": "51910"}, ("float-mjdrefi",)),
        ({"MJDREFI": 51910.0}, ("float-mjdrefi",)),
    ],
)
def test_whole_numbers_as_text_or_float(read, header, quirks):
    obs, expected = read(events=header), read()
    assert (obs.obs_id, obs.meta["n_tels"], obs.quirks) == (7, 4, quirks)
    np.testing.assert_array_equal(obs.events.time_s, expected.events.time_s)


def test_numbers_of_telescopes_that_are_none(read):
    for value in (1e300, 3.5, "four", None):
        assert read(events={"N_TELS": value}).meta["n_tels"] is None


@pytest.mark.parametrize(
    ("missing", "possible"),
    [
        ("psf", "counts, exposure, acceptance, edisp"),
        ("bkg", "counts, exposure, psf, edisp"),
        ("edisp", "counts, exposure, acceptance, psf"),
    ],
)
def test_missing_response_says_what_would_work(read, missing, possible):
    with pytest.raises(RunRefused, match=f"no HDU of type {missing}; without it could be made: {possible}$"):
        read(lambda run: run.pop(missing))
    obs = read(lambda run: run.pop(missing), options=ReadOptions(require=()))
    assert {"psf": obs.psf, "bkg": obs.background, "edisp": obs.edisp}[missing] is None


def test_missing_events_effective_area_and_intervals(read):
    with pytest.raises(RunRefused, match=r"no HDU of type aeff; without it could be made: counts, acceptance$"):
        read(lambda run: run.pop("aeff"), options=ReadOptions(require=()))
    with pytest.raises(RunRefused, match=r"no HDU of type gti; without it could be made: nothing$"):
        read(lambda run: run.pop("gti"))


def test_events_outside_intervals_stay_and_are_counted(read):
    obs = read(replace("gti", "STOP", put(0, 1050.0)))
    assert len(obs.events) == 40
    inside = int(np.count_nonzero(obs.gti.contains(obs.events.time_s)))
    assert 0 < inside < 40
    assert obs.repairs["events_outside_gti"] == 40 - inside


def test_all_events_outside_intervals(read):
    with pytest.raises(RunRefused, match="none of the 40 events lies in a good time interval"):
        read(gti={"MJDREFI": 51911})


def test_header_against_intervals_is_reported(read):
    assert read(events={"ONTIME": 102.0, "LIVETIME": 91.8}).repairs == {"ontime_disagrees": 1}
    assert read(events={"LIVETIME": 80.0}).repairs == {"deadc_disagrees": 1}
    assert read(events={"LIVETIME": 90.5}).repairs == {}


def test_background_orientation_of_hess_dr1(read, stores):
    """The array of these files is (energy, lon, lat) with lon growing east, whatever their columns say."""

    def as_hess(run):
        table = stores.bkg_table(("DETX", "DETY", "ENERG"))
        table.columns["BKG"] = (stores.rate_per_mev()[None].astype("f4"), "MeV-1 s-1 sr-1")
        run["bkg"] = table

    obs = read(as_hess, events=HESS)
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev(), rtol=1e-6)
    np.testing.assert_allclose(obs.background.lat_edges_deg, stores.DETY, atol=1e-6)
    assert "hess-dr1-background-mirrored" in obs.quirks


@pytest.mark.parametrize("key", ["PSF", "BKG"])
def test_point_like_data_need_neither_psf_nor_background(read, key):
    def edit(run):
        run.pop("psf")
        run.pop("bkg")

    obs = read(edit, aeff={"HDUCLAS3": "POINT-LIKE", "RAD_MAX": 0.11})
    assert obs.point_like
    assert (obs.psf, obs.background) == (None, None)
    assert obs.quirks == ()


def test_point_like_with_table_and_without_radius(read, stores):
    def edit(run):
        run["rad_max"] = stores.rad_max_table()

    obs = read(edit, aeff={"HDUCLAS3": "POINT-LIKE"})
    assert obs.point_like
    assert obs.quirks == ()
    assert read(aeff={"HDUCLAS3": "POINT-LIKE"}).quirks == ("rad-max-missing",)


def test_rad_max_tells_where_nothing_else_does(read, stores):
    def edit(run):
        run["rad_max"] = stores.rad_max_table()

    by_key, by_table = read(aeff={"HDUCLAS3": None, "RAD_MAX": 0.11}), read(edit, aeff={"HDUCLAS3": None})
    for obs in (by_key, by_table):
        assert obs.point_like
        assert (obs.psf, obs.background) == (None, None)
        assert obs.quirks == ("point-like-by-rad-max",)
    assert not read(aeff={"HDUCLAS3": None}).point_like


@pytest.mark.parametrize(
    ("aeff", "kind"),
    [
        ({}, -1),
        ({"HDUCLAS3": "point-like"}, 1),
        ({"HDUCLAS3": None}, -1),
        ({"HDUCLAS3": None, "RAD_MAX": 0.1}, 1),
        ({"RAD_MAX": 0.1}, -1),
    ],
)
def test_the_kind_is_that_of_the_whole_run(read, stores, tmp_path, aeff, kind):
    assert read(aeff=aeff).point_like is (kind == 1)
    entry = open_store(tmp_path).runs[0]
    (path,) = {ref.path for ref in entry.hdus}
    digests = {str(path): digest_file(path)}
    assert read_enclosure(entry, digests) == kind
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputChanged, match="start again"):
        read_enclosure(entry, digests)
    assert read_enclosure(entry, {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}) == 0


def test_text_that_is_not_ascii_is_no_object(stores, tmp_path):
    path = stores.write_run(tmp_path, 7, suffix=".fits")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"'Test    '", b"'\xff<b>\x07'   "))
    assert read_observation(open_store(path).runs[0]).meta["object"] == ""
    path.write_bytes(content.replace(b"'Test    '", b"'M\xfcller  '"))
    assert read_observation(open_store(path).runs[0]).meta["object"] == "M?ller"


def test_checksums_hold(stores, tmp_path):
    content = bytearray(stores.to_bytes(stores.make_run(7), checksum=True))
    path = tmp_path / "run.fits"
    path.write_bytes(content)
    entry = open_store(path).runs[0]
    assert len(read_observation(entry).events) == 40
    position = content.index(b"EFFAREA")
    start = content.index(b"END     ", position)
    start += (-start) % 2880
    content[start + 60] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunRefused, match="DATASUM = "):
        read_observation(entry)


def test_damaged_file_is_refused_with_its_name(stores, tmp_path):
    path = stores.write_run(tmp_path, 7)
    entry = open_store(path).runs[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunRefused, match=r"run 7: .*run_7.fits.gz: truncated gzip file"):
        read_observation(entry)
    path.unlink()
    with pytest.raises(RunRefused, match=r"run_7.fits.gz: No such file"):
        read_observation(entry)


def test_shared_response_file_is_parsed_once_and_again_when_it_changes(stores, tmp_path):
    run = stores.make_run(7)
    irfs = tmp_path / "irfs.fits"
    irfs.write_bytes(stores.to_bytes([run[name] for name in ("aeff", "edisp", "psf", "bkg")]))
    rows = []
    for obs_id in (7, 8):
        stores.write_run(tmp_path, obs_id)
        rows += stores.index_rows(obs_id, f"run_{obs_id}.fits.gz", types=("events", "gti"))
        rows += stores.index_rows(obs_id, "irfs.fits", types=("aeff", "edisp", "psf", "bkg"))
    store = open_store(stores.write_index(tmp_path, rows))
    first, second = (read_observation(entry) for entry in store.runs)
    assert first.aeff is second.aeff
    run["aeff"].header["LO_THRES"] = 0.25
    irfs.write_bytes(stores.to_bytes([run[name] for name in ("aeff", "edisp", "psf", "bkg")]) + b"\0" * 2880)
    assert read_observation(store.runs[0]).aeff.lo_thres_tev == 0.25


def test_content_must_be_what_was_planned(stores, tmp_path):
    path = stores.write_run(tmp_path, 7)
    entry = open_store(path).runs[0]
    options = ReadOptions(digests={str(path): digest_file(path)})
    assert read_observation(entry, options).obs_id == 7
    stores.write_run(tmp_path, 7, aeff={"LO_THRES": 0.25})
    changed = rf"^run 7: {path}: changed since the plan was made; start again, after cubeflow plan --verify if"
    with pytest.raises(InputChanged, match=changed):
        read_observation(entry, options)
    assert read_observation(entry).aeff.lo_thres_tev == 0.25
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputChanged, match=changed):
        read_observation(entry, options)
    path.unlink()
    with pytest.raises(InputChanged, match=r"run 7: .*run_7.fits.gz: No such file .*since the plan was made"):
        read_observation(entry, options)
    path.mkdir()
    with pytest.raises(InputChanged, match=r"run 7: .*run_7.fits.gz: expected a regular file.*since the plan was made"):
        read_observation(entry, options)


def test_a_file_that_is_damaged_as_planned_is_refused(stores, tmp_path):
    path = stores.write_run(tmp_path, 7)
    entry = open_store(path).runs[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunRefused, match=r"^run 7: file: truncated gzip file$") as kept:
        read_observation(entry, ReadOptions(digests={str(path): digest_file(path)}))
    assert name_file(str(kept.value), entry) == "run 7: run_7.fits.gz: truncated gzip file"
    for other in ("zenith angle 46 deg", "run 7: file system: full", "a file: b"):
        assert name_file(other, entry) == other
    with pytest.raises(RunRefused, match=r"^run 7: run_7.fits.gz: truncated gzip file$"):
        read_observation(entry)


def test_reasons_that_are_kept_name_what_lies_in_a_file_and_not_its_name(stores, tmp_path):
    """One path begins as the other does."""
    run = stores.make_run(7)
    paths = {"run": ("events", "gti", "aeff"), "run.psf": ("edisp", "psf", "bkg")}
    rows = []
    for name, types in paths.items():
        (tmp_path / name).write_bytes(stores.to_bytes([run[each] for each in types]))
        rows += stores.index_rows(7, name, types=types)
    entry = open_store(stores.write_index(tmp_path, rows)).runs[0]
    for name, said in (("run.psf", "file of bkg, edisp, psf"), ("run", "file of aeff, events, gti")):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:2879])
        digests = {str(ref.path): digest_file(ref.path) for ref in entry.hdus}
        with pytest.raises(RunRefused, match=rf"^run 7: {said}: damaged or truncated in HDU 0") as kept:
            read_observation(entry, ReadOptions(digests=digests))
        assert name_file(str(kept.value).removeprefix("run 7: "), entry).startswith(f"{name}: damaged or truncated")


def test_shared_responses_must_be_what_was_planned(stores, tmp_path):
    run = stores.make_run(7)
    irfs, types = tmp_path / "irfs.fits", ("aeff", "edisp", "psf", "bkg")
    irfs.write_bytes(stores.to_bytes([run[name] for name in types]))
    stores.write_run(tmp_path, 7)
    rows = stores.index_rows(7, "run_7.fits.gz", types=("events", "gti"))
    rows += stores.index_rows(7, "irfs.fits", types=types)
    entry = open_store(stores.write_index(tmp_path, rows)).runs[0]
    digests = {str(ref.path): digest_file(ref.path) for ref in entry.hdus}
    assert len(digests) == 2
    first = read_observation(entry, ReadOptions(digests=digests))
    assert read_observation(entry, ReadOptions(digests=digests)).aeff is first.aeff
    with pytest.raises(InputChanged, match=r"run 7: .*irfs.fits: changed"):
        read_observation(entry, ReadOptions(digests=digests | {str(irfs): "0" * 64}))


def test_reasons_hold_no_folder(stores, tmp_path, read):
    for edit, headers in ((None, {"gti": {"MJDREFI": None}}), (lambda run: run["aeff"].columns.pop("THETA_LO"), {})):
        with pytest.raises(RunRefused, match=r"^run 7: run_7.fits.gz\[\w+\]") as refused:
            read(edit, **headers)
        assert str(tmp_path) not in str(refused.value)


def test_intervals_and_site_alone(stores, tmp_path):
    path = stores.write_run(tmp_path, 7, lambda run: [run.pop(name) for name in ("aeff", "edisp", "psf", "bkg")])
    gti, site = read_gti_and_site(open_store(path).runs[0], {str(path): digest_file(path)})
    assert gti.start_s.tolist() == pytest.approx([stores.START_S + stores.TT_OFFSET_S])
    assert (gti.ontime_s, site.lon_deg) == (100.0, 16.5)
    path = stores.write_run(tmp_path, 7, gti={"TIMESYS": None}, events={"GEOLON": None})
    with pytest.raises(RunRefused, match=r"^run 7: file\[GTI\]: TIMESYS is missing"):
        read_gti_and_site(open_store(path).runs[0], {str(path): digest_file(path)})
    with pytest.raises(InputChanged, match="changed since the plan was made"):
        read_gti_and_site(open_store(path).runs[0], {str(path): "0" * 64})


def test_damaged_bytes_are_refused_or_read_but_never_break(stores, tmp_path):
    """A plain file without checksums: any damage gives a run or a refusal, no other error."""
    path = stores.write_run(tmp_path, 7, suffix=".fits")
    content, rng = path.read_bytes(), np.random.default_rng(6)
    for _ in range(300):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 30)):
            damaged[position] = rng.choice([0, 32, 39, 43, 45, 46, 48, 57, 65, 84, 127, 255, rng.integers(256)])
        path.write_bytes(damaged)
        with contextlib.suppress(StoreError, RunRefused):
            for entry in open_store(path).runs:
                read_observation(entry)


def test_reading_the_runs_of_a_file_is_linear_in_its_hdus(stores, tmp_path, monkeypatch):
    """One file of many runs is read once to find them and once to read all of them, and each header once each time."""
    files, parts = [], []

    class Counted(BytesIO):
        def read(self, *size):
            parts.append(super().read(*size))
            return parts[-1]

    def read_counted(path, **expected):
        files.append(path)
        return read_content(path, **expected)

    monkeypatch.setattr(hdus, "BytesIO", Counted)
    monkeypatch.setattr(hdus, "read_content", read_counted)
    asked = {}
    for n_runs in (6, 24):
        path = tmp_path / f"{n_runs}.fits"
        path.write_bytes(stores.to_bytes([table for k in range(n_runs) for table in stores.make_run(k + 1).values()]))
        runs = open_store(path).runs
        assert [read_observation(entry).obs_id for entry in runs] == list(range(1, n_runs + 1))
        assert files == [path, path]
        asked[n_runs] = len(parts), sum(map(len, parts))
        files.clear()
        parts.clear()
    n_few, n_many = (6 * 6 + 1, 24 * 6 + 1)  # HDUs
    assert np.array(asked[24]) / asked[6] == pytest.approx(n_many / n_few, rel=0.1)
