"""What is found at the target, against plain sums, areas in closed form and likelihoods on a grid."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from cubeflow.maps import Cube, energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.products.cash import excess_above, make_significance_li_ma
from cubeflow.products.significance import disc_pixels, find_at_target, find_containment, find_flux

GEOM = make_geometry("icrs", "TAN", 50.0, -20.0, (1.5, 1.1), 0.1)
ENERGY = energy_axis([1.0, 3.0, 10.0])
TARGET, RADIUS = (50.11, -20.13), 0.25


@pytest.fixture
def maps():
    rng = np.random.default_rng(4)
    shape = (2, *GEOM.shape)
    counts = Cube(rng.poisson(3.0, shape), "", GEOM, (ENERGY,))
    background = Cube(rng.random(shape).astype("f4"), "", GEOM, (ENERGY,))
    used = rng.random(shape) < 0.8
    return {"counts": counts, "background": background}, used


def part_inside(ix, iy, n=150):
    """Part of a pixel within the disc, from points in it and astropy's separation."""
    from astropy.coordinates import SkyCoord

    sub = (np.arange(n) + 0.5) / n - 0.5
    points = GEOM.wcs().pixel_to_world((ix + sub)[:, None] + 0 * sub, iy + sub + 0 * sub[:, None])
    return np.mean(points.separation(SkyCoord(*TARGET, unit="deg")).deg <= RADIUS)


def loop(cube: Cube, used: np.ndarray) -> float:
    """Sum over the disc, pixel by pixel."""
    offset = GEOM.offset_deg(*TARGET)
    near = [index for index in np.ndindex(GEOM.shape) if offset[index] < RADIUS + 0.08]
    share = {(iy, ix): part_inside(ix, iy) for iy, ix in near}
    return sum(float(cube.data[k, *at]) * part for at, part in share.items() for k in range(2) if used[k, *at])


@pytest.mark.parametrize(
    ("frame", "projection", "at", "pixel", "radius"),
    [
        ("icrs", "TAN", (50.0, -20.0), 0.02, 0.1),  # on the corner of four pixels
        ("icrs", "TAN", (50.013, -20.007), 0.05, 0.12),
        ("galactic", "CAR", (345.0, 4.0), 0.08, 0.1),
        ("galactic", "CAR", (345.03, 55.0), 0.05, 0.2),  # pixels are narrower there
        ("icrs", "TAN", (50.0, -20.0), 0.1, 0.03),  # less than a pixel
    ],
)
def test_shares_add_up_to_the_area_of_the_disc(frame, projection, at, pixel, radius):
    from astropy.coordinates import SkyCoord

    target = SkyCoord(*at, unit="deg", frame=frame).icrs
    lon, lat = (at[0], 0.0) if projection == "CAR" else at
    geom = make_geometry(frame, projection, lon, lat, (4.0, 2 * abs(at[1] - lat) + 3.0), pixel)
    rows, columns, share = disc_pixels(geom, (float(target.ra.deg), float(target.dec.deg)), radius)
    area = geom.solid_angle_sr[rows, columns] @ share
    assert area == pytest.approx(2 * np.pi * (1 - np.cos(np.deg2rad(radius))), rel=3e-3 if radius > pixel else 0.02)
    assert np.all((share >= 0) & (share <= 1))


def test_counts_and_background_in_the_disc(maps):
    maps, used = maps
    found = find_at_target(maps, used, TARGET, RADIUS)
    assert found["on"] == pytest.approx(loop(maps["counts"], used), rel=2e-3)
    assert found["background"] == pytest.approx(loop(maps["background"], used), rel=2e-3)
    assert found["excess"] == found["on"] - found["background"]
    n, mu = found["on"], found["background"]
    assert found["significance"] == pytest.approx(np.sqrt(2 * (n * np.log(n / mu) - n + mu)))
    alone = find_at_target({"counts": maps["counts"]}, used, TARGET, RADIUS)
    assert alone == {"on": found["on"], "background": None, "excess": None, "significance": None}


def test_a_shifted_map_finds_the_same(maps):
    """The disc is about the target, not about a pixel, wherever the map begins."""
    maps, used = maps
    part = GEOM.cutout(2, 1, 12, 9)
    cut = {name: cube.cutout(part) for name, cube in maps.items()}
    assert find_at_target(cut, used[:, 1:10, 2:14], TARGET, RADIUS) == find_at_target(maps, used, TARGET, RADIUS)


def test_off_is_that_of_the_ring_at_the_target(maps):
    maps, used = maps
    ix, iy = GEOM.pixel_index(*TARGET)
    used[:, iy, ix] = True, False
    whole = energy_axis([1.0, 10.0])
    off = Cube(np.arange(GEOM.nx * GEOM.ny).reshape(1, *GEOM.shape), "", GEOM, (whole,))
    found = find_at_target({**maps, "counts_off": off}, used, TARGET, RADIUS)
    assert found["off"] == iy * GEOM.nx + ix
    assert found["alpha"] * found["off"] == pytest.approx(found["background"])
    assert found["significance"] == pytest.approx(make_significance_li_ma(found["on"], found["off"], found["alpha"]))
    each = Cube(np.stack([off.data[0], 7 + off.data[0]]), "", GEOM, (ENERGY,))
    assert find_at_target({**maps, "counts_off": each}, used, TARGET, RADIUS)["off"] == iy * GEOM.nx + ix
    used[:, iy, ix] = False
    beside = find_at_target({**maps, "counts_off": off}, used, TARGET, RADIUS)
    assert (beside["off"], beside["alpha"], beside["significance"]) == (0, None, None)
    assert beside["on"] > 0


def test_no_answer_where_the_target_is_not_seen(maps):
    maps, used = maps
    assert set(find_at_target(maps, used, (60.0, -20.13), RADIUS).values()) == {None}
    assert set(find_at_target(maps, np.zeros_like(used), TARGET, RADIUS).values()) == {None}


@pytest.mark.parametrize(("on", "background"), [(0.0, 0.4), (3.0, 5.5), (40.0, 12.0), (5000.0, 4100.0)])
def test_excess_over_a_known_background(on, background):
    for start in (on - background, max(on - background, 0.0)):
        mu = excess_above(on, background, None, 2.706, start) + background
        least = start + background
        logs = on * np.log(mu / least) if on else 0.0
        assert 2 * (mu - least - logs) == pytest.approx(2.706, rel=1e-9)
        assert mu > least
    assert excess_above(0.0, 0.4, None, 2.706, 0.0) == pytest.approx(1.353)


@pytest.mark.parametrize(("on", "off", "alpha"), [(4.0, 30, 0.2), (50.0, 200, 0.1), (0.0, 12, 0.3), (9.5, 900, 0.02)])
def test_excess_over_off_counts_is_that_of_the_profile(on, off, alpha):
    def statistic(excess):
        """Minimum over what OFF expects, by search."""

        def of(log_expected):
            expected = np.exp(log_expected)
            mu = excess + alpha * expected
            return 2 * (mu + expected - (on * np.log(mu) if on else 0.0) - off * np.log(expected))

        return minimize_scalar(of, bounds=(np.log(off) - 3, np.log(off) + 3), method="bounded").fun

    upper = excess_above(on, alpha * off, off, 2.706, max(on - alpha * off, 0.0))
    assert statistic(upper) - statistic(max(on - alpha * off, 1e-9)) == pytest.approx(2.706, abs=1e-4)
    known = excess_above(on, alpha * off, None, 2.706, max(on - alpha * off, 0.0))
    # A background that is not known allows more.
    assert upper > known * (1 + 1e-9) if on else upper == pytest.approx(known)


def test_flux_has_an_error_and_a_limit_where_it_is_weak():
    strong = {"on": 400.0, "background": 100.0, "excess": 300.0, "significance": 22.0}
    found = find_flux(strong, 2e9)
    assert found["flux"] == pytest.approx(300.0 / 2e9)
    assert found["flux_err"] == pytest.approx(np.sqrt(400.0) / 2e9, rel=0.03)
    assert found["flux_ul"] is None
    weak = {"on": 4.0, "off": 30, "background": 6.0, "excess": -2.0, "significance": -0.9}
    found = find_flux(weak, 2e9)
    assert found["flux"] == pytest.approx(-1e-9)
    assert found["flux_ul"] == pytest.approx(excess_above(4.0, 6.0, 30, 2.706, 0.0) / 2e9)
    assert found["flux_err"] > 0
    unseen = dict.fromkeys(strong)
    for nothing in (find_flux(unseen, 2e9), find_flux(strong, 0.0)):
        assert nothing == {"flux": None, "flux_err": None, "flux_ul": None}


def test_containment_of_a_gaussian():
    energy_true, rad = energy_axis(log_edges(0.5, 50.0, 4), "energy_true"), rad_axis(0.66, 660)
    coarse, rng = GEOM.coarse(0.5), np.random.default_rng(2)
    sigma = np.array([0.12, 0.08, 0.06, 0.05])
    density = np.exp(-0.5 * (rad.centers / sigma[:, None]) ** 2)[:, :, None, None] * np.ones(coarse.shape)
    density[:, :, 0] = 0.0
    exposure, edisp = 1e9 * rng.random((4, *coarse.shape)), rng.random((4, 2, *coarse.shape))
    maps = {
        "psf": Cube(density, "sr-1", coarse, (energy_true, rad)),
        "edisp": Cube(edisp, "", coarse, (energy_true, ENERGY)),
        "irf_exposure": Cube(exposure, "m2 s", coarse, (energy_true,)),
    }
    ix, iy = coarse.pixel_index(*TARGET)
    assert iy > 0
    edges = energy_true.edges_array
    photons = edges[:-1] ** -1.5 - edges[1:] ** -1.5
    found = find_containment(maps, photons, TARGET, RADIUS)
    weight = photons * exposure[:, iy, ix] * edisp[:, :, iy, ix].sum(axis=1)
    expected = weight @ (1 - np.exp(-0.5 * (RADIUS / sigma) ** 2)) / weight.sum()
    assert found == pytest.approx(expected, rel=2e-4)
    beside = coarse.center_deg[0], -20.6
    assert coarse.pixel_index(*beside)[1] == 0
    assert find_containment(maps, photons, beside, RADIUS) is None
