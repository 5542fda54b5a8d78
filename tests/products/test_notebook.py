"""The page on notebooks: its code runs on a simulated store, and its maps are those of the workflow's functions."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import cubeflow
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.spectrum import PowerLaw

from .conftest import TARGET_DEG, reduce_options, simulated_runs

PAGE = Path(__file__).parents[2] / "docs" / "notebook.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def with_events_outside(folder: Path):
    """Simulated run whose last good time interval ends early: events after it are no counts."""
    next(simulated_runs(folder, n_runs=1, sources=((*TARGET_DEG, 1.0),)))
    with fits.open(folder / "obs_100001.fits.gz", mode="update") as hdus:
        gti = hdus["GTI"]
        gti.data["STOP"][-1] -= 0.4 * (gti.data["STOP"][-1] - gti.data["START"][-1])
        del gti.header["CHECKSUM"], gti.header["DATASUM"]
    run = cubeflow.read_observation(cubeflow.open_store(folder).runs[0])
    assert run.repairs["events_outside_gti"] > 100
    return run


def test_the_api_example_counts_good_time_only(tmp_path, monkeypatch):
    run = with_events_outside(tmp_path / "results" / "demo-dl3")
    monkeypatch.chdir(tmp_path)
    (code,) = (block for block in BLOCK.findall(PAGE.with_name("api.md").read_text()) if "make_map_counts" in block)
    made: dict[str, object] = {}
    exec(compile(code, "api.md", "exec"), made)
    good = run.gti.contains(run.events.time_s) & (run.events.energy_tev >= 1) & (run.events.energy_tev < 10)
    ix, iy = made["geom"].pixel_index(run.events.ra_deg[good], run.events.dec_deg[good])
    near = made["geom"].offset_deg(run.pointing.ra_deg, run.pointing.dec_deg) < 2.0
    assert made["counts"].data.sum() == np.count_nonzero(near[iy, ix] & (ix >= 0))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the first block makes, and its run."""
    pytest.importorskip("matplotlib").use("agg")
    folder = tmp_path_factory.mktemp("notebook")
    run = with_events_outside(folder / "results" / "demo-dl3")
    made: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        blocks = BLOCK.findall(PAGE.read_text())
        for code in blocks:
            exec(compile(code, str(PAGE), "exec"), made)
    assert len(blocks) == 3
    assert (folder / "significance.fits.gz").stat().st_size > 1000
    assert (folder / "by-hand.png").stat().st_size > 5000
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
