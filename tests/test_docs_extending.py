"""The page on extending cubeflow: its code is put in place as it says, and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.quirks import Facts, Quirk
from cubeflow.simulate.store import SimulationOptions, simulate_store

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(?:python|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SIGMA_DEG = 0.07
UNION = "BackgroundOptions = FlatOptions |"
CHOICE, CONDITION = "made = _flat(reduced, exclusion)", "isinstance(options, FlatOptions)"

RUN_FLAT = """
import numpy as np
import cubeflow
from cubeflow.config import load_config
from cubeflow.plan.run import run_whole

run_whole(load_config(["base.yaml", "flat.yaml"]), print)
cube = cubeflow.load("results/one/flat/cube.h5")
counts, background = cube.maps["counts"].data, cube.maps["background"].data
mask = cube.maps["mask_safe"].data
# Cutouts reach beyond the map where another label has rings: sums are not equal to the last count.
assert np.isclose(background.sum(), counts.sum(), rtol=0.02), (background.sum(), counts.sum())
assert len(np.unique(background[0][mask[0]])) <= 4  # one or two runs at a pixel, each flat
"""
RUN_PSF = """
import numpy as np
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.irf.psf_gauss import PsfGauss

psf = read_observation(open_store("store").runs[0]).psf
assert type(psf) is PsfGauss
found = psf.evaluate([1.0], [0.5], [0.0, 0.1])[0, 0]
expected = np.exp(-0.5 * (np.array([0.0, 0.1]) / SIGMA) ** 2) / (2 * np.pi * np.deg2rad(SIGMA) ** 2)
np.testing.assert_allclose(found, expected, rtol=1e-6)
"""
BASE = """
data: {store: store}
targets:
  one:
    position: {lon: 83.633 deg, lat: 22.014 deg}
    geometry: {width: 4 deg, pixel: 0.1 deg}
energy: {min: 1 TeV, max: 10 TeV, bins: 3}
energy_true: {min: 0.5 TeV, max: 20 TeV, bins: 4}
offset_max: 1.5 deg
safe_mask: {methods: [offset-max]}
backgrounds: {ring: {method: ring, r_in: 0.5 deg, width: 0.4 deg}}
"""


def block(start: str) -> str:
    """The one block that holds this text."""
    (found,) = [text for text in BLOCKS if start in text]
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Copy of the package, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(REPOSITORY / "src" / "cubeflow", tmp_path / "src" / "cubeflow", ignore=ignored))


def put_before(path: Path, line: str, text: str) -> None:
    """Insert text before the one place where a line starts so."""
    content = path.read_text()
    assert content.count(f"\n{line}") == 1, f"{path.name}: {line}"
    path.write_text(content.replace(f"\n{line}", f"\n{text}{line}"))


def replace_once(path: Path, old: str, new: str) -> None:
    """Replace the one place where a text stands."""
    content = path.read_text()
    assert content.count(old) == 1, f"{path.name}: {old}"
    path.write_text(content.replace(old, new))


def run(script: str, folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_background_method(source: Path, tmp_path: Path) -> None:
    (source / "products" / "flat_background.py").write_text(block("def make_map_flat_background"))
    background = source / "products" / "background.py"
    put_before(background, "from cubeflow.products.fov", f"{block('import FlatOptions')}")
    put_before(background, "def norm_row", f"{block('def _flat')}\n\n")
    for line in (UNION, CHOICE, CONDITION):
        assert f"`{line}" in PAGE
    replace_once(background, "\nBackgroundOptions = ", f"\n{UNION} ")
    chosen = f"    if {CONDITION}:\n        {CHOICE}\n    elif isinstance(options, FovOptions):\n"
    replace_once(background, "    if isinstance(options, FovOptions):\n", chosen)
    simulate_store(tmp_path / "store", SimulationOptions(tiny=True, n_runs=2, duration_s=300.0))
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "flat.yaml").write_text(block("flat: {method: flat}"))
    run(RUN_FLAT, tmp_path)


def test_instrument_response(source: Path, tmp_path: Path) -> None:
    (source / "irf" / "psf_gauss.py").write_text(block("class PsfGauss"))
    responses, classes = source / "dl3" / "responses.py", source / "dl3" / "classes.py"
    put_before(responses, "from cubeflow.maps.arrays", "from cubeflow.irf.psf_gauss import PsfGauss\n")
    put_before(responses, "def read_bkg_3d", f"{block('def read_psf_gauss')}\n\n")
    for line, path, place in (
        ('"psf_gauss": read_psf_gauss', responses, '    "psf_king": read_psf_king'),
        ('("psf_gauss", "SIGMA")', classes, '    ("rad_max_2d", '),
    ):
        assert f"`{line}`" in PAGE
        put_before(path, place, f"    {line},\n")
    assert all(name in PAGE for name in ("`READERS`", "`BY_COLUMN`"))
    simulate_store(tmp_path / "made", SimulationOptions(tiny=True, n_runs=1, duration_s=300.0))
    (tmp_path / "store").mkdir()
    with_one_gaussian(next((tmp_path / "made").glob("obs_*.fits.gz")), tmp_path / "store" / "run.fits")
    run(RUN_PSF.replace("SIGMA", str(SIGMA_DEG)), tmp_path)


def with_one_gaussian(path: Path, target: Path) -> None:
    """Copy a run with a PSF of one Gaussian in place of its own."""
    with fits.open(path) as hdus:
        index = next(i for i, hdu in enumerate(hdus) if hdu.header.get("HDUCLAS2") in ("PSF", "RPSF"))
        old = hdus[index]
        names = ("ENERG_LO", "ENERG_HI", "THETA_LO", "THETA_HI")
        columns = [old.columns[name] for name in names]
        shape = (1, old.data["THETA_LO"].shape[1], old.data["ENERG_LO"].shape[1])
        dim = f"({shape[2]},{shape[1]})"
        sigma = np.full(shape, SIGMA_DEG)
        columns.append(fits.Column("SIGMA", f"{sigma.size}D", unit="deg", dim=dim, array=sigma))
        new = fits.BinTableHDU.from_columns(columns, name="PSF")
        for key in ("HDUCLASS", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3"):
            new.header[key] = old.header[key]
        hdus[index] = new
        hdus.writeto(target)


def test_quirk() -> None:
    quirk = eval(block("Quirk("), {"Quirk": Quirk})
    assert quirk.applies(Facts("events", {"ALTITUDE": 1.8}, {}))
    assert not quirk.applies(Facts("events", {"ALTITUDE": 1800.0}, {}))
    assert not quirk.applies(Facts("events", {}, {}))


def test_every_block_is_used() -> None:
    assert len(BLOCKS) == 7
