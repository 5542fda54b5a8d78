"""What one run finds at the target, against plain sums and the events themselves."""

import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.cash import make_significance_li_ma
from cubeflow.products.significance import find_at_target

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
    return counts, background, used


def loop(cube: Cube, used: np.ndarray) -> float:
    """Sum over the disc, pixel by pixel."""
    offset = GEOM.offset_deg(*TARGET)
    return sum(float(cube.data[k]) for k in np.ndindex(cube.data.shape) if used[k] and offset[k[1:]] <= RADIUS)


def test_counts_and_background_in_the_disc(maps):
    counts, background, used = maps
    iy, ix = GEOM.pixel_index(*TARGET)[::-1]
    used[:, iy, ix] = True
    found = find_at_target(counts, {"background": background}, used, TARGET, RADIUS)
    assert found["on"] == loop(counts, used)
    assert found["background"] == pytest.approx(loop(background, used), rel=1e-6)
    assert found["excess"] == pytest.approx(found["on"] - found["background"])
    n, mu = found["on"], found["background"]
    assert found["significance"] == pytest.approx(np.sqrt(2 * (n * np.log(n / mu) - n + mu)))


def test_off_is_that_of_the_ring_at_the_target(maps):
    counts, background, used = maps
    ix, iy = GEOM.pixel_index(*TARGET)
    used[:, iy, ix] = True
    whole = energy_axis([1.0, 10.0])
    off = Cube(np.arange(GEOM.nx * GEOM.ny).reshape(1, *GEOM.shape), "", GEOM, (whole,))
    found = find_at_target(counts, {"background": background, "counts_off": off}, used, TARGET, RADIUS)
    assert found["off"] == iy * GEOM.nx + ix
    assert found["alpha"] * found["off"] == pytest.approx(found["background"])
    assert found["significance"] == pytest.approx(make_significance_li_ma(found["on"], found["off"], found["alpha"]))


def test_no_answer_where_the_target_is_not_seen(maps):
    counts, background, used = maps
    assert set(find_at_target(counts, {"background": background}, used, (60.0, -20.13), RADIUS).values()) == {None}
    nowhere = np.zeros_like(used)
    assert set(find_at_target(counts, {"background": background}, nowhere, TARGET, RADIUS).values()) == {None}
