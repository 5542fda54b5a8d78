"""The 45 empty fields of the release: no source, so no significance but that of chance."""

import numpy as np
import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.observation import Observation
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.background import BackgroundOptions, make_background, run_part
from cubeflow.products.final import make_final
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.reduced import ReduceOptions, reduce_observation
from cubeflow.products.ring_background import RingOptions
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.spectrum import PowerLaw
from cubeflow.products.stack import stack

pytestmark = [pytest.mark.truth, pytest.mark.real_data]
RADIUS = 0.15
BACKGROUNDS = {"fov": FovOptions(), "ring": RingOptions(0.5, 0.4)}


@pytest.fixture(scope="module")
def fields(hess_store) -> list[Observation]:
    """Observations without a target."""
    entries = [run for run in open_store(hess_store).runs if run.obs_info["TARGET_NAME"].strip() == "Off data"]
    return [read_observation(entry) for entry in entries]


def disc_values(observation: Observation, method: BackgroundOptions) -> np.ndarray:
    """Significances in discs that do not overlap, on a map about the pointing."""
    center = observation.pointing.ra_deg, observation.pointing.dec_deg
    geometry = make_geometry("icrs", "TAN", *center, (4.0, 4.0), 0.05)
    options = ReduceOptions(
        geometry=geometry,
        irf_geometry=geometry.coarse(0.5),
        energy=energy_axis(log_edges(0.5, 20.0, 8)),
        energy_true=energy_axis(log_edges(0.3, 50.0, 12), "energy_true"),
        rad=rad_axis(0.66, 20),
        offset_max_deg=2.0,
        gti_filter=True,
        duplicates="refuse",
        time_mjd=None,
        split_s=None,
        acceptance=AcceptanceOptions(),
        safe_mask=SafeMaskOptions(),
        spectrum=PowerLaw(),
    )
    reduced = reduce_observation(observation, options)
    nowhere = np.zeros(reduced.maps["counts"].geom.shape, bool)
    background = make_background(reduced, method, nowhere, center, RADIUS)
    assert background.failed is None
    stacked = stack([run_part(reduced, background)])
    excluded = np.zeros(geometry.shape, bool)
    final = make_final(
        stacked,
        geometry,
        options.irf_geometry,
        SignificanceOptions((RADIUS,)),
        center,
        options.spectrum,
        excluded,
    )
    image = final.significance.significance.data[0][3::7, 3::7]
    enough = final.significance.background.data[0][3::7, 3::7] > 5
    return image[np.isfinite(image) & enough]


def test_there_are_45_empty_fields(fields):
    assert len(fields) == 45


@pytest.mark.parametrize("label", ["fov", "ring"])
def test_empty_fields_are_empty(fields, label, record):
    values = np.concatenate([disc_values(observation, BACKGROUNDS[label]) for observation in fields])
    record(f"empty.{label}.discs", len(values), "", f"empty fields, {label}: discs that do not overlap")
    record(f"empty.{label}.mean", values.mean(), "sigma", f"empty fields, {label}: mean of their significances")
    record(f"empty.{label}.width", values.std(), "sigma", f"empty fields, {label}: width of their significances")
    assert len(values) > 2000
    # At 5 to 60 counts in a disc the Poisson distribution is skew: its mean significance is about -0.04.
    assert abs(values.mean() + 0.04) < 0.08
    assert abs(values.std() - 1.0) < 0.08
