"""What the configuration says reaches the maps of a run."""

import numpy as np
import pytest

from cubeflow.observation import RunRefused
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.spectrum import ExponentialCutoff

from .conftest import reduce_options, simulated_runs


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    return next(simulated_runs(tmp_path_factory.mktemp("store"), n_runs=1, duration_s=300.0, tiny=True))


def options(**changes):
    return reduce_options((4.0, 3.0), 0.1, (1.0, 20.0, 3), (0.5, 40.0, 7), 0.4, 20, **changes)


def reduced(observation, how):
    return reduce_observation(observation, options(acceptance=AcceptanceOptions(how))).maps


def test_the_rate_is_interpolated_as_configured(observation):
    log, linear = (reduced(observation, how) for how in ("log", "linear"))
    for name in log:
        is_same = np.array_equal(log[name].data, linear[name].data, equal_nan=True)
        assert is_same is (name != "acceptance"), name
    used = log["mask_safe"].data & (log["acceptance"].data > 0)
    # Of a smooth field the arithmetic mean of neighbours is a little more than the geometric one.
    ratio = linear["acceptance"].data[used].sum() / log["acceptance"].data[used].sum()
    assert 1.0 < ratio < 1.05


@pytest.mark.parametrize(("cutoff_tev", "energy"), [(0.01, r"2\.71 to 7\.37 TeV"), (0.05, r"7\.37 to 20 TeV")])
def test_a_spectrum_without_flux_at_an_energy_is_refused(observation, cutoff_tev, energy):
    """Below what a number can hold, the exposure for such a spectrum is no number: 0 / 0, or beyond float32."""
    spectrum = ExponentialCutoff(index=2.0, cutoff_tev=cutoff_tev)
    with pytest.raises(RunRefused, match=rf"^run 100001: spectrum: .*'exp-cutoff'.* at {energy}, expected .*$"):
        reduce_observation(observation, options(spectrum=spectrum))


def test_the_safe_mask_is_that_of_the_options(observation):
    made = reduce_observation(observation, options(safe_mask=SafeMaskOptions(("offset-max",)), offset_max_deg=1.3))
    mask, pointing = made.maps["mask_safe"], observation.pointing
    near = mask.geom.offset_deg(pointing.ra_deg, pointing.dec_deg) < 1.3
    np.testing.assert_array_equal(mask.data, np.broadcast_to(near, mask.data.shape))
    at_target = SafeMaskOptions(("aeff-max",), aeff_percent=60.0, position="target")
    row = reduce_observation(observation, options(safe_mask=at_target)).maps["mask_safe"].data
    assert (row.reshape(3, -1).all(axis=1) == row.reshape(3, -1).any(axis=1)).all()


def test_the_row_counts_what_the_maps_hold(observation):
    some = SafeMaskOptions(("offset-max", "aeff-max"), aeff_percent=60.0)
    made = reduce_observation(observation, options(safe_mask=some))
    counts, safe = made.maps["counts"].data, made.maps["mask_safe"].data
    assert made.row["counts"] == counts.sum() > made.row["counts_safe"] == counts[safe].sum()
    assert made.row["n_events"] == len(observation.events)
    assert (made.pointing.ra_deg, made.pointing.dec_deg) == (observation.pointing.ra_deg, observation.pointing.dec_deg)
    assert made.livetime_s == observation.livetime_s == made.row["livetime_s"]
    first = np.flatnonzero(safe.any(axis=(1, 2)))[0]
    assert made.row["energy_threshold_tev"] == made.maps["counts"].axes[0].edges[first]
    assert all(cube.data.dtype in (np.float32, np.int64, bool) for cube in made.maps.values())
