"""What is said of a file against what was written into it."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.store.artifact import Artifact, ArtifactDamaged, write_artifact
from cubeflow.tools.inspect import describe_file, totals

GEOM = make_geometry("galactic", "CAR", 0.0, 0.0, (0.5, 0.3), 0.1)
AXIS = energy_axis([1.0, 2.0, 5.0])


@pytest.fixture
def artifact(tmp_path):
    data = np.arange(30.0).reshape(2, 3, 5)
    data[1, 2, 3] = np.nan
    datasets = {"flux": Cube(data, "m-2 s-1", GEOM, (AXIS,)), "gti_s": np.array([[1.0, 2.5]])}
    write_artifact(tmp_path / "cube.h5", Artifact("cube", "ab" * 32, 3, datasets, {"n": 2}, {"config": {"r": 0.5}}))
    return tmp_path / "cube.h5"


def test_an_artifact_is_described(artifact):
    about = describe_file(artifact)
    assert (about["format"], about["kind"], about["key"], about["algorithm"]) == ("artifact", "cube", "ab" * 32, 3)
    assert about["bytes"] == artifact.stat().st_size
    assert (about["attributes"], about["provenance"]) == ({"n": 2}, {"config": {"r": 0.5}})
    flux = about["datasets"]["flux"]
    assert (flux["unit"], flux["shape"]) == ("m-2 s-1", [2, 3, 5])
    assert flux["geometry"]["frame"] == "galactic"
    assert flux["axes"][0]["edges"] == [1.0, 2.0, 5.0]
    assert flux["totals"] == {"sum": 435.0 - 28.0, "min": 0.0, "max": 29.0, "not_finite": 1}
    assert about["datasets"]["gti_s"]["totals"]["sum"] == 3.5


def test_totals_of_every_type():
    assert totals(np.array([True, False, True]))["sum"] == 2
    assert totals(np.array([2**62, 2**62], dtype="i8") // 4)["sum"] == 2**61
    nothing = {"sum": 0.0, "min": None, "max": None}
    assert totals(np.array([np.nan, np.inf])) == {**nothing, "not_finite": 2}
    assert totals(np.zeros((0, 2))) == {**nothing, "not_finite": 0}


def test_a_fits_file_is_described(tmp_path):
    image = fits.ImageHDU(np.array([[1.0, 2.0, np.nan]]), name="COUNTS")
    image.header["BUNIT"] = "s"
    table = fits.BinTableHDU.from_columns([fits.Column("START", "D", unit="s", array=[1.0, 2.0])], name="GTI")
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(tmp_path / "a.fits.gz")
    about = describe_file(tmp_path / "a.fits.gz")
    assert about["hdus"] == [
        {"name": "PRIMARY", "kind": "empty"},
        {
            "name": "COUNTS",
            "kind": "image",
            "shape": [1, 3],
            "unit": "s",
            "totals": {"sum": 3.0, "min": 1.0, "max": 2.0, "not_finite": 1},
        },
        {"name": "GTI", "kind": "table", "rows": 2, "columns": {"START": "s"}},
    ]


def test_a_run_table_is_described(tmp_path):
    table = Table({"obs_id": [1, 2, 3], "status": ["ok", "refused", "ok"], "ontime": [1.0, 2.0, 3.0]})
    table["ontime"].unit = "s"
    table.write(tmp_path / "runs.ecsv", format="ascii.ecsv")
    about = describe_file(tmp_path / "runs.ecsv")
    assert (about["rows"], about["status"]) == (3, {"ok": 2, "refused": 1})
    assert about["columns"]["ontime"]["unit"] == "s"


def test_other_files_are_refused(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "broken.fits").write_text("nothing")
    with pytest.raises(MistakeError, match=r"plan.json: expected an artifact \(.h5\)"):
        describe_file(tmp_path / "plan.json")
    with pytest.raises(MistakeError, match=r"broken.fits: no FITS file"):
        describe_file(tmp_path / "broken.fits")


def test_a_damaged_artifact_is_named(artifact):
    content = bytearray(artifact.read_bytes())
    content[2000] ^= 1
    artifact.write_bytes(content)
    with pytest.raises(ArtifactDamaged, match=r"cube.h5"):
        describe_file(artifact)
