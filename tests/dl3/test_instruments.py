"""Synthetic stores with the deviations of real instruments: they show them, and the reader sees through them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.events import read_events, read_gti, read_pointing
from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import Hdu, open_table, read_hdus
from cubeflow.dl3.index import open_store
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.dl3.responses import read_aeff, read_bkg_3d, read_edisp, read_psf_3gauss, read_rad_max
from cubeflow.observation import RunRefused, to_mjd

NAMES = ("cta_1dc", "cta_prod5", "magic", "veritas")

OBS_IDS = (100001, 100002)


def load_instruments() -> ModuleType:
    spec = importlib.util.spec_from_file_location("instruments", Path(__file__).with_name("instruments.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


instruments = load_instruments()


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict:
    return {name: getattr(instruments, name)(tmp_path_factory.mktemp(name)) for name in NAMES}


def index_rows(store) -> np.ndarray:
    with fits.open(store.index / "hdu-index.fits.gz") as index:
        return index[1].data.copy()


def hdu_of(store, hdu_class: str, obs_id: int = 100001) -> Hdu | None:
    for row in index_rows(store):
        if row["OBS_ID"] == obs_id and row["HDU_CLASS"] == hdu_class:
            hdus = read_hdus((store.index / row["FILE_DIR"] / row["FILE_NAME"]).resolve())
            return next(hdu for hdu in hdus if hdu.name == row["HDU_NAME"])
    return None


@pytest.mark.parametrize("name", NAMES)
def test_events_and_times_are_those_simulated(stores, name: str) -> None:
    store = stores[name]
    simulated = store.events[100002]
    events = read_events(open_table(hdu_of(store, "events", 100002)), Notes())
    order = np.argsort(events.time_s, kind="stable")
    np.testing.assert_allclose(events.time_s[order], simulated["TIME"] + store.time_shift_s, rtol=0, atol=1e-6)
    np.testing.assert_allclose(events.ra_deg[order], simulated["RA"], rtol=0, atol=3e-5)
    np.testing.assert_array_equal(events.energy_tev[order], simulated["ENERGY"])
    gti = read_gti(open_table(hdu_of(store, "gti", 100002)), Notes())
    assert len(gti.start_s) == 2
    assert gti.contains(events.time_s).all()
    header = hdu_of(store, "events").header
    assert read_pointing(header, "events", Notes()).dec_deg == pytest.approx(22.0123, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_area_and_energy_dispersion_are_those_simulated(stores, name: str) -> None:
    store = stores[name]
    aeff = read_aeff(open_table(hdu_of(store, "aeff_2d")), Notes())
    np.testing.assert_allclose(aeff.area_m2, store.responses.area_m2, rtol=1e-6)
    assert aeff.lo_thres_tev == (None if store.lo_thres_tev is None else pytest.approx(store.lo_thres_tev))
    edisp = read_edisp(open_table(hdu_of(store, "edisp_2d")), Notes())
    np.testing.assert_allclose(edisp.density, store.responses.migra_density, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["cta_1dc", "cta_prod5"])
def test_psf_and_background_are_those_simulated(stores, name: str) -> None:
    store = stores[name]
    psf = read_psf_3gauss(open_table(hdu_of(store, "psf_3gauss")), Notes())
    np.testing.assert_array_equal(psf.sigma_1 == 0.0, store.psf_gap)
    np.testing.assert_allclose(psf.sigma_2, store.responses.psf_sigma_deg[1], rtol=1e-6)
    background = read_bkg_3d(open_table(hdu_of(store, "bkg_3d")), Notes())
    np.testing.assert_allclose(background.rate, 1e6 * store.responses.background, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "hdu_class", "read", "quirks"),
    [
        ("cta_1dc", "events", read_events, {"events-not-sorted", "ra-wrapped"}),
        ("cta_1dc", "edisp_2d", read_edisp, {"edisp-not-normalised"}),
        ("cta_1dc", "psf_3gauss", read_psf_3gauss, {"sigma1-zero"}),
        ("cta_prod5", "edisp_2d", read_edisp, {"edisp-per-bin"}),
        ("cta_prod5", "bkg_3d", read_bkg_3d, set()),
        ("magic", "events", read_events, {"ra-wrapped", "event-ids-repeated"}),
        ("veritas", "events", read_events, set()),
    ],
)
def test_quirks_in_the_numbers_are_named(stores, name: str, hdu_class: str, read, quirks: set[str]) -> None:
    notes = Notes()
    read(open_table(hdu_of(stores[name], hdu_class)), notes)
    assert set(notes.quirks) == quirks


WHOLE_RUNS = {
    "cta_1dc": {
        "alt-pnt-90",
        "bkg-column-bgd",
        "date-underscore",
        "edisp-etrue-columns",
        "edisp-not-normalised",
        "events-not-sorted",
        "fk5-as-icrs",
        "fovalign-missing",
        "gti-without-unit",
        "hduclas4-cut",
        "hduclass-missing",
        "ogip-hduclass",
        "ra-wrapped",
        "radecsys-key",
        "sigma1-zero",
        "thresholds-missing",
        "unit-not-fits",
    },
    "cta_prod5": {"edisp-per-bin", "fovalign-missing", "unit-not-fits"},
    "magic": {"event-ids-repeated", "ra-wrapped", "timesys-lower-case"},
    "veritas": {"float-mjdrefi", "index-file-dir-masked"},
}


@pytest.mark.parametrize("name", NAMES)
def test_whole_runs_are_read_through_the_index_with_exactly_these_quirks(stores, name: str) -> None:
    store = stores[name]
    opened = open_store(store.index, [store.index.parents[1]])  # that of cta_1dc leads out of its folder
    assert [entry.obs_id for entry in opened.runs] == [100001, 100002]
    assert set(opened.refused) == ({199999} if name == "magic" else set())
    for entry in opened.runs:
        run = read_observation(entry)
        assert set(run.quirks) == WHOLE_RUNS[name]
        assert len(run.events) == len(store.events[entry.obs_id])
        assert run.gti.contains(run.events.time_s).all()
        assert (run.psf is None and run.background is None) == (name in ("magic", "veritas"))


@pytest.mark.parametrize(
    ("name", "quirks", "spans_s"),
    [
        ("lst", {"index-base-dir-elsewhere"}, (600.0, 600.0)),  # one interval from the first event to the last
        ("ctao_gadf", {"odd-whole-number", "timesys-lower-case"}, (600.0, 540.0)),
    ],
)
def test_whole_runs_of_one_time_scale_or_another(tmp_path, name: str, quirks: set[str], spans_s) -> None:
    store = getattr(instruments, name)(tmp_path)
    opened = open_store(store.index, [tmp_path])
    ids = list(OBS_IDS if name == "lst" else instruments.CTAO_IDS.values())
    assert [entry.obs_id for entry in opened.runs] == ids
    assert not opened.refused
    for entry, simulated, span_s in zip(opened.runs, store.events.values(), spans_s, strict=True):
        run = read_observation(entry, ReadOptions(require=("edisp",)))
        assert set(run.quirks) == quirks
        assert run.ontime_s == pytest.approx(span_s, abs=1e-5)
        np.testing.assert_allclose(run.events.time_s, simulated["TIME"] + store.time_shift_s, rtol=0, atol=1e-6)
        assert run.gti.contains(run.events.time_s).all()
        np.testing.assert_allclose(run.aeff.area_m2, store.responses.area_m2, rtol=1e-6)
        assert run.background is None
        assert run.point_like == (name == "lst")
        assert (run.psf is None) == (name == "lst")


def test_times_of_lst_and_ctao_are_those_of_gammapy(tmp_path) -> None:
    from gammapy.data import EventList

    for name in ("lst", "ctao_gadf"):
        store = getattr(instruments, name)(tmp_path / name)
        for entry in open_store(store.index, [tmp_path]).runs:
            path = next(ref.path for ref in entry.hdus if ref.hdu_type == "events")
            mjd = EventList.read(path).time.tt.mjd
            found = to_mjd(read_observation(entry, ReadOptions(require=())).events.time_s)
            np.testing.assert_allclose(found, mjd, rtol=0, atol=1e-3 / 86400)


def test_bundle_with_another_md5_than_its_index_is_refused_by_name(tmp_path) -> None:
    store = instruments.ctao_gadf(tmp_path)
    path = tmp_path / "5000000252.fits"
    path.write_bytes(path.read_bytes().replace(b"'CTAO-North'", b"'CTAO-South'"))  # of the same size
    good, bad = open_store(store.index).runs
    assert len(read_observation(good, ReadOptions(require=())).events) > 0
    with pytest.raises(RunRefused, match=r"run 5000000252: 5000000252\.fits: its MD5 is not \w{32}, as the index"):
        read_observation(bad, ReadOptions(require=()))


def test_index_that_was_moved_says_where_it_was_made(tmp_path) -> None:
    """Files are sought in BASE_DIR first; where it leads to none, from the folder of the index, as by gammapy."""
    store = instruments.lst(tmp_path)
    outside = open_store(store.index)
    assert "outside" in outside.refused[100001]  # the rule on folders holds there, too
    with fits.open(store.index / "hdu-index.fits.gz", mode="update") as hdus:
        hdus[1].header["BASE_DIR"] = str(tmp_path / "index")
    assert not any(entry.quirks for entry in open_store(store.index, [tmp_path]).runs)


def test_magic_cut_is_a_table_and_one_indexed_file_is_absent(stores) -> None:
    rad_max = read_rad_max(open_table(hdu_of(stores["magic"], "rad_max_2d")), Notes())
    assert rad_max.shape == (8, 1)
    assert rad_max[0, 0] == pytest.approx(0.2)
    with pytest.raises(FileRefused, match=r"199999\.fits\.gz"):
        hdu_of(stores["magic"], "events", 199999)
    assert index_rows(stores["magic"])["OBS_ID"][0] == 199999


def test_type_of_the_index_can_be_cut_to_six_characters(tmp_path) -> None:
    store = instruments.magic(tmp_path, hdu_type_width=6)
    assert "rad_ma" in set(index_rows(store)["HDU_TYPE"])


def test_cta_1dc_and_magic_headers_deviate_as_the_real_ones(stores) -> None:
    gti = hdu_of(stores["cta_1dc"], "gti").header
    assert not {"TUNIT1", "TUNIT2", "HDUCLASS", "HDUCLAS1"} & set(gti)
    assert hdu_of(stores["cta_1dc"], "aeff_2d").header["HDUCLAS4"] == "2D"
    assert hdu_of(stores["magic"], "aeff_2d").header["TDIM5"] == "(8, 1)"
    assert hdu_of(stores["magic"], "gti").header["TIMESYS"] == "utc"


def test_veritas_file_dir_is_masked_and_cref_names_absent_columns(stores) -> None:
    assert set(index_rows(stores["veritas"])["FILE_DIR"]) == {""}
    hdu = hdu_of(stores["veritas"], "edisp_2d")
    assert hdu.header["CREF7"].startswith("(ETRUE_LO:ETRUE_HI")
    assert "ETRUE_LO" not in {value for key, value in hdu.header.items() if key.startswith("TTYPE")}
    assert hdu.header["RAD_MAX"] == 0.1
    assert isinstance(hdu_of(stores["veritas"], "gti").header["MJDREFI"], float)


def test_prod5_background_array_runs_latitude_first(stores) -> None:
    hdu = hdu_of(stores["cta_prod5"], "bkg_3d")
    names = [hdu.header[f"TTYPE{number}"] for number in range(1, 8)]
    assert names[::2] == ["ENERG_LO", "DETX_LO", "DETY_LO", "BKG"]
    row = next(row for row in index_rows(stores["cta_prod5"]) if row["HDU_CLASS"] == "bkg_3d")
    with fits.open(stores["cta_prod5"].index / row["FILE_NAME"]) as hdus:
        rate = hdus["BACKGROUND"].data["BKG"][0]
    truth = stores["cta_prod5"].responses.background
    assert rate[0, 1, 2] == pytest.approx(truth[2, -2, 0], rel=1e-6)
