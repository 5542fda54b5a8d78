"""Simulated empty skies: their significance is standard normal, whatever the method.

The background varies by a factor of four over the map and the template is off by 20 %. Some 100 counts are expected
in a disc: for Poisson numbers the signed root of the likelihood ratio then has the mean -1 / (6 sqrt(100)) = -0.017
rather than 0, well within what is asked. The norm is found from the pixels that are tested, which narrows the
distribution by half the share of a disc in the map, 0.2 %.
"""

import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.fov_background import FovOptions, make_map_fov_background
from cubeflow.products.ring_background import (
    AdaptiveRingOptions,
    RingOptions,
    make_map_adaptive_ring_background,
    make_map_ring_background,
)
from cubeflow.products.significance import make_map_significance_cash, make_map_significance_li_ma

N_SKIES = 200
ENERGY = energy_axis([1.0, 3.0, 10.0, 30.0])
NX, NY = 64, 56
GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (NX * 0.05, NY * 0.05), 0.05)
Y, X = np.mgrid[:NY, :NX]
RADIUS_DEG = 0.1
SHAPE = np.exp(-0.5 * (((X - 34) / 24.0) ** 2 + ((Y - 26) / 21.0) ** 2))
# Its shape changes with energy, as that of real fields does.
ACCEPTANCE = np.stack([8.0 * SHAPE, 1.5 * SHAPE**0.7, 0.3 * SHAPE**0.4])
SAFE = np.broadcast_to(np.hypot(X - 34, Y - 26) < 27, ACCEPTANCE.shape)
SOURCE = 40.0 * np.exp(-0.5 * (np.hypot(X - 40, Y - 30) / 1.5) ** 2)
EXCLUDED = np.hypot(X - 40, Y - 30) < 6.5


def cube(data):
    return Cube(data, "", GEOM, (ENERGY,))


def fov(counts):
    made = make_map_fov_background(cube(ACCEPTANCE), counts, EXCLUDED, FovOptions(energy_groups=3), SAFE)
    return make_map_significance_cash(counts, made.background, SAFE, RADIUS_DEG)


def fov_tilt(counts):
    made = make_map_fov_background(cube(ACCEPTANCE), counts, EXCLUDED, FovOptions(fit="tilt"), SAFE)
    return make_map_significance_cash(counts, made.background, SAFE, RADIUS_DEG)


def li_ma(counts, ring):
    return make_map_significance_li_ma(counts, cube(ACCEPTANCE), ring.counts_off, ring.alpha, ring.mask, RADIUS_DEG)


def ring(counts):
    return li_ma(counts, make_map_ring_background(cube(ACCEPTANCE), counts, EXCLUDED, RingOptions(0.4, 0.2), SAFE))


def ring_per_energy(counts):
    return li_ma(
        counts, make_map_ring_background(cube(ACCEPTANCE), counts, EXCLUDED, RingOptions(0.4, 0.2, True), SAFE)
    )


def adaptive_ring(counts):
    options = AdaptiveRingOptions(0.3, 0.2, 1.2, 0.1, RADIUS_DEG, threshold=0.08)
    made = make_map_adaptive_ring_background(cube(ACCEPTANCE), counts, EXCLUDED, options, SAFE)
    return li_ma(counts, made)


@pytest.mark.slow
@pytest.mark.parametrize("method", [fov, fov_tilt, ring, ring_per_energy, adaptive_ring])
def test_empty_sky_is_standard_normal(method):
    rng = np.random.default_rng(20240607)
    values, excess = [], []
    for _ in range(N_SKIES):
        # The true background is 20 % above the template; a source shines in the exclusion region.
        sky = rng.poisson(1.2 * ACCEPTANCE) + rng.poisson(SOURCE * np.array([0.7, 0.2, 0.1])[:, None, None])
        maps = method(cube(sky * SAFE))
        empty = maps.significance.data[0][SAFE[0] & ~EXCLUDED]
        values.append(empty[np.isfinite(empty)])
        excess.append(maps.excess.data[0, 30, 40])
    pulls = np.concatenate(values)
    assert pulls.size > 0.9 * N_SKIES * np.count_nonzero(SAFE[0] & ~EXCLUDED)
    assert abs(pulls.mean()) < 0.05
    assert abs(pulls.std() - 1) < 0.03
    # The source in the disc about its pixel comes out without bias.
    disc = np.hypot(X - 40, Y - 30) <= 2
    error = np.std(excess) / np.sqrt(N_SKIES)
    assert abs(np.mean(excess) - SOURCE[disc].sum()) < 3 * error
