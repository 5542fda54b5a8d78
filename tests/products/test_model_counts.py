"""A sky model instead of an exclusion: the norms of the simulated runs come out the same."""

import numpy as np
import pytest

from cubeflow.maps import Position, sphere
from cubeflow.products.background import make_background
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.sky_model import Source, make_model_counts
from cubeflow.products.spectrum import PowerLaw

from .conftest import TARGET_DEG, reduce_options, simulated_runs

SOURCE = Source(
    position=Position(frame="icrs", lon_deg=TARGET_DEG[0], lat_deg=TARGET_DEG[1]),
    amplitude=3.45e-7,
    spectrum=PowerLaw(index=2.6),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Reduced maps of simulated runs on a source."""
    options = reduce_options((5.0, 5.0), 0.05, (1.2, 20.0, 4), (0.5, 50.0, 24))
    folder = tmp_path_factory.mktemp("store")
    return [
        reduce_observation(run, options)
        for run in simulated_runs(folder, seed=3, n_runs=3, sources=((*TARGET_DEG, 1.0),))
    ]


def test_predicted_counts_are_those_of_the_source(runs):
    predicted = excess = 0.0
    variance = 0.0
    for run in runs:
        model = make_model_counts(run.maps, [SOURCE])
        near = sphere.separation_deg(run.maps["counts"].geom.center_vectors, sphere.unit_vectors(*TARGET_DEG)) < 0.3
        mask = run.maps["mask_safe"].data & near
        counts, acceptance = (run.maps[name].data[mask].sum(dtype=float) for name in ("counts", "acceptance"))
        predicted += model.data[mask].sum()
        excess += counts - acceptance
        variance += counts
    assert predicted > 100
    assert abs(predicted - excess) < 3 * np.sqrt(variance)


def test_norm_beside_the_model_is_that_outside_an_exclusion(runs):
    for run in runs:
        geom = run.maps["counts"].geom
        nowhere, near = np.zeros(geom.shape, bool), geom.offset_deg(*TARGET_DEG) <= 0.4

        def norm(options, exclusion, run=run):
            row = make_background(run, options, exclusion, TARGET_DEG, 0.1).row
            return row["norm"][0], row["norm_err"][0]

        with_model, _ = norm(FovOptions(sky_model=(SOURCE,)), nowhere)
        with_exclusion, error = norm(FovOptions(), near)
        neither, _ = norm(FovOptions(), nowhere)
        assert with_model == pytest.approx(with_exclusion, abs=error)
        assert neither > with_exclusion + error


def test_a_source_that_the_run_does_not_see_adds_nothing(runs):
    far = Source(position=Position(frame="icrs", lon_deg=200.0, lat_deg=-10.0), amplitude=1.0)
    one, both = (make_model_counts(runs[0].maps, sources).data for sources in ([SOURCE], [far, SOURCE]))
    np.testing.assert_array_equal(one, both)
    assert make_model_counts(runs[0].maps, []) is None


def test_a_run_without_a_response_is_left_out(runs):
    maps = {name: cube for name, cube in runs[0].maps.items() if name != "psf"}
    with pytest.raises(ValueError, match="sky_model: the run has no psf"):
        make_model_counts(maps, [SOURCE])
