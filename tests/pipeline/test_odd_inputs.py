"""The same runs anywhere on the sky give the same result; at their limits maps, bins and cuts give one, or a reason."""

import numpy as np
import pytest
from astropy.table import Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.config.load import ConfigError
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import sphere
from cubeflow.plan.run import finish, run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_store

FOV = "fov: {method: fov}"
RING = "ring: {method: ring, r_in: 0.5 deg, width: 0.4 deg}"
DEFAULTS = {
    "frame": "icrs",
    "lon": 83.633,
    "lat": 22.014,
    "projection": "TAN",
    "width": "[4.1 deg, 3.7 deg]",
    "pixel": "0.1 deg",
    "energy": "{min: 1.2 TeV, max: 20 TeV, bins: 4}",
    "energy_true": "{min: 0.4 TeV, max: 50 TeV, bins: 12}",
    "offset_max": "2 deg",
    "radius": "0.2 deg",
    "irf_pixel": "0.5 deg",
    "backgrounds": f"{{{FOV}, {RING}}}",
}
CONFIG = """
data: {{store: {store}}}
results: {results}
targets:
  t:
    position: {{frame: {frame}, lon: {lon} deg, lat: {lat} deg}}
    geometry: {{frame: {frame}, projection: {projection}, width: {width}, pixel: {pixel}}}
energy: {energy}
energy_true: {energy_true}
irf_grid: {{pixel: {irf_pixel}, rad_bins: 30}}
offset_max: {offset_max}
significance: {{radius: {radius}}}
backgrounds: {backgrounds}
"""
PLACES = {
    "right ascension 0": {"lon": 0.0, "lat": 0.3},
    "north pole": {"lon": 0.0, "lat": 90.0},
    "south pole, ZEA": {"lon": 123.0, "lat": -90.0, "projection": "ZEA"},
    "near the pole, CAR": {"lon": 12.0, "lat": 89.5, "projection": "CAR"},
    "l = 180, CAR": {"frame": "galactic", "lon": 180.0, "lat": 0.0, "projection": "CAR"},
    "galactic centre, AIT": {"frame": "galactic", "lon": 359.99, "lat": 0.05, "projection": "AIT"},
}


def simulated(folder, frame: str, lon: float, lat: float):
    """Store of two runs about a source: what is in them about the pointings does not depend on where they are."""
    ra, dec = sphere.lon_lat(sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), frame))
    position = float(ra), float(dec)
    options = SimulationOptions(seed=5, n_runs=2, centre=position, sources=((*position, 1.0),), tiny=True)
    simulate_store(folder, options)
    return folder


def rate_at_target(store, frame: str, lon: float, lat: float) -> float:
    """Background at the target, s-1 sr-1 times s, over both runs: from where in their fields they see it."""
    target = sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), frame)
    total = 0.0
    for entry in open_store(store).runs:
        run = read_observation(entry)
        east, north = sphere.sky_offset(target[None], run.pointing.ra_deg, run.pointing.dec_deg)
        total += run.ontime_s * run.background.integrate([1.2, 20.0], east, north)[0, 0]
    return total


def result(folder, store, lines=None, **changes):
    """Folder of the results of the target; what is said is added to the lines."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(store=store, results=folder / "results", **{**DEFAULTS, **changes}))
    lines = [] if lines is None else lines
    finish(run_whole(load_config(config), lines.append), lines.append)
    return folder / "results" / "t"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("store"), "icrs", DEFAULTS["lon"], DEFAULTS["lat"])


@pytest.fixture(scope="module")
def reference(tmp_path_factory, store):
    return result(tmp_path_factory.mktemp("reference"), store)


@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_everywhere_on_the_sky_the_result_is_the_same(tmp_path, store, reference, place):
    where = {**DEFAULTS, **place}
    place_of = {name: where[name] for name in ("frame", "lon", "lat")}
    here_store = simulated(tmp_path / "store", **place_of)
    found = result(tmp_path, here_store, **place)
    # The field is lopsided: at a pole another part of it looks at the target.
    seen = rate_at_target(here_store, **place_of) / rate_at_target(store, **{name: DEFAULTS[name] for name in place_of})
    tables = [Table.read(folder / "runs.ecsv") for folder in (found, reference)]
    # Whole runs within 2 deg of their pointings, pixels and their acceptance: all that differs are pixel borders.
    for name, tolerance in (("fov_acceptance_0", 0.01), ("fov_norm_0", 0.03), ("fov_counts_0", 0.03)):
        np.testing.assert_allclose(tables[0][name], tables[1][name], rtol=tolerance, err_msg=name)
    for label in ("fov", "ring"):
        here, there = (cubeflow.load(folder / label / "cube.h5") for folder in (found, reference))
        for name, tolerance in (
            ("counts", 0.1),
            ("background", 0.03 if label == "fov" else 0.1),
            ("excess", 0.12),
            ("significance", 0.12),
        ):
            value, expected = (cube.attributes["source"][name] for cube in (here, there))
            expected *= seen if name == "background" else 1.0
            assert value == pytest.approx(expected, rel=tolerance), (label, name)
        for name in ("exposure", "exposure_reco"):
            at_target = [
                cube.maps[name].data[:, cube.maps[name].geom.ny // 2, cube.maps[name].geom.nx // 2]
                for cube in (here, there)
            ]
            np.testing.assert_allclose(*at_target, rtol=2e-3, err_msg=name)


def test_the_source_is_in_the_middle_of_every_map(reference):
    cube = cubeflow.load(reference / "ring" / "cube.h5")
    image = np.nan_to_num(cube.maps["disc_excess"].data[0])
    ny, nx = image.shape
    peak = np.unravel_index(image.argmax(), image.shape)
    assert np.hypot(peak[0] - (ny - 1) / 2, peak[1] - (nx - 1) / 2) <= 1.5
    assert cube.attributes["source"]["significance"] > 8


WORKS = {
    "one energy bin": {"energy": "{min: 1.2 TeV, max: 20 TeV, bins: 1}"},
    "bins beyond the responses": {
        "energy": "{edges: [0.00001 TeV, 0.0001 TeV, 1 TeV, 2 TeV, 20 TeV, 1000 TeV, 9000 TeV]}"
    },
    "one pixel": {"width": "0.1 deg"},
    "one pixel larger than the source": {"width": "0.4 deg", "pixel": "0.4 deg"},
    "one row": {"width": "[3 deg, 0.1 deg]"},
    "two pixels": {"width": "[0.1 deg, 0.2 deg]"},
    "pointings beyond the map": {"width": "0.3 deg"},
    "pixels larger than the IRF grid's": {"pixel": "0.9 deg", "backgrounds": f"{{{FOV}}}"},
    "smallest ring": {"backgrounds": "{ring: {method: ring, r_in: 0.3 deg, width: 0.1 deg, per_energy: true}}"},
    "disc smaller than a pixel": {"radius": "0.001 deg"},
    "disc larger than the map": {"radius": "40 deg"},
    "offsets beyond the responses": {"offset_max": "180 deg", "width": "9 deg", "pixel": "0.3 deg"},
    "whole sky": {
        "projection": "AIT",
        "width": "[360 deg, 180 deg]",
        "pixel": "1 deg",
        "irf_pixel": "6 deg",
        "backgrounds": f"{{{FOV}}}",
    },
    "whole sky about the target in a plane": {
        "width": "[360 deg, 180 deg]",
        "pixel": "1 deg",
        "irf_pixel": "6 deg",
        "backgrounds": f"{{{FOV}}}",
    },
}


@pytest.mark.parametrize("change", WORKS.values(), ids=list(WORKS))
def test_limits_give_a_result(tmp_path, store, reference, change):
    found = result(tmp_path, store, **change)
    labels = [path.parent.name for path in found.glob("*/cube.h5")]
    assert labels
    for label in labels:
        cube = cubeflow.load(found / label / "cube.h5")
        counts, background, mask = (cube.maps[name].data for name in ("counts", "background", "mask_safe"))
        assert cube.attributes["n_runs"] == 2
        assert mask.any()
        for name in ("counts", "background", "exposure", "exposure_reco"):
            data = cube.maps[name].data
            assert np.all(np.isfinite(data) & (data >= 0)), name
        assert not counts[~mask].any()
        assert not background[~mask].any()
        assert (background[mask] > 0).any()
        significance = cube.maps["disc_significance"].data
        assert np.isfinite(significance[0][mask.any(axis=0)]).any()
        assert np.isnan(significance[0][~mask.any(axis=0)]).all()


REFUSED = {
    "energies below the responses": (
        {"energy": "{min: 1 MeV, max: 1 GeV, bins: 2}", "energy_true": "{min: 1 keV, max: 50 TeV, bins: 12}"},
        "no acceptance in safe pixels",
    ),
    "energies above the responses": (
        {"energy": "{min: 1 PeV, max: 9 PeV, bins: 2}", "energy_true": "{min: 0.4 TeV, max: 20 PeV, bins: 12}"},
        "no acceptance in safe pixels",
    ),
    "map far from the runs": ({"lon": 89.5}, "no pixel of the map lies within 2 deg of the pointing"),
    "ring that no pixel reaches": (
        {
            "offset_max": "0.35 deg",
            "backgrounds": "{ring: {method: ring, r_in: 0.695 deg, width: 0.1 deg}}",
        },
        "no pixel has any OFF acceptance",
    ),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_what_gives_no_result_says_why(tmp_path, store, change, reason):
    lines: list[str] = []
    result(tmp_path, store, lines, **change)
    assert any("no run is left; see " in line for line in lines), lines
    for obs_id in (100001, 100002):
        assert any(line.startswith(f"run {obs_id}: ") and reason in line for line in lines), lines


def test_a_tilt_needs_two_energy_bins(tmp_path, store):
    with pytest.raises(ConfigError, match=r"backgrounds.fov.fit: .*at least two energy bins"):
        result(
            tmp_path, store, energy="{min: 1 TeV, max: 9 TeV, bins: 1}", backgrounds="{fov: {method: fov, fit: tilt}}"
        )
