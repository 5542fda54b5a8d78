"""Statistics of many simulated runs through the whole chain: no bias, and errors that are what they say."""

import numpy as np
import pytest

from cubeflow.maps import Position, sphere
from cubeflow.products.background import make_background, run_part
from cubeflow.products.final import make_final
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.ring_background import AdaptiveRingOptions, RingOptions
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.sky_model import Source, make_model_counts
from cubeflow.products.spectrum import PowerLaw
from cubeflow.products.stack import stack

from .conftest import TARGET_DEG, reduce_options, simulated_runs

pytestmark = pytest.mark.slow
RADIUS = 0.3
N_RUNS = 200
SOURCE = Source(
    position=Position(frame="icrs", lon_deg=TARGET_DEG[0], lat_deg=TARGET_DEG[1]),
    amplitude=3.45e-7,
    spectrum=PowerLaw(index=2.6),
)
BACKGROUNDS = {
    "fov": FovOptions(),
    "tilt": FovOptions(fit="tilt"),
    "ring": RingOptions(0.6, 0.5),
    "adaptive": AdaptiveRingOptions(0.5, 0.3, 1.4, 0.1, 0.3, threshold=0.3),
    "model": FovOptions(sky_model=(SOURCE,)),
}
OPTIONS = reduce_options((4.0, 3.6), 0.1, (1.2, 20.0, 3), (0.4, 50.0, 24), 0.5, 60)


def reduced_runs(folder, **options):
    """Reduced maps of many simulated runs, one at a time."""
    for run in simulated_runs(folder, n_runs=N_RUNS, tiny=True, **options):
        yield reduce_observation(run, OPTIONS)


def make_one(reduced, label):
    """Final maps of a single run, without exclusion."""
    nowhere = np.zeros(reduced.maps["counts"].geom.shape, bool)
    background = make_background(reduced, BACKGROUNDS[label], nowhere, TARGET_DEG, RADIUS)
    assert background.failed is None
    stacked = stack([run_part(reduced, background)])
    geoms, disc = (OPTIONS.geometry, OPTIONS.irf_geometry), SignificanceOptions((RADIUS,))
    excluded = np.zeros(OPTIONS.geometry.shape, bool)
    return make_final(stacked, *geoms, disc, TARGET_DEG, OPTIONS.spectrum, excluded)


def test_empty_sky_is_standard_normal(tmp_path):
    found: dict[str, list[float]] = {"fov": [], "tilt": [], "ring": [], "adaptive": []}
    for reduced in reduced_runs(tmp_path, seed=11, sources=(), background_scale=8.0):
        for label, values in found.items():
            image = make_one(reduced, label).significance.significance.data[0]
            # Discs that do not overlap are independent.
            values += image[3::7, 3::7][np.isfinite(image[3::7, 3::7])].tolist()
    for label, values in found.items():
        assert len(values) > 3000, label
        assert abs(np.mean(values)) < 0.05, label
        assert abs(np.std(values) - 1.0) < 0.03, label


def test_an_injected_source_is_recovered(tmp_path):
    found: dict[str, list[tuple[float, float, float]]] = {
        "model": [],
        "fov": [],
        "tilt": [],
        "ring": [],
        "adaptive": [],
    }
    for reduced in reduced_runs(tmp_path, seed=12, sources=((*TARGET_DEG, 1.0),)):
        geom = reduced.maps["counts"].geom
        near = sphere.separation_deg(geom.center_vectors, sphere.unit_vectors(*TARGET_DEG)) < RADIUS
        inside = reduced.maps["mask_safe"].data & near
        counts = reduced.maps["counts"].data[inside].sum()
        predicted = make_model_counts(reduced.maps, [SOURCE]).data[inside].sum()
        for label, values in found.items():
            # The model is subtracted; the others leave out the source.
            excluded = np.zeros(geom.shape, bool) if label == "model" else geom.offset_deg(*TARGET_DEG) <= 0.45
            made = make_background(reduced, BACKGROUNDS[label], excluded, TARGET_DEG, RADIUS)
            assert np.broadcast_to(made.usable, inside.shape)[inside].all(), label
            maps = made.maps
            background = maps["background"].data[inside].sum(dtype=float)
            # A ring of n OFF counts predicts its background to background / sqrt(n).
            off = maps["counts_off"].data[0][near].mean() if "counts_off" in maps else np.inf
            values.append((counts - background, predicted, counts + background**2 / off))
    for label, values in found.items():
        excess, expected, variance = np.array(values).T
        assert len(excess) == N_RUNS, label
        pull = (excess - expected) / np.sqrt(variance)
        assert abs(np.mean(pull)) < 3.5 / np.sqrt(N_RUNS), label
        assert np.std(pull) == pytest.approx(1.0, abs=0.18), label
        flux_ratio, error = np.sum(excess) / np.sum(expected), np.sqrt(np.sum(variance)) / np.sum(expected)
        assert error < 0.02, label
        assert abs(flux_ratio - 1.0) < 3.5 * error, label
