"""Which HDU is which: by keys, by columns where these say nothing or another thing, and of which run of a file."""

import numpy as np
import pytest

from cubeflow.dl3.classes import CLASSES, choose, class_by_columns, classify, runs_of, type_of
from cubeflow.dl3.hdus import split_hdus
from cubeflow.dl3.index import StoreError, open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.dl3.responses import READERS
from cubeflow.observation import RunRefused

KEYS = ("HDUCLASS", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3", "HDUCLAS4")


def without_keys(table):
    """The same table as nobody named it."""
    for key in KEYS:
        table.header.pop(key, None)
    table.name = "TABLE"
    return table


def all_tables(stores):
    """A table of each class."""
    run = stores.make_run()
    tables = {stores.INDEX_CLASSES[name]: table for name, table in run.items()}
    tables |= {"psf_3gauss": stores.gauss_table(), "psf_king": stores.king_table(), "bkg_2d": stores.bkg_2d_table()}
    return tables | {"rad_max_2d": stores.rad_max_table()}


def test_types_and_classes_are_those_of_the_readers():
    assert {*READERS, "events", "gti"} == set(CLASSES)
    assert [type_of(name) for name in ("events", "gti", "psf_3gauss", "rad_max_2d")] == [
        "events",
        "gti",
        "psf",
        "rad_max",
    ]


@pytest.mark.parametrize("hdu_class", CLASSES)
def test_a_class_is_known_by_its_columns_alone(stores, hdu_class):
    table = all_tables(stores)[hdu_class]
    assert class_by_columns(table.columns) == hdu_class
    contents = stores.to_bytes([table]), stores.to_bytes([without_keys(table)])
    for content, keyed in zip(contents, (True, False), strict=True):
        found = classify(split_hdus(content, None)[1])
        assert (found.hdu_class, found.is_keyed) == (hdu_class, keyed)


@pytest.mark.parametrize("columns", [{"ENERG_LO", "ENERG_HI", "N_GRP", "F_CHAN", "N_CHAN", "MATRIX"}, {"GAMMA"}, set()])
def test_tables_that_are_none_of_ours(columns):
    assert class_by_columns(columns) == ""


@pytest.mark.parametrize("name", ["events", "gti", "aeff", "edisp", "psf", "bkg"])
def test_a_table_without_keys_is_read_as_with_them(read, name):
    found, expected = read(lambda run: without_keys(run[name])), read()
    assert found.quirks == ("hduclass-missing",)
    np.testing.assert_array_equal(found.events.time_s, expected.events.time_s)
    np.testing.assert_array_equal(found.gti.stop_s, expected.gti.stop_s)
    for part, values in (("aeff", "area_m2"), ("edisp", "density"), ("psf", "density_sr"), ("background", "rate")):
        np.testing.assert_array_equal(getattr(getattr(found, part), values), getattr(getattr(expected, part), values))


@pytest.mark.parametrize(
    "keys", [{"HDUCLAS4": "PSF_TABLE"}, {"HDUCLAS2": "EDISP"}, {"HDUCLAS2": "BKG", "HDUCLAS4": "BKG_2D"}]
)
def test_columns_hold_against_keys(read, stores, keys):
    def edit(run):
        run["psf"] = stores.gauss_table()
        run["psf"].header.update(keys)

    obs = read(edit)
    assert type(obs.psf).__name__ == "Psf3Gauss"
    assert obs.quirks == ("hdu-class-by-columns",)


def test_columns_hold_against_the_class_of_the_index(stores, tmp_path):
    path = stores.write_run(tmp_path, 7, lambda run: run.update(psf=stores.gauss_table()))
    entry = open_store(stores.write_index(tmp_path, stores.index_rows(7, path.name))).runs[0]
    obs = read_observation(entry)
    assert type(obs.psf).__name__ == "Psf3Gauss"
    assert obs.quirks == ("hdu-class-by-columns",)


def test_a_type_of_the_index_that_the_columns_are_not(stores, tmp_path):
    rows = stores.index_rows(7, stores.write_run(tmp_path, 7).name)
    rows[4]["HDU_NAME"] = "EDISP"
    entry = open_store(stores.write_index(tmp_path, rows)).runs[0]
    with pytest.raises(RunRefused, match=r"\[EDISP\]: HDU_CLASS 'psf_table': no known format of a response 'psf'"):
        read_observation(entry)


# two HDUs of one class


def doubled(stores, name, other):
    """Edit that puts a second, other HDU of a type in front of the first."""

    def edit(run):
        second = stores.make_run()[name]
        column = list(second.columns)[-1]
        values, unit = second.columns[column]
        second.columns[column] = (values * np.float32(0.5), unit)
        second.name = other
        rest = dict(run)
        run.clear()
        run.update({"second": second, **rest})

    return edit


@pytest.mark.parametrize("name", ["aeff", "edisp", "psf", "bkg", "gti"])
def test_two_hdus_of_one_class_are_refused_by_name(stores, tmp_path, name):
    def edit(run):
        doubled(stores, name, "OTHER")(run)
        run[name].name = "SOME"

    store = open_store(stores.write_run(tmp_path, 7, edit))
    assert store.runs == ()
    hdu_class = stores.INDEX_CLASSES[name]
    assert "run_7.fits.gz: 'OTHER' (HDU 1) and 'SOME' (HDU " in store.refused[7]
    assert f"are both {hdu_class}; an index would say which counts" in store.refused[7]
    assert store.refused_infos[7]["RA_PNT"] == 83.6


@pytest.mark.parametrize("usual", ["AEFF", "EFFECTIVE_AREA", "effective area", "AEFF_2D"])
def test_a_usual_name_decides_and_is_said(stores, read, usual):
    def edit(run):
        doubled(stores, "aeff", "EFFECTIVE AREA PROTONS")(run)
        run["aeff"].name = usual

    obs = read(edit)
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    assert obs.quirks == ("hdus-of-one-class",)


def test_keys_decide_before_names(stores, read):
    def edit(run):
        doubled(stores, "aeff", "OTHER")(run)
        name = run["second"].name
        without_keys(run["aeff"]).name = "EFFECTIVE AREA"
        run["second"].name = name

    np.testing.assert_allclose(read(edit).aeff.area_m2, 0.5 * stores.aeff_m2(), rtol=1e-6)


def test_an_index_decides_and_names_that_are_there_twice_do_not(stores, tmp_path):
    path = stores.write_run(tmp_path, 7, doubled(stores, "aeff", "PROTONS"))
    store = open_store(stores.write_index(tmp_path, stores.index_rows(7, path.name)))
    np.testing.assert_allclose(read_observation(store.runs[0]).aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    stores.write_run(tmp_path, 7, doubled(stores, "aeff", "AEFF"))
    with pytest.raises(RunRefused, match=r"HDUs 1 and 4 are both 'AEFF' \(row 2 of the index\), expected one"):
        read_observation(store.runs[0])


# several runs in a file


def tables_of(stores, *obs_ids):
    """Tables of runs one after the other, as files joined by HDU are."""
    return [table for obs_id in obs_ids for table in stores.make_run(obs_id).values()]


def write(stores, tmp_path, tables):
    path = tmp_path / "all.fits"
    path.write_bytes(stores.to_bytes(tables))
    return open_store(path)


def test_two_runs_joined_are_two_runs(stores, tmp_path):
    store = write(stores, tmp_path, tables_of(stores, 9, 7))
    assert [run.obs_id for run in store.runs] == [7, 9]
    assert (store.refused, store.problems) == ({}, ())
    for run in store.runs:
        found, expected = read_observation(run), stores.make_run(run.obs_id)["events"].columns
        np.testing.assert_array_equal(found.events.energy_tev, expected["ENERGY"][0].astype(float))
        assert found.quirks == ()


def test_hdus_belong_to_the_run_of_their_obs_id_wherever_they_stand(stores, tmp_path):
    tables = tables_of(stores, 7, 9)
    for table, obs_id in zip(tables, [7] * 6 + [9] * 6, strict=True):
        table.header["OBS_ID"] = obs_id
    tables[7].columns["STOP"] = (tables[7].columns["STOP"][0] - 10.0, "s")
    tables[8].columns["EFFAREA"] = (tables[8].columns["EFFAREA"][0] * np.float32(2), "m2")
    store = write(stores, tmp_path, tables[::-1])
    first, second = (read_observation(run) for run in store.runs)
    assert (first.ontime_s, second.ontime_s) == (100.0, 90.0)
    np.testing.assert_array_equal(second.aeff.area_m2, 2 * first.aeff.area_m2)


def test_single_responses_are_of_all_runs_and_a_single_gti_of_its_own(stores, tmp_path):
    first, second = stores.make_run(7), stores.make_run(9)
    tables = [first["events"], first["gti"], second["events"], second["gti"], *list(first.values())[2:]]
    assert [read_observation(run).obs_id for run in write(stores, tmp_path, tables).runs] == [7, 9]
    first["gti"].header["OBS_ID"] = 7
    store = write(stores, tmp_path, [table for table in tables if table is not second["gti"]])
    assert read_observation(store.runs[0]).obs_id == 7
    with pytest.raises(RunRefused, match="run 9: no HDU of type gti"):
        read_observation(store.runs[1])


def test_a_response_that_names_another_run_is_not_shared(stores, tmp_path):
    tables = tables_of(stores, 7, 9)
    tables[2].header["OBS_ID"] = 7
    store = write(stores, tmp_path, [table for k, table in enumerate(tables) if k != 8])
    assert read_observation(store.runs[0]).obs_id == 7
    with pytest.raises(RunRefused, match="run 9: no HDU of type aeff"):
        read_observation(store.runs[1])


def test_a_run_of_two_gtis_does_not_stop_the_other(stores, tmp_path):
    tables = tables_of(stores, 7, 9)
    extra = stores.make_run(9)["gti"]
    tables[7].name, extra.name = "GTI_A", "GTI_B"
    store = write(stores, tmp_path, [*tables, extra])
    assert [run.obs_id for run in store.runs] == [7]
    assert "'GTI_A' (HDU 8) and 'GTI_B' (HDU 13) are both gti" in store.refused[9]


def test_two_event_lists_of_one_run(stores, tmp_path):
    tables = [*stores.make_run(7).values(), stores.make_run(7)["events"]]
    tables[0].name, tables[-1].name = "GAMMAS", "HADRONS"
    store = write(stores, tmp_path, tables)
    assert "'GAMMAS' (HDU 1) and 'HADRONS' (HDU 7) are both events" in store.refused[7]
    tables[0].name = "EVENTS"
    assert write(stores, tmp_path, tables).runs[0].quirks == ("hdus-of-one-class",)
    tables[-1].header["OBS_ID"] = None
    with pytest.raises(StoreError, match=r"\[HADRONS\]: OBS_ID = None, expected a whole number"):
        write(stores, tmp_path, tables)


def test_runs_of_hdus_is_linear_and_empty_without_events(stores):
    hdus = split_hdus(stores.to_bytes(tables_of(stores, *range(1, 60))), None)
    runs = runs_of(hdus)
    assert [len(choose(parts)) for parts in runs.values()] == [6] * 59
    assert all(parts[0].hdu.index == 1 + 6 * k for k, parts in enumerate(runs.values()))
    assert runs_of(split_hdus(stores.to_bytes([stores.make_run()["aeff"]]), None)) == {}
