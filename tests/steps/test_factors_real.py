"""The factored form of real runs: the same maps to the bit, in at most half a megabyte."""

from __future__ import annotations

import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.steps.expand import factored_reduced, reduced_of
from cubeflow.steps.reduce import reduce_observation
from cubeflow.steps.setup import ReduceSetup
from cubeflow.storage.artifact import Artifact, read_artifact, write_artifact

LARGEST_BYTES = 5e5


def read_run(store, roots, obs_id):
    return read_observation(next(entry for entry in open_store(store, roots).runs if entry.obs_id == obs_id))


def setup_at(pointing, methods):
    """Map of 5 x 5 deg beside a pointing, on the axes of the benchmark."""
    geom = make_geometry("icrs", "TAN", pointing.ra_deg + 0.4, pointing.dec_deg - 0.3, (5.0, 5.0), 0.02)
    return ReduceSetup(
        geometry=geom,
        irf_geometry=geom.coarse(0.2),
        energy=energy_axis(log_edges(0.5, 50.0, 17)),
        energy_true=energy_axis(log_edges(0.3, 80.0, 24), "energy_true"),
        rad=rad_axis(0.66, 66),
        offset_max_deg=2.5,
        interpolation="log",
        gti_filter=True,
        trim=True,
        duplicates="refuse",
        time_mjd=None,
        split=None,
        safe_mask={"methods": methods, "aeff_percent": 10.0, "bias_percent": 10.0},
        spectrum={"type": "power-law", "index": 2.0},
    )


def check_run(run, methods, path) -> int:
    """Compare the maps with those of the factored form; give the size of the file."""
    setup = setup_at(run.pointing, methods)
    made = reduce_observation(run, setup)
    datasets, attributes = factored_reduced(made, setup)
    write_artifact(path, Artifact("reduced", "ab" * 32, 1, datasets, attributes, {"config": setup.to_plain()}))
    again = reduced_of(path, read_artifact(path), setup)
    assert len(made.maps) == 8
    assert {name: cube.data.tobytes() for name, cube in made.maps.items()} == {
        name: cube.data.tobytes() for name, cube in again.maps.items()
    }
    return path.stat().st_size


@pytest.mark.parametrize("obs_id", [23523, 20136, 33801])
def test_hess(hess_store, tmp_path, obs_id):
    run = read_run(hess_store, [], obs_id)
    assert check_run(run, ["offset-max", "aeff-default"], tmp_path / "reduced.h5") < LARGEST_BYTES


def test_hess_with_masks_from_the_responses(hess_store, tmp_path):
    run = read_run(hess_store, [], 23559)
    assert check_run(run, ["offset-max", "edisp-bias", "aeff-max"], tmp_path / "reduced.h5") < LARGEST_BYTES


def test_cta(cta_store, tmp_path):
    run = read_run(cta_store, [cta_store.parents[1]], 111140)
    assert check_run(run, ["offset-max"], tmp_path / "reduced.h5") < LARGEST_BYTES
