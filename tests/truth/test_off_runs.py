"""The 45 empty fields of the release: no source, so no significance but that of chance."""

import numpy as np
import pytest

from cubeflow.config import load_config
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.observation import Observation
from cubeflow.products.stack import stack
from cubeflow.steps.background import make_background
from cubeflow.steps.batch import run_stack
from cubeflow.steps.final import make_final
from cubeflow.steps.reduce import reduce_observation
from cubeflow.steps.specify import background_plains, reduce_setup

pytestmark = [pytest.mark.truth, pytest.mark.real_data]
RADIUS = 0.15
CONFIG = """
data: {{store: store}}
targets:
  field:
    position: {{lon: {ra} deg, lat: {dec} deg}}
    geometry: {{width: [4 deg, 4 deg], pixel: 0.05 deg}}
energy: {{min: 0.5 TeV, max: 20 TeV, bins: 8}}
energy_true: {{min: 0.3 TeV, max: 50 TeV, bins: 12}}
irf_grid: {{pixel: 0.5 deg, rad_bins: 20}}
significance: {{radius: {radius} deg}}
backgrounds:
  fov: {{method: fov}}
  ring: {{method: ring, r_in: 0.5 deg, width: 0.4 deg}}
"""


@pytest.fixture(scope="module")
def fields(hess_store, tmp_path_factory) -> list[tuple[Observation, object]]:
    """Observations without a target, each with the configuration of a map about its pointing."""
    folder, found = tmp_path_factory.mktemp("off"), []
    for entry in open_store(hess_store).runs:
        if entry.obs_info["TARGET_NAME"].strip() != "Off data":
            continue
        observation = read_observation(entry)
        position = {"ra": observation.pointing.ra_deg, "dec": observation.pointing.dec_deg}
        path = folder / f"{entry.obs_id}.yaml"
        path.write_text(CONFIG.format(**position, radius=RADIUS))
        found.append((observation, load_config(path).targets["field"]))
    return found


def disc_values(observation: Observation, target, label: str) -> np.ndarray:
    """Significances in discs that do not overlap."""
    setup = reduce_setup(target)
    reduced = reduce_observation(observation, setup)
    everywhere = np.ones(reduced.maps["counts"].geom.shape, bool)
    background = make_background(reduced, background_plains(target)[label], everywhere)
    assert background.failed is None
    export = {"significance": {"radius_deg": RADIUS}, "ra_deg": 0.0, "dec_deg": 0.0, "spectrum": setup.spectrum}
    keep = np.ones(setup.geometry.shape, bool)
    stacked = stack([run_stack(reduced, background)])
    final = make_final(stacked.layers, stacked, (setup.geometry, setup.irf_geometry), export, keep)
    image = final.significance.significance.data[0][3::7, 3::7]
    enough = final.significance.background.data[0][3::7, 3::7] > 5
    return image[np.isfinite(image) & enough]


def test_there_are_45_empty_fields(fields):
    assert len(fields) == 45


@pytest.mark.parametrize("label", ["fov", "ring"])
def test_empty_fields_are_empty(fields, label, record):
    values = np.concatenate([disc_values(observation, target, label) for observation, target in fields])
    record(f"empty.{label}.discs", len(values), "", f"empty fields, {label}: discs that do not overlap")
    record(f"empty.{label}.mean", values.mean(), "sigma", f"empty fields, {label}: mean of their significances")
    record(f"empty.{label}.width", values.std(), "sigma", f"empty fields, {label}: width of their significances")
    assert len(values) > 2000
    # At 5 to 60 counts in a disc the Poisson distribution is skew: its mean significance is about -0.04.
    assert abs(values.mean() + 0.04) < 0.08
    assert abs(values.std() - 1.0) < 0.08
