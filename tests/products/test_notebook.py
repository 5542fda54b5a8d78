"""The page on notebooks: its code runs on a simulated store, and its maps are those of the workflow's functions."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cubeflow
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.spectrum import PowerLaw

from .conftest import TARGET_DEG, reduce_options, simulated_runs

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the first block makes, and its run."""
    pytest.importorskip("matplotlib").use("agg")
    folder = tmp_path_factory.mktemp("notebook")
    run = next(simulated_runs(folder / "results" / "demo-dl3", n_runs=1, sources=((*TARGET_DEG, 1.0),)))
    made: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        blocks = BLOCK.findall(PAGE.read_text())
        for code in blocks:
            exec(compile(code, str(PAGE), "exec"), made)
    assert len(blocks) == 2
    assert (folder / "significance.fits.gz").stat().st_size > 1000
    return made, run


def test_maps_are_those_of_a_reduced_run(found):
    made, run = found
    options = reduce_options((5.0, 4.0), 0.05, (1.0, 20.0, 5), (0.5, 40.0, 19), spectrum=PowerLaw(index=2.6))
    options = replace(options, safe_mask=SafeMaskOptions(), irf_geometry=options.geometry.coarse(0.5))
    maps = reduce_observation(run, options).maps
    for name in ("counts", "exposure", "exposure_reco", "acceptance"):
        assert made[name].geom == maps[name].geom
        np.testing.assert_allclose(made[name].data, maps[name].data, rtol=1e-6)
    np.testing.assert_array_equal(made["safe"], maps["mask_safe"].data)
    np.testing.assert_allclose(made["kernel"].data.sum(axis=(1, 2))[:15], 1.0)


def test_the_source_is_found(found):
    made, _ = found
    assert made["fov"].norms.failed is None
    assert made["ring"].mask.any()
    assert made["maps"].significance.at(made["target"])[0] > 5


def test_every_name_of_the_front_door_is_there():
    for name in cubeflow.__all__:
        assert getattr(cubeflow, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        cubeflow.nothing()
