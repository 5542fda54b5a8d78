"""Stores with and without an index, and what indexes get wrong."""

import bz2
import gzip
import hashlib
import lzma
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from cubeflow.dl3 import reader
from cubeflow.dl3.entries import direction_of
from cubeflow.dl3.files import read_content
from cubeflow.dl3.index import StoreError, open_store
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.observation import RunRefused


@pytest.fixture
def rows(stores, tmp_path):
    rows = []
    for obs_id in (9, 7):
        path = stores.write_run(tmp_path / "data", obs_id)
        rows += stores.index_rows(obs_id, path.name, "data")
    return rows


def test_runs_in_order_of_id_with_their_information(stores, tmp_path, rows):
    store = open_store(stores.write_index(tmp_path, rows))
    assert [run.obs_id for run in store.runs] == [7, 9]
    assert (store.refused, store.problems) == ({}, ())
    run = store.runs[0]
    assert dict(run.obs_info) == {"OBS_ID": 7, "RA_PNT": 83.6, "DEC_PNT": 22.5, "ZEN_PNT": 30.0, "OBJECT": "T7"}
    assert type(run.obs_info["OBS_ID"]) is int
    assert {ref.hdu_type: ref.hdu_class for ref in run.hdus} == {
        **{"events": "events", "gti": "gti", "aeff": "aeff_2d"},
        **{"edisp": "edisp_2d", "psf": "psf_table", "bkg": "bkg_3d"},
    }
    assert all(ref.path == tmp_path / "data/run_7.fits.gz" for ref in run.hdus)
    assert read_observation(run).quirks == ()
    assert open_store(tmp_path / "hdu-index.fits").runs == open_store(str(tmp_path)).runs


def test_information_comes_from_the_events_where_the_index_has_none(stores, tmp_path, rows):
    store = open_store(stores.write_index(tmp_path, rows, obs_ids=[9]))
    first, second = store.runs
    assert (first.obs_info["ZEN_PNT"], first.obs_info["OBJECT"], first.obs_info["DEADC"]) == (30.0, "Test", 0.9)
    assert "DEADC" not in second.obs_info
    store = open_store(stores.write_index(tmp_path, rows, obs_ids=[7, 8, 9]))
    assert list(store.refused) == [8]
    assert "run 8 is not in hdu-index.fits" in store.refused[8]


@pytest.mark.parametrize("source", ["folder", "pattern", "list", "file"])
def test_without_an_index(tmp_path, rows, source):
    what = {
        "folder": tmp_path / "data",
        "pattern": str(tmp_path / "*" / "run_[79]*"),
        "file": tmp_path / "data/run_7.fits.gz",
    }
    store = open_store(what.get(source, [tmp_path / "data/run_9.fits.gz", str(tmp_path / "data/run_7.fits.gz")]))
    assert [run.obs_id for run in store.runs] == ([7] if source == "file" else [7, 9])
    assert store.runs[0].obs_info["RA_PNT"] == 83.6
    assert read_observation(store.runs[0]).obs_id == 7


def test_without_an_index_other_files_are_named(stores, tmp_path, rows):
    (tmp_path / "data" / "text.fits").write_text("hello")
    shutil.copy(tmp_path / "data/run_7.fits.gz", tmp_path / "data/copy.fits.gz")
    (tmp_path / "data" / "irf.fits").write_bytes(stores.to_bytes([stores.make_run()["aeff"]]))
    store = open_store(tmp_path / "data")
    problems = " | ".join(store.problems)
    assert len(store.left_out) == 2
    assert not any("no EVENTS" in line for line in store.left_out)
    for text in ("text.fits: no FITS file", "run 7 is also in", "irf.fits: no EVENTS, so it belongs to no run"):
        assert text in problems


def test_no_store(tmp_path):
    for source in (tmp_path / "no", tmp_path, str(tmp_path / "*.fits"), []):
        with pytest.raises(StoreError, match="no DL3 file"):
            open_store(source)


def test_broken_index(stores, tmp_path):
    (tmp_path / "hdu-index.fits").write_bytes(b"SIMPLE  = nonsense")
    with pytest.raises(StoreError, match=r"hdu-index.fits: damaged or truncated in HDU 0"):
        open_store(tmp_path)
    stores.write_rows(tmp_path / "hdu-index.fits", [{"A": 1}], "X")
    with pytest.raises(StoreError, match="no table with a column HDU_TYPE, expected an HDU index"):
        open_store(tmp_path)
    stores.write_rows(tmp_path / "hdu-index.fits", [{"OBS_ID": 1, "HDU_TYPE": "gti"}], "X")
    with pytest.raises(StoreError, match="no column HDU_CLASS, FILE_NAME, HDU_NAME"):
        open_store(tmp_path)


def test_missing_file_is_refused_with_the_path_tried(stores, tmp_path, rows):
    (tmp_path / "data/run_9.fits.gz").unlink()
    store = open_store(stores.write_index(tmp_path, rows))
    assert [run.obs_id for run in store.runs] == [7]
    assert store.refused == {9: f"{tmp_path / 'data/run_9.fits.gz'}: No such file or directory"}


def test_wrong_hdu_name_is_refused_naming_the_row(stores, tmp_path, rows):
    rows[8]["HDU_NAME"] = "AREA"
    entry = open_store(stores.write_index(tmp_path, rows)).runs[0]
    with pytest.raises(RunRefused, match=r"no HDU 'AREA' \(row 8 of the index\), only PRIMARY, EVENTS, GTI, AEFF"):
        read_observation(entry)


def test_names_differ_in_case(stores, tmp_path, rows):
    for row in rows:
        row["HDU_NAME"], row["HDU_TYPE"] = row["HDU_NAME"].lower(), row["HDU_TYPE"].upper()
    assert read_observation(open_store(stores.write_index(tmp_path, rows)).runs[0]).quirks == ("hdu-name-case",)


def test_type_cut_to_six_characters(stores, tmp_path):
    def edit(run):
        run["rad_max"] = stores.rad_max_table()

    path = stores.write_run(tmp_path, 7, edit, aeff={"HDUCLAS3": "POINT-LIKE"})
    rows = stores.index_rows(7, path.name, types=("events", "gti", "aeff", "edisp", "rad_max"))
    rows[-1]["HDU_TYPE"] = "rad_ma"
    obs = read_observation(open_store(stores.write_index(tmp_path, rows)).runs[0])
    assert obs.quirks == ("index-hdu-type-cut",)
    assert obs.point_like


def test_masked_file_dir(stores, tmp_path):
    path = stores.write_run(tmp_path, 7)
    entry = open_store(stores.write_index(tmp_path, stores.index_rows(7, path.name, ""))).runs[0]
    assert entry.quirks == ("index-file-dir-masked",)


def test_base_dir(stores, tmp_path, rows):
    for row in rows:
        row["FILE_DIR"] = "."
    index = stores.write_index(tmp_path, rows, header={"BASE_DIR": "data"})
    assert len(open_store(index).runs) == 2
    index = stores.write_index(tmp_path / "other", rows, header={"BASE_DIR": str(tmp_path / "data")})
    assert "outside" in open_store(index).refused[7]
    assert len(open_store(index, roots=[tmp_path / "data"]).runs) == 2


def test_file_that_is_at_neither_place_is_missing_where_the_index_says(stores, tmp_path, rows):
    for row in rows:
        row["FILE_DIR"] = "."
    index = stores.write_index(tmp_path, rows, header={"BASE_DIR": "data"})
    (tmp_path / "data" / "run_9.fits.gz").unlink()
    store = open_store(index)
    assert [run.quirks for run in store.runs] == [()]
    assert f"{tmp_path / 'data' / 'run_9.fits.gz'}: No such file" in store.refused[9]


def test_same_rows_twice_are_one(stores, tmp_path, rows):
    store = open_store(stores.write_index(tmp_path, rows + rows[6:]))
    assert [run.quirks for run in store.runs] == [("index-rows-repeated",), ()]
    assert len(store.runs[0].hdus) == 6


def test_one_run_twice_with_the_same_content_elsewhere(stores, tmp_path, rows):
    shutil.copy(tmp_path / "data/run_7.fits.gz", tmp_path / "data/copy.fits.gz")
    store = open_store(stores.write_index(tmp_path, rows + stores.index_rows(7, "copy.fits.gz", "data")))
    assert store.runs[0].quirks == ("index-rows-repeated",)
    assert store.runs[0].hdus[0].path.name == "run_7.fits.gz"


def test_one_run_twice_with_other_content(stores, tmp_path, rows):
    extra = stores.index_rows(7, "run_9.fits.gz", "data", types=("events",))
    store = open_store(stores.write_index(tmp_path, rows + extra))
    assert [run.obs_id for run in store.runs] == [9]
    assert "two HDUs events, rows 6 and 12: " in store.refused[7]
    assert store.refused[7].endswith(" differ")


def interval_rows(stores, folder):
    """Rows of a run 7 whose second interval has an effective area of its own, in another file."""
    second = stores.write_run(folder / "later", 7, lambda run: run["aeff"].columns["EFFAREA"][0].__imul__(0.5))
    return second, stores.index_rows(7, second.name, "later", types=("aeff",))


def test_several_intervals_of_responses_are_refused_by_name(stores, tmp_path, rows):
    _, extra = interval_rows(stores, tmp_path)
    store = open_store(stores.write_index(tmp_path, rows + extra))
    assert [run.obs_id for run in store.runs] == [9]
    assert "two HDUs aeff_2d, rows 8 and 12: " in store.refused[7]
    assert store.refused[7].endswith("expected one: intervals with responses of their own are runs")


def test_several_good_time_intervals_of_one_run_each_in_its_hdu_are_refused(stores, tmp_path, rows):
    path = stores.write_run(tmp_path / "later", 7, lambda run: run["gti"].columns["STOP"][0].__iadd__(5.0))
    extra = stores.index_rows(7, path.name, "later", types=("gti", "aeff"))
    store = open_store(stores.write_index(tmp_path, rows + extra))
    assert [run.obs_id for run in store.runs] == [9]
    assert "two HDUs gti, rows 7 and 12: " in store.refused[7]


def test_responses_by_interval_in_a_file_without_index_are_refused_by_name(stores, tmp_path):
    def edit(run):
        run["again"] = stores.make_run(7)["aeff"]
        run["again"].columns["EFFAREA"][0][:] *= 0.5

    stores.write_run(tmp_path, 7, edit)
    stores.write_run(tmp_path, 9)
    store = open_store(tmp_path)
    assert [run.obs_id for run in store.runs] == [9]
    assert "are both aeff_2d" in store.refused[7]


TYPES = {"1": 0.25, "2": 0.75}  # share of the area


def typed_rows(stores, folder, values=("1", "2"), blank="", obs_id=7):
    """Rows of a run of one list of events and, by type, effective areas in the same file."""

    def edit(run):
        for share, value in zip(TYPES.values(), values, strict=True):
            run[f"aeff{value}"] = stores.make_run(obs_id)["aeff"]
            run[f"aeff{value}"].name = f"AEFF {value}"
            run[f"aeff{value}"].columns["EFFAREA"][0][:] *= share

    path = stores.write_run(folder, obs_id, edit)
    plain = [row | {"EVENT_TYPE": blank} for row in stores.index_rows(obs_id, path.name) if row["HDU_TYPE"] != "aeff"]
    (area,) = stores.index_rows(obs_id, path.name, types=("aeff",))
    return plain + [area | {"EVENT_TYPE": value, "HDU_NAME": f"AEFF {value}"} for value in values]


def test_types_of_events_have_the_responses_of_their_rows(stores, tmp_path):
    (entry,) = open_store(stores.write_index(tmp_path, typed_rows(stores, tmp_path))).runs
    assert entry.event_types == ["1", "2"]
    for kind, share in TYPES.items():
        obs = read_observation(entry, ReadOptions(event_type=kind))
        np.testing.assert_allclose(obs.aeff.area_m2, share * stores.aeff_m2(), rtol=1e-6)
        assert obs.psf is not None


def test_types_of_events_may_be_numbers_and_masked_ones_are_all(stores, tmp_path):
    rows = typed_rows(stores, tmp_path, (1, 2), -99)
    index = stores.write_index(tmp_path, rows) / "hdu-index.fits"
    with fits.open(index, mode="update") as hdus:
        number = hdus[1].columns.names.index("EVENT_TYPE") + 1
        hdus[1].header[f"TNULL{number}"] = -99
    (entry,) = open_store(tmp_path).runs
    assert entry.event_types == ["1", "2"]
    assert len(read_observation(entry, ReadOptions(event_type="2")).events) > 0


def test_type_of_events_that_is_no_whole_number_is_not_taken_for_all(stores, tmp_path):
    store = open_store(stores.write_index(tmp_path, typed_rows(stores, tmp_path, (1.5, 2.0), np.nan)))
    assert store.runs == ()
    assert "EVENT_TYPE = 1.5, expected an integer or a word" in store.refused[7]
    rows = typed_rows(stores, tmp_path / "good", (1.0, 2.0), np.nan)
    (entry,) = open_store(stores.write_index(tmp_path / "good", rows)).runs
    assert entry.event_types == ["1", "2"]


def test_rows_of_one_list_of_events_for_each_type_are_that_list(stores, tmp_path):
    rows = typed_rows(stores, tmp_path, blank="1")
    rows += [row | {"EVENT_TYPE": "2"} for row in rows[:-2]]
    (entry,) = open_store(stores.write_index(tmp_path, rows)).runs
    assert entry.quirks == ()
    for kind, share in TYPES.items():
        obs = read_observation(entry, ReadOptions(event_type=kind))
        np.testing.assert_allclose(obs.aeff.area_m2, share * stores.aeff_m2(), rtol=1e-6)


@pytest.mark.parametrize("kind", [None, "3"])
def test_type_of_events_is_never_guessed(stores, tmp_path, kind):
    (entry,) = open_store(stores.write_index(tmp_path, typed_rows(stores, tmp_path))).runs
    line = r"event_types: \{1: \{where: EVENT_TYPE == 1\}, 2: \{where: EVENT_TYPE == 2\}\}"
    with pytest.raises(RunRefused, match=rf"run 7: HDU index: EVENT_TYPE is 1, 2: .*{line}; got {kind or 'none'}$"):
        read_observation(entry, ReadOptions(event_type=kind))


def test_index_without_types_serves_any_type(stores, tmp_path, rows):
    entry = open_store(stores.write_index(tmp_path, rows)).runs[0]
    assert entry.event_types == []
    assert read_observation(entry, ReadOptions(event_type="1")).obs_id == entry.obs_id


def test_two_responses_of_one_type_of_events_are_refused(stores, tmp_path):
    rows = typed_rows(stores, tmp_path)
    rows.append(rows[-1] | {"HDU_NAME": rows[-2]["HDU_NAME"]})
    stores.write_run(tmp_path, 9)
    rows += [row | {"EVENT_TYPE": ""} for row in stores.index_rows(9, "run_9.fits.gz")]
    store = open_store(stores.write_index(tmp_path, rows))
    assert [run.obs_id for run in store.runs] == [9]
    assert "two HDUs aeff_2d, rows 6 and 7: " in store.refused[7]


def test_one_list_of_events_under_two_runs_with_types(stores, tmp_path):
    rows = typed_rows(stores, tmp_path)
    store = open_store(stores.write_index(tmp_path, rows + [row | {"OBS_ID": 11} for row in rows]))
    assert [run.obs_id for run in store.runs] == [7]
    assert "already used by run 7" in store.refused[11]


def test_one_file_under_two_runs(stores, tmp_path, rows):
    store = open_store(stores.write_index(tmp_path, rows + stores.index_rows(11, "run_9.fits.gz", "data")))
    assert [run.obs_id for run in store.runs] == [7, 9]
    assert "already used by run 9 (row 12 of hdu-index.fits)" in store.refused[11]


def test_observation_index_rows_twice(stores, tmp_path, rows):
    stores.write_index(tmp_path, rows, obs_ids=[7, 9, 7])
    assert len(open_store(tmp_path).runs) == 2
    info = [{"OBS_ID": 7, "ZEN_PNT": zenith} for zenith in (10.0, 20.0)]
    stores.write_rows(tmp_path / "obs-index.fits", info, "OBS_INDEX")
    store = open_store(tmp_path)
    assert [run.obs_id for run in store.runs] == [9]
    assert "two rows that differ, 0 and 1" in store.refused[7]


def test_psf_in_several_formats_takes_the_table(stores, tmp_path):
    def edit(run):
        run["gauss"] = stores.gauss_table()
        run["gauss"].name = "PSF3"

    path = stores.write_run(tmp_path, 7, edit)
    rows = stores.index_rows(7, path.name)
    rows.insert(0, {**rows[0], "HDU_TYPE": "psf", "HDU_CLASS": "psf_3gauss", "HDU_NAME": "PSF3"})
    obs = read_observation(open_store(stores.write_index(tmp_path, rows)).runs[0])
    assert type(obs.psf).__name__ == "PsfTable"


def test_md5_and_size_of_the_index(stores, tmp_path, rows):
    path = tmp_path / "data/run_7.fits.gz"
    for row in rows:
        file = tmp_path / "data" / row["FILE_NAME"]
        row["MD5"], row["SIZE"] = hashlib.md5(file.read_bytes()).hexdigest(), file.stat().st_size
    entry = open_store(stores.write_index(tmp_path, rows)).runs[0]
    assert read_observation(entry).quirks == ()
    assert entry.hdus[0].size == path.stat().st_size
    rows[6]["SIZE"] += 1
    assert read_observation(open_store(stores.write_index(tmp_path, rows)).runs[0]).quirks == ("index-size-disagrees",)
    for row in rows:
        row["MD5"] = "0" * 32
    with pytest.raises(RunRefused, match=r"run_7.fits.gz: its MD5 is not 0000"):
        read_observation(open_store(stores.write_index(tmp_path, rows)).runs[0])


def test_the_files_of_a_large_index_are_not_opened(stores, tmp_path):
    """20 000 runs; the files are links to one, which must not be opened."""
    stores.write_run(tmp_path, 7)
    n = 20_000
    types = ("events", "gti", "aeff")
    rows = {
        "OBS_ID": np.repeat(np.arange(n), 3),
        "HDU_TYPE": np.tile(np.array([t.encode() for t in types]), n),
        "HDU_CLASS": np.tile(np.array([stores.INDEX_CLASSES[t].encode() for t in types]), n),
        "FILE_DIR": np.full(3 * n, b"."),
        "FILE_NAME": np.full(3 * n, b"run_7.fits.gz"),
        "HDU_NAME": np.char.add(np.tile(np.array([b"E", b"G", b"A"]), n), np.repeat(np.arange(n), 3).astype("S")),
    }
    table = stores.TableSpec("HDU_INDEX", {name: (values, "") for name, values in rows.items()}, {})
    (tmp_path / "hdu-index.fits").write_bytes(stores.to_bytes([table]))
    info = {"OBS_ID": (np.arange(n), ""), "RA_PNT": (np.linspace(0, 359, n), "deg")}
    (tmp_path / "obs-index.fits").write_bytes(stores.to_bytes([stores.TableSpec("OBS", info, {})]))
    store = open_store(tmp_path)
    assert len(store.runs) == n
    assert store.runs[-1].obs_info["RA_PNT"] == 359.0


def test_names_that_are_numbers(stores, tmp_path, rows):
    for row in rows:
        row["HDU_NAME"] = 3
    with pytest.raises(StoreError, match=r"hdu-index.fits: a column of names is no text column"):
        open_store(stores.write_index(tmp_path, rows))


def test_file_names_beyond_ascii(stores, tmp_path):
    shutil.move(stores.write_run(tmp_path, 7), tmp_path / "Läufe 7.fits.gz")
    store = open_store(stores.write_index(tmp_path, stores.index_rows(7, "Läufe 7.fits.gz")))
    assert store.runs[0].hdus[0].path.name == "Läufe 7.fits.gz"


def test_files_are_known_by_their_first_bytes_and_links_are_followed(stores, tmp_path):
    """Endings say nothing; a folder that is reached twice, or holds itself, is read once."""
    store, other = tmp_path / "store", tmp_path / "other"
    for obs_id in range(1, 9):
        stores.write_run(store, obs_id)
    names = ["run.FITS.GZ", "run.fts.gz", "run.fits.bz2", "run.fits.fz", "run", "run.dat", "night/run.fit"]
    contents = [(store / f"run_{obs_id}.fits.gz").read_bytes() for obs_id in range(1, 8)]
    contents[2], contents[4] = bz2.compress(gzip.decompress(contents[2])), gzip.decompress(contents[4])
    shutil.rmtree(store)
    for folder, name, content in zip((store, store, store, other, store, store, other), names, contents, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (store / "z-linked").symlink_to(other)
    (store / "loop").symlink_to(store)
    (other / "night" / "back").symlink_to(other)
    for source in (store, f"{store}/**/*"):
        found = open_store(source)
        assert [run.obs_id for run in found.runs] == [1, 2, 3, 4, 5, 6, 7]
        assert all(read_observation(run).obs_id == run.obs_id for run in found.runs)
        assert found.left_out == ()
    assert open_store(store).problems == ()


def test_what_a_folder_holds_and_nobody_reads_is_named(stores, tmp_path, monkeypatch):
    run = stores.write_run(tmp_path, 7)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.fits").write_text("hello")
    (tmp_path / "gone.fits").symlink_to(tmp_path / "nowhere")
    (tmp_path / "run.fits.xz").write_bytes(lzma.compress(gzip.decompress(run.read_bytes())))
    (tmp_path / "cut.fits.bz2").write_bytes(bz2.compress(gzip.decompress(run.read_bytes()))[:-9])
    (tmp_path / "cut.fits.gz").write_bytes(run.read_bytes()[:3])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    store = open_store(tmp_path)
    assert [run.obs_id for run in store.runs] == [7]
    said = {line.split(": ")[0].rpartition("/")[2]: line.split(": ", 1)[1] for line in store.problems}
    assert sorted(said) == ["closed", "cut.fits.bz2", "cut.fits.gz", "gone.fits", "notes.txt", "pipe", "run.fits.xz"]
    assert said["notes.txt"] == "no FITS file"
    assert said["gone.fits"] == "No such file or directory"
    assert "a FIFO" in said["pipe"]
    assert "truncated" in said["cut.fits.gz"]
    assert "truncated bzip2 file" in said["cut.fits.bz2"]
    assert "7zXZ" in said["run.fits.xz"]
    assert len(store.left_out) == len(store.problems) - 1  # nobody misses the notes


def test_files_beside_an_index_that_it_does_not_name(stores, tmp_path, rows):
    pointing = {**rows[0], "HDU_TYPE": "pointing", "FILE_NAME": "pointing.fits"}
    (tmp_path / "data" / "pointing.fits").write_bytes(gzip.decompress((tmp_path / "data/run_7.fits.gz").read_bytes()))
    stores.write_index(tmp_path, [*rows, pointing])
    assert open_store(tmp_path).problems == ()
    stores.write_run(tmp_path / "data", 11)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "elsewhere").symlink_to("/etc")  # nobody asked for what lies there
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "data" / "link.fits.gz").symlink_to(tmp_path / "data/run_9.fits.gz")
    store = open_store(tmp_path)
    assert [run.obs_id for run in store.runs] == [7, 9]
    said = {"data/run_11.fits.gz": "not in hdu-index.fits", "gone": "No such file or directory"}
    said["loop"] = "Too many levels of symbolic links"
    assert sorted(store.problems) == [f"{tmp_path / name}: {why}" for name, why in said.items()]
    assert store.left_out == ()


def test_index_that_is_a_dangling_link_is_not_passed_over(stores, tmp_path):
    stores.write_run(tmp_path, 7)
    (tmp_path / "hdu-index.fits.gz").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"hdu-index.fits.gz: No such file"):
        open_store(tmp_path)


@pytest.mark.parametrize("file_dir", [".", "", None, "./"])
def test_relative_names_stay_below_the_index(stores, tmp_path, rows, file_dir):
    for row in rows:
        row["FILE_NAME"], row["FILE_DIR"] = f"data/{row['FILE_NAME']}", file_dir
        if file_dir is None:
            del row["FILE_DIR"]
    store = open_store(stores.write_index(tmp_path, rows))
    assert [run.obs_id for run in store.runs] == [7, 9]
    assert store.runs[0].hdus[0].path == tmp_path / "data/run_7.fits.gz"


def test_absolute_names_stay_absolute(stores, tmp_path, rows):
    for row in rows:
        row["FILE_NAME"] = str(tmp_path / "data" / row["FILE_NAME"])
    rows[0]["FILE_NAME"] = "/run_9.fits.gz"
    store = open_store(stores.write_index(tmp_path, rows))
    assert [run.obs_id for run in store.runs] == [7]
    assert store.refused[9].startswith("/: outside ")


@pytest.mark.parametrize("file_name", ["absent.fits", "../../../etc/passwd", ""])
def test_rows_of_hdus_that_are_not_needed_are_not_looked_at(stores, tmp_path, rows, file_name):
    """A table that is no response, and a PSF in a second format, which is not the one that is read."""
    for kind, its_class in (("pointing", ""), ("psf", "psf_3gauss")):
        rows.append({**rows[0], "HDU_TYPE": kind, "HDU_CLASS": its_class, "FILE_NAME": file_name})
    store = open_store(stores.write_index(tmp_path, rows))
    assert [run.obs_id for run in store.runs] == [7, 9]
    assert read_observation(store.runs[1]).obs_id == 9
    rows[-1]["HDU_CLASS"] = "psf_table"  # this one is, and says something else than its first row
    assert list(open_store(stores.write_index(tmp_path, rows)).refused) == [9]


def test_run_of_nothing_that_is_read(stores, tmp_path, rows):
    rows += [{**rows[0], "OBS_ID": 11, "HDU_TYPE": "log"}]
    store = open_store(stores.write_index(tmp_path, rows, obs_ids=[7, 9]))
    assert [run.obs_id for run in store.runs] == [7, 9]
    assert store.refused == {11: "no HDU of type events for this run"}


@pytest.mark.parametrize("n_runs", [2, 6])
def test_all_runs_in_one_file_are_read_once(stores, tmp_path, monkeypatch, n_runs):
    """Opening the store, without an observation index, and reading its runs: a number of reads that does not grow."""
    tables, rows = [], []
    for obs_id in range(1, n_runs + 1):
        for hdu_type, table in stores.make_run(obs_id).items():
            table.name = f"{table.name} {obs_id}"
            tables.append(table)
            (row,) = stores.index_rows(obs_id, "all.fits", types=(hdu_type,))
            rows.append({**row, "HDU_NAME": table.name})
    (tmp_path / "all.fits").write_bytes(stores.to_bytes(tables))
    alone = stores.write_run(tmp_path, 50)
    stores.write_index(tmp_path, rows + stores.index_rows(50, alone.name), obs_ids=[])
    reads: Counter[str] = Counter()

    def count(path, *arguments, **options):
        reads[path.name] += 1
        return read_content(path, *arguments, **options)

    monkeypatch.setattr("cubeflow.dl3.hdus.read_content", count)
    store = open_store(tmp_path)
    assert (reads["all.fits"], reads[alone.name]) == (1, 1)
    observations = [read_observation(run) for run in store.runs]
    assert (reads["all.fits"], reads[alone.name]) == (2, 2)
    assert not reader._FILES  # of the last run, whose file holds it alone
    for observation in observations[:-1]:
        path = stores.write_run(tmp_path / "apart", observation.obs_id)
        expected = read_observation(open_store(path).runs[0])
        for name in ("energy_tev", "ra_deg", "dec_deg", "time_s"):
            np.testing.assert_array_equal(getattr(observation.events, name), getattr(expected.events, name))


@pytest.mark.parametrize("unit", ["rad", "arcmin", "deg", None])
def test_pointings_of_the_index_in_any_unit(stores, tmp_path, rows, unit):
    """Runs are selected by them: radians taken for degrees would leave all of them out."""
    stores.write_index(tmp_path, rows)
    (path,) = tmp_path.glob("obs-index*")
    table = Table.read(path, hdu=1)
    for name in ("RA_PNT", "DEC_PNT"):
        table[name] = (np.asarray(table[name]) * u.deg).to(unit or "deg")
        table[name].unit = unit
    table.write(path, overwrite=True)
    for run in open_store(tmp_path).runs:
        assert direction_of(run.obs_info) == pytest.approx((83.6, 22.5), abs=1e-5)


def test_a_pointing_in_a_unit_of_no_angle_is_no_pointing(stores, tmp_path, rows):
    """It is taken from EVENTS, as one that is absent."""
    stores.write_index(tmp_path, rows)
    (path,) = tmp_path.glob("obs-index*")
    table = Table.read(path, hdu=1)
    table["RA_PNT"].unit = "m"
    table.write(path, overwrite=True)
    assert direction_of(open_store(tmp_path).runs[0].obs_info) is None
