"""Backgrounds of a run by their options: maps, rows, policy, and what the run gives to a stack."""

from dataclasses import replace

import numpy as np
import pytest

from cubeflow.maps import sphere
from cubeflow.products.background import NoBackground, make_background, run_part
from cubeflow.products.final import make_final
from cubeflow.products.fov_background import FovOptions, make_map_fov_background
from cubeflow.products.pieces import cut_pieces
from cubeflow.products.profiles import make_profiles
from cubeflow.products.reduced import Reduced, reduce_observation
from cubeflow.products.ring_background import (
    AdaptiveRingOptions,
    RingOptions,
    make_map_adaptive_ring_background,
    make_map_ring_background,
)
from cubeflow.products.significance import SignificanceOptions, find_at_target
from cubeflow.products.stack import stack

from .conftest import TARGET_DEG, reduce_options, simulated_runs

OPTIONS = reduce_options((3.0, 2.6), 0.1, (1.0, 20.0, 3), (0.5, 40.0, 7), 0.4, 20)
RING, ADAPTIVE = RingOptions(0.5, 0.3), AdaptiveRingOptions(0.4, 0.3, 1.2, 0.1, 0.2, threshold=0.3)


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    return next(simulated_runs(tmp_path_factory.mktemp("store"), n_runs=1, tiny=True, sources=((*TARGET_DEG, 1.0),)))


@pytest.fixture(scope="module")
def reduced(observation) -> Reduced:
    return reduce_observation(observation, OPTIONS)


@pytest.fixture(scope="module")
def exclusion(reduced):
    return reduced.maps["counts"].geom.offset_deg(*TARGET_DEG) < 0.35


def make(reduced, options, exclusion):
    return make_background(reduced, options, exclusion, TARGET_DEG, 0.2)


def test_fov_is_the_normalised_acceptance(reduced, exclusion):
    made = make(reduced, FovOptions(energy_groups=3, min_counts=1), exclusion)
    acceptance, counts, safe = (reduced.maps[name] for name in ("acceptance", "counts", "mask_safe"))
    options = FovOptions(energy_groups=3, min_counts=1)
    expected = make_map_fov_background(acceptance, counts, exclusion, options, safe.data)
    assert made.failed is None
    assert made.row["norm"] == expected.norms.norm.tolist()
    assert made.row["counts"] == expected.norms.counts.tolist()
    np.testing.assert_array_equal(made.usable, expected.mask)
    np.testing.assert_array_equal(made.maps["background"].data, np.where(expected.mask, expected.background.data, 0))
    assert made.row["note"] == ""


@pytest.mark.parametrize(
    ("options", "make_map"), [(RING, make_map_ring_background), (ADAPTIVE, make_map_adaptive_ring_background)]
)
def test_rings_are_zero_where_there_is_no_off(reduced, exclusion, options, make_map):
    made = make(reduced, options, exclusion)
    acceptance, counts, safe = (reduced.maps[name] for name in ("acceptance", "counts", "mask_safe"))
    expected = make_map(replace_data(acceptance, acceptance.data.astype(float)), counts, exclusion, options, safe.data)
    np.testing.assert_array_equal(made.maps["counts_off"].data, expected.counts_off.data)
    np.testing.assert_array_equal(made.usable, expected.mask)
    np.testing.assert_array_equal(
        made.maps["background"].data, np.where(expected.mask, expected.background.data, 0).astype("f4")
    )
    assert made.maps["acceptance_off"].data.dtype == np.float32


@pytest.mark.parametrize(("threshold", "told"), [(0.9, False), (0.08, True)])
def test_too_small_rings_are_told(reduced, exclusion, threshold, told):
    options = replace(ADAPTIVE, threshold=threshold)
    made = make(reduced, options, exclusion)
    maps, safe = reduced.maps, reduced.maps["mask_safe"].data
    acceptance = replace_data(maps["acceptance"], maps["acceptance"].data.astype(float))
    expected = make_map_adaptive_ring_background(acceptance, maps["counts"], exclusion, options, safe)
    n_small = sum((expected.too_small & safe).any(0).ravel().tolist())
    assert made.row["ring_too_small"] == n_small / safe.any(0).sum()
    assert (made.row["ring_too_small"] > 0.02) == told
    assert made.row["note"].startswith("no ring reaches threshold 0.08 in ") == told
    assert bool(made.row["note"]) == told


def replace_data(cube, data):
    return replace(cube, data=data)


def test_row_and_profiles_are_of_the_bins_that_are_used(reduced, exclusion):
    made = make(reduced, RING, exclusion)
    counts, used = reduced.maps["counts"], made.usable
    found = find_at_target({"counts": counts, **made.maps}, used, TARGET_DEG, 0.2)
    assert {name: made.row[name] for name in found} == found
    assert found["significance"] > 3
    pointing = sphere.unit_vectors(reduced.pointing.ra_deg, reduced.pointing.dec_deg)
    assert made.row["offset_deg"] == sphere.separation_deg(pointing, sphere.unit_vectors(*TARGET_DEG))
    expected = make_profiles(counts, made.maps["background"], used & ~exclusion, reduced.pointing)
    np.testing.assert_array_equal(made.profiles.counts, expected.counts)


def test_a_norm_that_fails_is_dropped_or_kept(reduced, exclusion):
    groups = FovOptions(energy_groups=3, min_counts=1)
    low, high = sorted(make(reduced, groups, exclusion).row["norm"])[::2]
    narrow = replace(groups, norm_max=0.5 * (low + high))
    dropped = make(reduced, narrow, exclusion)
    assert dropped.failed.startswith("background not normalised: norm ")
    assert not dropped.maps
    assert not dropped.usable.any()
    assert max(dropped.row["norm"]) == high
    kept = make(reduced, replace(narrow, on_failure="keep"), exclusion)
    assert kept.failed is None
    assert kept.row["note"] in dropped.failed
    assert 0 < kept.usable.any(axis=(1, 2)).sum() < 3
    assert not kept.maps["background"].data[~kept.usable].any()


def test_everything_excluded_has_no_background(reduced):
    everywhere = np.ones(reduced.maps["counts"].geom.shape, bool)
    assert "no acceptance in safe pixels" in make(reduced, FovOptions(), everywhere).failed
    assert make(reduced, RING, everywhere).failed == "no pixel has any OFF acceptance: is the ring too large?"
    assert make(reduced, FovOptions(), everywhere).row["norm"] == [None]


def test_no_background_wanted(reduced, exclusion):
    made = make(reduced, NoBackground(), exclusion)
    assert (made.maps, made.row, made.failed, made.profiles) == ({}, {}, None, None)
    layers = run_part(reduced, made).maps
    assert {"counts", "exposure", "exposure_reco", "mask_safe", "irf_edisp"} <= set(layers)
    assert not {"acceptance", "background", "irf_psf"} & set(layers)


def test_point_like_data_have_counts_and_exposure_only(observation):
    bare = replace(observation, background=None, psf=None, point_like=True)
    reduced = reduce_observation(bare, OPTIONS)
    assert not {"acceptance", "psf"} & set(reduced.maps)
    nowhere = np.zeros(reduced.maps["counts"].geom.shape, bool)
    assert "no background response" in make(reduced, FovOptions(), nowhere).failed
    assert "method: none" in make(reduced, RING, nowhere).failed
    total = stack([run_part(reduced, make(reduced, NoBackground(), nowhere))])
    geoms, disc = (OPTIONS.geometry, OPTIONS.irf_geometry), SignificanceOptions((0.1,))
    excluded = np.zeros(OPTIONS.geometry.shape, bool)
    final = make_final(total, *geoms, disc, TARGET_DEG, OPTIONS.spectrum, excluded)
    assert final.maps["exposure"].data.max() > 0
    assert np.isnan(final.significance.significance.data).all()


@pytest.mark.parametrize(("split", "n_pieces"), [("gti", 1), ("night", 1), (600.0, 3)])
def test_pieces_add_up_to_the_run(observation, reduced, split, n_pieces):
    pieces = cut_pieces(observation, split)
    assert len(pieces) == n_pieces
    nowhere = np.zeros(reduced.maps["counts"].geom.shape, bool)
    parts = [reduce_observation(piece, OPTIONS) for piece in pieces]
    total = stack([run_part(part, make(part, RING, nowhere)) for part in parts])
    whole = stack([run_part(reduced, make(reduced, RING, nowhere))])
    np.testing.assert_array_equal(total.layers["counts"].data, whole.layers["counts"].data)
    for name in ("exposure", "acceptance"):
        np.testing.assert_allclose(total.layers[name].data, whole.layers[name].data, rtol=1e-5)
    assert total.livetime_s == pytest.approx(whole.livetime_s)
    assert sum(part.row["ontime_s"] for part in parts) == pytest.approx(reduced.row["ontime_s"])
