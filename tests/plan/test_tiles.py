"""Targets of tiles: which there are, with which runs, and that together they hold each event once."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cubeflow.config import ConfigError, parse_config
from cubeflow.dl3.entries import direction_of
from cubeflow.errors import MistakeError
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import find_exclusion
from cubeflow.plan.tiles import expand_tiles
from cubeflow.products.tiles import Tile
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact

from .conftest import do_all

CONFIG = """
data: {store: STORE}
results: RESULTS
energy: {min: 1 TeV, max: 10 TeV, bins: 3}
energy_true: {min: 0.5 TeV, max: 20 TeV, bins: 4}
offset_max: 1.5 deg
irf_grid: {pixel: 0.5 deg, rad_max: 0.6 deg, rad_bins: 6}
backgrounds: {fov: {method: fov}, ring: {method: ring, r_in: 0.5 deg, width: 0.3 deg}}
targets:
  survey:
    tiles: {nside: 16, overlap: 0.5 deg}
    geometry: {pixel: 0.1 deg, frame: galactic}
    exclusion: EXCLUDED
"""
NSIDE, OVERLAP, OFFSET = 16, 0.5, 1.5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    pytest.importorskip("hpgeom")
    folder = tmp_path_factory.mktemp("tiles")
    simulate_store(folder / "store", SimulationOptions(seed=5, n_runs=5, duration_s=600.0, tiny=True))
    (folder / "crab.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    text = CONFIG.replace("STORE", str(folder / "store")).replace("RESULTS", str(folder / "results"))
    config = parse_config(text.replace("EXCLUDED", str(folder / "crab.reg")))
    plan = make_plan(config, print)
    do_all(plan)
    return config, plan


def test_targets_are_the_tiles_that_runs_reach_each_with_these(made):
    """Against distances from many positions of each tile."""
    _, plan = made
    pointings = {entry.obs_id: direction_of(entry.obs_info) for entry in plan.store.runs}
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(78, 90, 100_000), rng.uniform(16, 28, 100_000)
    expected, near = {}, {}
    for number in range(12 * NSIDE**2):
        held = Tile(NSIDE, number).holds(lon, lat)
        if held.any():
            away = {obs_id: angular_distance_deg((lon[held], lat[held]), at).min() for obs_id, at in pointings.items()}
            if min(away.values()) <= OFFSET:
                expected[f"survey-{number:04}"] = {key for key, deg in away.items() if deg <= OFFSET + OVERLAP}
                near[f"survey-{number:04}"] = {key for key, deg in away.items() if deg <= OFFSET + OVERLAP + 0.02}
    assert plan.targets.keys() == expected.keys()
    assert 2 <= len(expected) <= 8
    for name, found in plan.tasks.items():
        runs = {keys.unit.obs_id for task in found.reduce for keys in task.units}
        assert expected[name] <= runs <= near[name]
        geom, tile = plan.targets[name].reduce.geometry, plan.targets[name].reduce.tile
        assert (geom.frame, geom.projection, geom.nx) == ("galactic", "TAN", geom.ny)
        assert geom.center_deg == pytest.approx(tile.center_deg, abs=1e-6)
        assert plan.targets[name].exclusions


def test_each_event_is_in_one_tile(made):
    """Events that a run uses, wherever the tiles are cut: those of which the pixel lies within the largest offset."""
    _, plan = made
    total = {}
    for name in plan.targets:
        table = Table.read(plan.results / name / "runs.ecsv")
        for row in table:
            total[int(row["obs_id"])] = total.get(int(row["obs_id"]), 0) + int(row["counts_own"])
    geoms = {target.reduce.tile: target.reduce.geometry for target in plan.targets.values()}
    for entry in plan.store.runs:
        with fits.open(next(ref.path for ref in entry.hdus if ref.hdu_type == "events")) as hdus:
            events, gti = Table(hdus["EVENTS"].data), Table(hdus["GTI"].data)
        inside = np.any([(events["TIME"] >= each["START"]) & (events["TIME"] <= each["STOP"]) for each in gti], axis=0)
        events = events[inside & (events["ENERGY"] >= 1.0) & (events["ENERGY"] < 10.0)]
        count = np.zeros(len(events), int)
        for tile, geom in geoms.items():
            x, y = geom.pixel_index(events["RA"], events["DEC"])
            own = tile.holds(events["RA"], events["DEC"]) & (x >= 0)
            lon, lat = geom.wcs().wcs_pix2world(x[own], y[own], 0)
            pointing = geom.wcs().wcs_world2pix(*galactic(direction_of(entry.obs_info)), 0)
            assert np.isfinite(pointing).all()
            offset = angular_distance_deg((lon, lat), galactic(direction_of(entry.obs_info)))
            count[np.flatnonzero(own)[offset < OFFSET]] += 1
        assert count.max() == 1
        assert count.sum() == total[entry.obs_id]


def galactic(icrs_deg):
    from astropy.coordinates import SkyCoord

    place = SkyCoord(*icrs_deg, unit="deg").galactic
    return float(place.l.deg), float(place.b.deg)


def test_own_pixels_of_the_cubes_do_not_overlap(made):
    _, plan = made
    for name, target in plan.targets.items():
        own = read_artifact(plan.results / name / "fov/cube.h5").maps["mask_own"].data
        lon, lat = target.reduce.geometry.wcs().pixel_to_world_values(*np.indices(own.T.shape))
        from astropy.coordinates import SkyCoord

        place = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
        np.testing.assert_array_equal(own, target.reduce.tile.holds(place.ra.deg, place.dec.deg).T)
        pixel_deg2 = target.reduce.geometry.pixel_deg**2
        assert own.sum() * pixel_deg2 == pytest.approx(41252.96 / (12 * NSIDE**2), rel=0.01)


def test_coverage_is_that_of_the_runs(made):
    mocpy = pytest.importorskip("mocpy")
    from astropy.coordinates import SkyCoord

    _, plan = made
    moc = mocpy.MOC.load(plan.results / "coverage.fits", format="fits")
    rng = np.random.default_rng(2)
    lon, lat = rng.uniform(79, 89, 20_000), rng.uniform(17, 27, 20_000)
    away = np.min([angular_distance_deg((lon, lat), direction_of(entry.obs_info)) for entry in plan.store.runs], axis=0)
    covered = moc.contains_skycoords(SkyCoord(lon, lat, unit="deg"))
    clear = np.abs(away - OFFSET) > 0.05
    np.testing.assert_array_equal(covered[clear], (away < OFFSET)[clear])
    assert covered.any()
    page = (plan.results / "report.html").read_text()
    assert all(f"{name}/report.html" in page for name in plan.targets) == (len(plan.targets) > 3)


def test_a_second_plan_has_nothing_to_do(made):
    config, plan = made
    again = make_plan(config, print)
    assert again.needed == ()
    assert [again.files(task) for task in again.all_tasks] == [plan.files(task) for task in plan.all_tasks]


def test_an_exclusion_is_found_for_a_tile(made):
    config, plan = made
    name = min(plan.targets, key=lambda each: len(each))
    path = find_exclusion(expand_tiles(config, plan.store), name, 30.0, 0.2, print)
    assert path is None or path.parent.name == name


def test_a_name_that_a_tile_has_is_taken(made):
    config, plan = made
    name = next(iter(plan.targets))
    other = expand_tiles(config, plan.store).targets[name]
    both = replace(config, targets={**config.targets, name: other})
    with pytest.raises(MistakeError, match=f"expected no target with the name of a tile, got {name}"):
        make_plan(both, print)


def test_no_run_no_tile(made):
    config, _ = made
    section = config.targets["survey"]
    none = replace(section, observations=replace(section.observations, exclude=tuple(range(100001, 100006))))
    with pytest.raises(MistakeError, match=r"targets.survey.tiles: no run of 5 is selected, expected some"):
        make_plan(replace(config, targets={"survey": none}), print)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("nside: 16", "nside: 12", r"^c.yaml:11:targets.survey.tiles.nside: expected a power of two, got 12$"),
        ("nside: 16", "nside: 0", r"^c.yaml:11:targets.survey.tiles.nside: expected at least 1, got 0$"),
        ("nside: 16, ", "", r"^c.yaml:11:targets.survey.tiles.nside: expected a whole number, got nothing$"),
        (
            "overlap: 0.5 deg",
            "overlap: -1 deg",
            r"^c.yaml:11:targets.survey.tiles.overlap: expected at least 0 deg",
        ),
        ("pixel: 0.1 deg", "width: 2 deg", r"^c.yaml:12:targets.survey.geometry.width: expected none beside tiles"),
        (
            "    geom",
            "    position: {lon: 1 deg, lat: 2 deg}\n    geom",
            r"^c.yaml:12:targets.survey.position: expected none",
        ),
        (
            "    geom",
            "    observations: {within: 2 deg}\n    geom",
            r"^c.yaml:12:targets.survey.observations.within: expected",
        ),
        (
            "tiles: {nside: 16, overlap: 0.5 deg}",
            "stack: {batch: 3}",
            r"targets.survey.position: expected it, such as",
        ),
    ],
)
def test_mistakes_are_told_in_one_line_with_their_place(before, after, message):
    assert CONFIG.count(before) == 1
    with pytest.raises(ConfigError, match=message) as told:
        parse_config(CONFIG.replace(before, after), "c.yaml")
    assert "\n" not in str(told.value)
