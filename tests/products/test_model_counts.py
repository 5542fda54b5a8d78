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
def observation(tmp_path_factory):
    return next(simulated_runs(tmp_path_factory.mktemp("one"), seed=3, n_runs=1, tiny=True))


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


def beyond(run, away_deg, sigma_deg):
    """Source east of a pointing, as far away as wanted."""
    _, east, _ = basis = sphere.local_basis(run.pointing.ra_deg, run.pointing.dec_deg)
    angle = np.deg2rad(away_deg)
    lon, lat = sphere.lon_lat(np.cos(angle) * basis[0] + np.sin(angle) * east)
    position = Position(frame="icrs", lon_deg=float(lon), lat_deg=float(lat))
    return Source(position=position, sigma_deg=sigma_deg, amplitude=3e-6, spectrum=PowerLaw(index=2.6))


@pytest.mark.parametrize(("away_deg", "pixel_deg"), [(1.05, 0.1), (1.3, 0.1), (1.7, 0.1), (2.6, 0.5)])
def test_a_source_whose_centre_lies_beyond_the_largest_offset_reaches_into_the_field(observation, away_deg, pixel_deg):
    """What it gives well inside is that with a field which holds all of it."""

    def made(offset_max_deg):
        how = reduce_options((5.0, 5.0), pixel_deg, (1.2, 20.0, 4), (0.5, 50.0, 24), offset_max_deg=offset_max_deg)
        run = reduce_observation(observation, how)
        source = beyond(run, away_deg, 0.4 if away_deg < 2 else 0.7)
        model = make_model_counts(run.maps, [source])
        offset = model.geom.offset_deg(run.pointing.ra_deg, run.pointing.dec_deg)
        return model.data[:, offset < 0.6].sum(axis=1)

    field, wide = made(1.0), made(2.4)
    assert wide.min() > 0
    # PSF and dispersion are those at another offset.
    np.testing.assert_allclose(field, wide, rtol=0.06)


def test_nothing_comes_from_farther_than_five_widths(observation):
    how = reduce_options((5.0, 5.0), 0.1, (1.2, 20.0, 4), (0.5, 50.0, 24), offset_max_deg=1.0)
    run = reduce_observation(observation, how)
    assert not make_model_counts(run.maps, [beyond(run, 1.9, 0.1)]).data.any()
    assert make_model_counts(run.maps, [beyond(run, 1.4, 0.1)]).data.any()


def test_a_source_that_the_run_does_not_see_adds_nothing(runs):
    far = Source(position=Position(frame="icrs", lon_deg=200.0, lat_deg=-10.0), amplitude=1.0)
    one, both = (make_model_counts(runs[0].maps, sources).data for sources in ([SOURCE], [far, SOURCE]))
    np.testing.assert_array_equal(one, both)
    assert make_model_counts(runs[0].maps, []) is None


def test_a_run_without_a_response_is_left_out(runs):
    maps = {name: cube for name, cube in runs[0].maps.items() if name != "psf"}
    with pytest.raises(ValueError, match="sky_model: the run has no psf"):
        make_model_counts(maps, [SOURCE])
