"""Faults 46 to 52: configurations, and maps at the edges of what there is."""

import json
import os
import shutil

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from cubeflow.dl3 import exclusions
from cubeflow.dl3.files import CHANGED
from cubeflow.plan.run import target_lines
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact

pytestmark = pytest.mark.faults
GOOD, BAD = 100001, 100002
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.fixture
def aborts(bench):
    """``aborts(key, ...)``: nothing is done; the message is one line a mistake and names the key."""

    def check(*words, text=None):
        path = bench.write_config()
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        status, said = bench.cubeflow("plan", "-c", path)
        assert status == 2, said
        for word in words:
            assert word in said, said
        assert not list(bench.results.rglob("*.h5")) if bench.results.exists() else True
        return said

    return check


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("energy: {min: 1 TeV}\nenergy: {min: 2 TeV}\n", "2:energy: duplicate key"),
        ("gti_filter: true\ntargets: {t: {position: {lon: 1 deg, lon: 2 deg}}}\n", "targets.t.position.lon: duplicate"),
        (BOMB, "got the alias *a0"),
        ("a: " + "[" * 3000 + "]" * 3000, "a[0][0]: expected at most 50 levels"),
        ("a:\n\tb: 1\n", "2: expected printable text and spaces, got a tab"),
        (b"\xef\xbb\xbfdata: {}\n", "byte order mark"),
        ("data: !!python/object/apply:os.system ['touch owned']\n", "data: expected plain values, got the tag"),
        ("data: {stor: x}\ntargets: {t: {}}\n", "data.stor: unknown key; did you mean 'store'?"),
        (b"data: \xff\n", "expected UTF-8"),
        ("", "expected keys and values"),
        ("[1, 2]", "expected keys and values"),
    ],
)
def test_fault_46_yaml(bench, aborts, text, words):
    aborts(words, text=text)
    assert not (bench.folder / "owned").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("offset_max", ".nan"),
        ("offset_max", "1e999 deg"),
        ("offset_max", ".inf"),
        ("offset_max", 2),
        ("targets.t.geometry.pixel", "-0.02 deg"),
        ("targets.t.geometry.pixel", "0 deg"),
        ("targets.t.geometry.width", ["3 deg", "-2 deg"]),
        ("energy.min", "10 TeV"),
        ("energy.min", "11 TeV"),
        ("energy.min", "0 TeV"),
        ("energy.bins", 0),
        ("energy.bins", -3),
        ("energy_true.bins", 10**9),
        ("targets.t.position.lat", "91 deg"),
        ("backgrounds.fov.norm_min", -1),
        ("stack", {"batch": 0}),
        ("targets", {}),
        ("targets.../etc", {"position": {}}),
    ],
)
def test_fault_46_values(bench, aborts, key, value):
    if key.startswith("targets.../"):
        bench.config["targets"] = {"../etc": bench.config["targets"]["t"]}
        aborts("targets.../etc")
        return
    bench.set(key, value)
    aborts(f"{key}")


def test_fault_47_map_too_large_for_memory(bench, aborts):
    """Refused before any job, with the estimate, the limit and the keys to change."""
    bench.set("targets.t.geometry", {"width": ["300 deg", "100 deg"], "pixel": "0.001 deg", "projection": "CAR"})
    said = aborts("targets.t.geometry", "300000 x 100000 pixels", "MB in the step", "the limit is", "larger pixel")
    assert "key memory" in said


def test_fault_47_limit_of_the_configuration(bench, aborts):
    bench.set("memory", "100 MB")
    aborts("targets.t.geometry", "the limit is 100 MB")
    bench.set("memory", "2 GB")
    assert bench.run().status == 0


def test_fault_48_no_overlap(bench):
    bench.set("targets.t.position", {"lon": "120 deg", "lat": "-30 deg"})
    outcome = bench.run()
    assert outcome.status == 0
    assert [row["status"] for row in outcome.rows.values()] == ["skipped", "skipped"]
    assert all(row["reason"] for row in outcome.rows.values())
    assert bench.finish()[0] == 0
    assert any("no run is left; see " in line for line in target_lines(bench.made(), "t"))


def expected_counts(bench, obs_id, geometry, frame):
    """Counts of one run in the map by astropy alone: (ny, nx)."""
    lon, lat, nx, ny, pixel = geometry
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"] if frame == "icrs" else ["GLON-TAN", "GLAT-TAN"]
    wcs.wcs.crval, wcs.wcs.cdelt, wcs.wcs.crpix = [lon, lat], [-pixel, pixel], [(nx + 1) / 2, (ny + 1) / 2]
    with fits.open(bench.file(obs_id)) as hdus:
        events, header = hdus["EVENTS"].data, hdus["EVENTS"].header
    coords = SkyCoord(events["RA"].astype(float), events["DEC"].astype(float), unit="deg")
    pointing = SkyCoord(header["RA_PNT"], header["DEC_PNT"], unit="deg")
    coords = coords[(events["ENERGY"] >= 1.0) & (events["ENERGY"] < 10.0)]
    along = coords if frame == "icrs" else coords.galactic
    x, y = wcs.wcs_world2pix(along.spherical.lon.deg, along.spherical.lat.deg, 0)
    image, _, _ = np.histogram2d(y, x, bins=[np.arange(ny + 1) - 0.5, np.arange(nx + 1) - 0.5])
    pixels = wcs.wcs_pix2world(*np.meshgrid(np.arange(nx), np.arange(ny)), 0)
    centres = SkyCoord(*pixels, unit="deg", frame=frame).icrs
    return np.where(centres.separation(pointing).deg < 2.0, image, 0.0)  # the cut is by whole pixels


@pytest.mark.parametrize(
    ("centre", "frame"),
    [((0.1, 22.0), "icrs"), ((359.95, -40.0), "icrs"), ((83.0, 89.7), "icrs"), ((86.4, 28.9), "galactic")],
    ids=["RA 0", "RA 360", "pole", "l 180"],
)
def test_fault_48_places_where_longitude_jumps(bench, centre, frame):
    shutil.rmtree(bench.store)
    options = SimulationOptions(tiny=True, n_runs=2, duration_s=600.0, first_obs_id=GOOD, centre=centre)
    simulate_store(bench.store, SimulationOptions(**{**options.__dict__, "sources": ((*centre, 1.0),)}))
    position = SkyCoord(*centre, unit="deg")
    along = position if frame == "icrs" else position.galactic
    lon, lat = float(along.spherical.lon.deg), float(along.spherical.lat.deg)
    bench.set("targets.t.position", {"frame": frame, "lon": f"{lon!r} deg", "lat": f"{lat!r} deg"})
    bench.set("targets.t.geometry.frame", frame)
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    assert bench.finish()[0] == 0
    expected = sum(expected_counts(bench, obs_id, (lon, lat, 30, 20, 0.1), frame) for obs_id in (GOOD, BAD))
    cube = read_artifact(bench.results / "t/fov/cube.h5", names=["counts"]).datasets["counts"]
    assert expected.sum() > 100
    np.testing.assert_array_equal(cube.data.sum(axis=0), expected)


def test_fault_48_one_pixel_overlap(bench):
    """A map of one pixel at the edge of the runs' field: its counts are right, or it is skipped with a reason."""
    bench.set("targets.t.position", {"lon": "83.633 deg", "lat": "23.5 deg"})
    bench.set("targets.t.geometry", {"width": ["0.1 deg", "0.1 deg"], "pixel": "0.1 deg"})
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    assert all(row["reason"] for row in outcome.rows.values() if row["status"] == "skipped")
    used = [obs_id for obs_id, row in outcome.rows.items() if row["status"] == "ok"]
    assert bench.finish()[0] == 0
    cube = read_artifact(bench.results / "t/fov/cube.h5", names=["counts"]).datasets["counts"]
    expected = sum(expected_counts(bench, obs_id, (83.633, 23.5, 1, 1, 0.1), "icrs") for obs_id in used)
    np.testing.assert_array_equal(cube.data.sum(axis=0), expected)


def write_mask(path, values, lon=83.633, lat=22.014, frame="icrs"):
    """Exclusion image of (ny, nx) values with pixels of 0.1 deg."""
    wcs = WCS(naxis=2)
    names = {"icrs": ["RA---TAN", "DEC--TAN"], "galactic": ["GLON-CAR", "GLAT-CAR"]}
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = names[frame], [lon, lat], [-0.1, 0.1]
    wcs.wcs.crpix = [(values.shape[1] + 1) / 2, (values.shape[0] + 1) / 2]
    fits.PrimaryHDU(values.astype("f4"), wcs.to_header()).writeto(path, overwrite=True)


def test_fault_49_exclusion_in_another_frame(bench):
    """A disc in ICRS and the same disc in galactic coordinates leave the same counts for the norm."""
    found = []
    galactic = SkyCoord(83.633, 22.014, unit="deg").galactic
    for line in ("fk5;circle(83.633,22.014,0.5)", f"galactic;circle({galactic.l.deg},{galactic.b.deg},0.5)"):
        (bench.folder / "mask.reg").write_text(line.replace("fk5", "icrs").replace(";", "\n") + "\n")
        bench.set("exclusion", "mask.reg")
        outcome = bench.run()
        assert outcome.status == 0, outcome.text
        found.append([(row["fov_counts_0"], row["fov_norm_0"]) for row in outcome.rows.values()])
    assert found[0] == found[1]


def test_fault_49_exclusion_image_that_covers_part(bench, undisturbed):
    """What lies outside the image is kept: an image of ones changes no norm, wherever it lies."""
    write_mask(bench.folder / "mask.fits", np.ones((5, 7)), *(84.2, 22.3))
    bench.set("exclusion", "mask.fits")
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    assert outcome.rows[BAD]["fov_norm_0"] == undisturbed.rows()[BAD]["fov_norm_0"]
    write_mask(bench.folder / "mask.fits", np.zeros((5, 7)), *(84.2, 22.3))
    fewer = bench.run().rows[BAD]["fov_counts_0"]
    assert int(fewer) < int(undisturbed.rows()[BAD]["fov_counts_0"])


def polarity():
    """All but a disc around the target excluded."""
    y, x = np.mgrid[-40:41, -40:41]
    return (np.hypot(x, y) < 3).astype(float)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((81, 81)), "1 means keep"),
        (polarity(), "1 means keep"),
        (np.where(np.ones((81, 81)) > 0, np.nan, 1.0), "expected 1 (keep) or 0 (excluded)"),
        (np.full((81, 81), 255.0), "expected 1 (keep) or 0 (excluded)"),
    ],
    ids=["all excluded", "wrong polarity", "NaN", "255"],
)
def test_fault_49_exclusion_that_cannot_be_meant(bench, aborts, values, words):
    write_mask(bench.folder / "mask.fits", values)
    bench.set("exclusion", "mask.fits")
    aborts("targets.t.exclusion", "mask.fits", words)


@pytest.mark.parametrize("kind", ["missing", "folder", "FIFO", "empty", "text"])
def test_fault_49_exclusion_that_cannot_be_read(bench, aborts, kind):
    path = bench.folder / "mask.fits"
    {
        "missing": lambda: None,
        "folder": path.mkdir,
        "FIFO": lambda: os.mkfifo(path),
        "empty": path.touch,
        "text": lambda: path.write_text("no image"),
    }[kind]()
    bench.set("exclusion", "mask.fits")
    aborts("targets.t.exclusion", "mask.fits")


def exclude_a_disc(bench, radius, name="mask.fits"):
    """By an image, which jobs read, or by a region, which the plan hands to them."""
    if name == "mask.reg":
        (bench.folder / name).write_text(f"icrs\ncircle(83.633,22.014,{radius})\n")
    else:
        y, x = np.mgrid[-40:41, -40:41]
        write_mask(bench.folder / name, np.hypot(x, y) * 0.1 > radius)
    bench.set("exclusion", name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda bench: exclude_a_disc(bench, 0.6),
            CHANGED,
        ),
        (
            lambda bench: (bench.folder / "mask.fits").write_text("none"),
            CHANGED,
        ),
        (
            lambda bench: (bench.folder / "mask.fits").unlink(),
            f"No such file or directory: {CHANGED}",
        ),
    ],
)
def test_fault_49_exclusion_that_changes_after_the_plan(bench, change, words):
    """A job says it once, makes no background with it, and ends well after the next plan."""
    exclude_a_disc(bench, 0.5)
    assert bench.plan()[0] == 0
    (job,) = bench.jobs("reduce")
    change(bench)
    status, text = bench.cubeflow(*job)
    assert status == 1
    assert [line for line in text.splitlines() if "mask.fits" in line] == [f"cubeflow: mask.fits: {words}"]
    assert not list(bench.results.rglob("background-fov*.h5"))
    exclude_a_disc(bench, 0.6)
    assert bench.run().status == 0


def test_fault_49_exclusion_that_changes_before_the_export(bench):
    exclude_a_disc(bench, 0.5)
    assert bench.run().status == 0
    (job,) = bench.jobs("export")
    exclude_a_disc(bench, 0.6)
    status, text = bench.cubeflow(*job)
    assert status == 1
    assert text.splitlines()[-1] == f"cubeflow: mask.fits: {CHANGED}"
    assert not list(bench.results.rglob("cube.h5"))


@pytest.mark.parametrize("name", ["mask.reg", "mask.fits"])
def test_fault_49_exclusion_that_changes_while_it_is_read(bench, monkeypatch, name):
    """What is used are the bytes whose digest is in the key: of a region those of the plan."""
    exclude_a_disc(bench, 0.5, name)
    assert bench.run().status == 0
    expected = bench.products()
    shutil.rmtree(bench.results)
    assert bench.plan()[0] == 0
    if name == "mask.reg":
        exclude_a_disc(bench, 0.6, name)
    else:
        read = exclusions.split_hdus
        monkeypatch.setattr(exclusions, "split_hdus", lambda *args: (exclude_a_disc(bench, 0.6), read(*args))[1])
    assert bench.reduce()[0] == 0
    assert bench.table()[0] == 0
    assert bench.products() == expected


@pytest.mark.parametrize(("policy", "status"), [("drop", "dropped"), ("error", "refused")])
def test_fault_50_norm_at_a_limit(bench, policy, status):
    """The norms of the two runs are 1.0396 and 1.0389: a limit between them leaves one of them out, by policy."""
    bench.set("backgrounds.fov", {"method": "fov", "norm_max": 1.0392, "on_failure": policy})
    outcome = bench.run()
    assert outcome.status == 0
    assert outcome.rows[BAD]["fov_status"] == "ok"
    row = outcome.rows[GOOD]
    assert row["fov_status"] == row["status"] == status
    assert "norm 1.04" in row["fov_reason"]
    assert "outside its limits" in row["fov_reason"]


def test_fault_50_norm_without_enough_counts_is_never_one(bench):
    bench.set("backgrounds.fov", {"method": "fov", "min_counts": 400, "on_failure": "drop"})
    outcome = bench.run()
    assert outcome.rows[BAD]["fov_status"] == "dropped"
    assert "361 counts outside the exclusion mask, at least 400 needed" in outcome.rows[BAD]["fov_reason"]


def test_fault_51_ring_larger_than_the_field(bench, aborts):
    bench.set("backgrounds.ring", {"method": "ring", "r_in": "4 deg", "width": "0.3 deg"})
    aborts("backgrounds.ring.r_in", "larger than the field")


def test_fault_51_pixels_without_off(bench):
    """A ring of 2.2 deg: no OFF for the centre. Not a number there, and the run table says how many pixels."""
    bench.set("backgrounds", {"ring": {"method": "ring", "r_in": "2.2 deg", "width": "0.2 deg"}})
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    assert int(outcome.rows[BAD]["ring_pixels_without_off"]) > 0
    assert bench.finish()[0] == 0
    cube = read_artifact(bench.results / "t/ring/cube.h5")
    maps = {name: dataset.data for name, dataset in cube.datasets.items() if name != "gti_s"}
    usable = maps["mask_safe"].any(axis=0)
    assert np.isnan(maps["alpha"][:, ~usable]).all()
    assert (~usable).any()
    assert np.isnan(maps["disc_significance"]).any()


def test_fault_51_no_off_at_all(bench):
    (bench.folder / "mask.reg").write_text("icrs\ncircle(83.633,22.014,1.9)\n")
    bench.set("exclusion", "mask.reg")
    bench.set("offset_max", "1 deg")
    bench.set("backgrounds", {"ring": {"method": "ring", "r_in": "0.3 deg", "width": "0.2 deg"}})
    outcome = bench.run()
    assert outcome.rows[BAD]["status"] == "dropped", json.dumps(outcome.rows)
    assert "no pixel has any OFF acceptance" in outcome.rows[BAD]["reason"]


def test_fault_52_utc_and_tt_headers(bench, undisturbed):
    """TT - UTC at the reference (January 2001) is 64.184 s: the same events, counted from another epoch."""

    def change(hdus):
        for name, columns in (("EVENTS", ["TIME"]), ("GTI", ["START", "STOP"])):
            for column in columns:
                hdus[name].data[column] -= 64.184
            hdus[name].header["TIMESYS"] = "UTC"

    bench.edit(change)
    outcome = bench.run()
    assert (outcome.status, outcome.rows[BAD]["status"]) == (0, "ok"), outcome.text
    np.testing.assert_allclose(bench.data()["gti_s"], undisturbed.data()["gti_s"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(bench.data()["counts"], undisturbed.data()["counts"])
