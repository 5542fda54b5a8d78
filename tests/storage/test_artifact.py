import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry, rad_axis
from cubeflow.storage.artifact import Artifact, read_artifact, read_key, write_artifact

KEY = "ab" * 32


@pytest.mark.parametrize("compression", ["blosc", "gzip", "none"])
def test_cubes_come_back_to_the_bit(tmp_path, compression):
    geom = make_geometry("galactic", "CAR", 359.7, -0.3, (0.9, 0.5), 0.1)
    energy, rad = energy_axis([0.7, 1.9, 11.3]), rad_axis(0.66, 3)
    rng = np.random.default_rng(5)
    psf = rng.normal(size=(2, 3, *geom.shape))
    psf[0, 1, 2, 3], psf[1, 0, 0, 0] = np.nan, -0.0
    datasets = {"psf": Cube(psf, "sr-1", geom, (energy, rad)), "gti_s": rng.random((3, 2)), "none": np.zeros((0, 2))}
    write_artifact(tmp_path / "a.h5", Artifact("reduced", KEY, 1, datasets, {"row": {"a": None}}), compression)
    back = read_artifact(tmp_path / "a.h5", expect_kind="reduced", expect_key=KEY)
    cube = back.datasets["psf"]
    assert cube.data.tobytes() == psf.tobytes()
    assert (cube.geom, cube.axes, cube.unit) == (geom, (energy, rad), "sr-1")
    assert back.datasets["gti_s"].tobytes() == datasets["gti_s"].tobytes()
    assert back.datasets["none"].shape == (0, 2)
    assert back.attributes == {"row": {"a": None}}
    assert read_key(tmp_path / "a.h5") == KEY
