"""What the configuration says reaches the maps of a run."""

import numpy as np
import pytest

from cubeflow.config import parse_config
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.dl3.simulate import simulate_store
from cubeflow.dl3.simulate_plan import SimulationOptions
from cubeflow.observation import RunRefused
from cubeflow.steps.reduce import reduce_observation
from cubeflow.steps.specify import reduce_setup

CONFIG = """
data: {store: store}
targets:
  sky:
    position: {lon: 83.633 deg, lat: 22.014 deg}
    geometry: {width: [4 deg, 3 deg], pixel: 0.1 deg}
energy: {min: 1 TeV, max: 20 TeV, bins: 3}
energy_true: {min: 0.5 TeV, max: 40 TeV, bins: 7}
irf_grid: {pixel: 0.4 deg, rad_bins: 20}
acceptance: {interpolation: HOW}
"""


@pytest.fixture(scope="module")
def observation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    simulate_store(folder, SimulationOptions(n_runs=1, duration_s=300.0, tiny=True))
    return read_observation(open_store(folder).runs[0])


def reduced(observation, how):
    setup = reduce_setup(parse_config(CONFIG.replace("HOW", how)).targets["sky"])
    return reduce_observation(observation, setup).maps


def test_the_rate_is_interpolated_as_configured(observation):
    log, linear = (reduced(observation, how) for how in ("log", "linear"))
    for name in log:
        is_same = np.array_equal(log[name].data, linear[name].data, equal_nan=True)
        assert is_same is (name != "acceptance"), name
    used = log["mask_safe"].data & (log["acceptance"].data > 0)
    # Of a smooth field the arithmetic mean of neighbours is a little more than the geometric one.
    ratio = linear["acceptance"].data[used].sum() / log["acceptance"].data[used].sum()
    assert 1.0 < ratio < 1.05


@pytest.mark.parametrize(("cutoff", "energy"), [("0.01 TeV", r"2\.71 to 7\.37 TeV"), ("0.05 TeV", r"7\.37 to 20 TeV")])
def test_a_spectrum_without_flux_at_an_energy_is_refused(observation, cutoff, energy):
    """Below what a number can hold, the exposure for such a spectrum is no number: 0 / 0, or beyond float32."""
    spectrum = f"spectrum: {{type: exp-cutoff, index: 2, cutoff: {cutoff}}}\n"
    setup = reduce_setup(parse_config(CONFIG.replace("HOW", "log") + spectrum).targets["sky"])
    with pytest.raises(RunRefused, match=rf"^run 100001: spectrum: .*'exp-cutoff'.* at {energy}, expected .*$"):
        reduce_observation(observation, setup)
