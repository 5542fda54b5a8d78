"""Loaded artifacts against what was written into them, and what gammapy gets of them."""

import numpy as np
import pytest
from astropy import units

import cubeflow
from cubeflow.maps import Cube, energy_axis, make_geometry, rad_axis
from cubeflow.observation import TIME_REFERENCE_MJD
from cubeflow.store.artifact import Artifact, write_artifact

GEOM, IRF = (make_geometry("galactic", "CAR", 10.0, 1.0, (1.0, 0.6), pixel) for pixel in (0.1, 0.2))
ENERGY, TRUE = energy_axis([1.0, 2.0, 5.0]), energy_axis([0.5, 3.0, 10.0], "energy_true")
KEY = "ab" * 32


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(3)

    def cube(unit, *axes, geom=GEOM):
        return Cube(rng.random((*(axis.n_bins for axis in axes), *geom.shape)).astype("f4"), unit, geom, axes)

    maps = {
        "counts": Cube(rng.poisson(2.0, (2, *GEOM.shape)), "", GEOM, (ENERGY,)),
        "mask_safe": Cube(rng.random((2, *GEOM.shape)) < 0.5, "", GEOM, (ENERGY,)),
        "background": cube("", ENERGY),
        "exposure": cube("m2 s", TRUE),
        "psf": cube("sr-1", TRUE, rad_axis(0.6, 3), geom=IRF),
        "edisp": cube("", TRUE, ENERGY, geom=IRF),
        "irf_exposure": cube("m2 s", TRUE, geom=IRF),
    }
    about = {"target": "crab", "label": "fov", "livetime_s": 1512.5, "is_pointlike": True}
    gti_s = np.array([[10.0, 20.0], [40.0, 65.0]])
    write_artifact(tmp_path / "cube.h5", Artifact("cube", KEY, 1, {**maps, "gti_s": gti_s}, about, {"a": 1}))
    row = {"livetime_s": 321.25, "is_pointlike": True}
    write_artifact(tmp_path / "run.h5", Artifact("reduced", KEY, 1, maps, {"status": "ok", "row": row}, {}))
    write_artifact(tmp_path / "stack.h5", Artifact("stack", KEY, 1, maps, {"livetime_s": 99.5}, {}))
    only = {"background": maps["background"]}
    write_artifact(tmp_path / "background.h5", Artifact("background", KEY, 1, only, {"row": {"norm": [1.0]}}, {}))
    return tmp_path / "cube.h5"


def test_content_is_what_was_written(path):
    loaded = cubeflow.load(path)
    assert (loaded.kind, loaded.key, loaded.provenance) == ("cube", KEY, {"a": 1})
    assert loaded.attributes["livetime_s"] == 1512.5
    assert sorted(loaded.arrays) == ["gti_s"]
    assert loaded.maps["psf"].geom == IRF
    assert repr(loaded).startswith(f"<cube {KEY[:16]}: maps, arrays")
    assert "\n  counts: <Cube energy 2 x lat 6 x lon 10, " in repr(loaded)
    assert "\n  gti_s: array of shape (2, 2), float64" in repr(loaded)


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_a_cube_is_a_dataset_of_gammapy(path):
    pytest.importorskip("gammapy")
    loaded = cubeflow.load(path)
    dataset = loaded.to_gammapy()
    assert dataset.name == "crab-fov"
    np.testing.assert_array_equal(dataset.counts.data, loaded.maps["counts"].data)
    np.testing.assert_array_equal(dataset.psf.psf_map.data, loaded.maps["psf"].data)
    assert dataset.psf.exposure_map.data.shape == (2, 1, *IRF.shape)
    assert dataset.exposure.meta["livetime"] == 1512.5 * units.s
    assert dataset.exposure.meta["is_pointlike"] is True
    assert dataset.psf.exposure_map.meta == dataset.edisp.exposure_map.meta == dataset.exposure.meta
    assert dataset.info_dict()["livetime"] == 1512.5 * units.s
    assert dataset.gti.time_sum.to_value("s") == pytest.approx(35.0)
    assert dataset.gti.time_ref.tt.mjd == TIME_REFERENCE_MJD


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_any_other_artifact_is_maps(path):
    pytest.importorskip("gammapy")
    maps = cubeflow.load(path.with_name("run.h5")).to_gammapy()
    assert maps["exposure"].unit == "m2 s"
    for name in ("exposure", "irf_exposure"):
        assert maps[name].meta == {"livetime": 321.25 * units.s, "is_pointlike": True}
    assert maps["counts"].meta == {}
    stacked = cubeflow.load(path.with_name("stack.h5")).to_gammapy()
    assert stacked["exposure"].meta["livetime"] == 99.5 * units.s
    assert list(cubeflow.load(path.with_name("background.h5")).to_gammapy()) == ["background"]
    assert [axis.name for axis in maps["psf"].geom.axes] == ["rad", "energy_true"]
