"""The page on telescopes: each of its configurations reduces a store with the deviations of that telescope's files."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from astropy.table import Table

from cubeflow.config import load_config
from cubeflow.dl3.quirks import QUIRKS
from cubeflow.plan.run import run_whole
from cubeflow.simulate.store import SimulationOptions, simulate_store

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "instruments.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
STORES = {"H.E.S.S.": None, "MAGIC": "magic", "VERITAS": "veritas", "LST": "lst", "CTAO": "cta_1dc"}
OURS = """
data: {{store: "{store}", roots: ["{root}"]}}
results: "{root}/results"
targets:
  source:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: 4 deg, pixel: 0.1 deg}}
    exclusion: "{root}/source.reg"
"""


def make_store(name: str | None, folder: Path) -> Path:
    """Store with the deviations of a telescope, or a plain one."""
    if name is None:
        simulate_store(folder / "store", SimulationOptions(tiny=True, n_runs=2, duration_s=600.0))
        return folder / "store"
    spec = importlib.util.spec_from_file_location("instruments", REPOSITORY / "tests" / "dl3" / "instruments.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)(folder).index


def test_every_section_is_tried() -> None:
    assert set(SECTIONS) == set(STORES)


@pytest.mark.parametrize("telescope", STORES)
def test_configuration_reduces_files_of_its_kind(telescope: str, tmp_path: Path) -> None:
    store = make_store(STORES[telescope], tmp_path)
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", SECTIONS[telescope], re.MULTILINE | re.DOTALL)
    text = text.replace(
        "events: {where: IS_GAMMA}", "events: {where: ENERGY > 0}"
    )  # simulated lists have no such column
    (tmp_path / "page.yaml").write_text(text)
    (tmp_path / "ours.yaml").write_text(OURS.format(store=store, root=tmp_path))
    (tmp_path / "source.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    config = load_config([tmp_path / "page.yaml", tmp_path / "ours.yaml"])
    run_whole(config, print)
    runs = Table.read(tmp_path / "results" / "source" / "runs.ecsv")
    usable = runs[runs["obs_id"] < 199999]  # the index of MAGIC names a run that is not there
    assert list(usable["status"]) == ["ok", "ok"], list(usable["reason"])
    for label in config.targets["source"].backgrounds:
        assert (usable[f"{label}_background"] > 0).all()


def test_bundles_of_the_data_model_of_ctao_reduce_with_a_model(tmp_path: Path) -> None:
    """As the page says of them: without a background they need a model, as those of LST have it."""
    store = make_store("ctao_gadf", tmp_path)
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", SECTIONS["LST"], re.MULTILINE | re.DOTALL)
    (tmp_path / "page.yaml").write_text(text)
    (tmp_path / "ours.yaml").write_text(OURS.format(store=store, root=tmp_path))
    (tmp_path / "source.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    run_whole(load_config([tmp_path / "page.yaml", tmp_path / "ours.yaml"]), print)
    runs = Table.read(tmp_path / "results" / "source" / "runs.ecsv")
    assert list(runs["obs_id"]) == [5000000251, 5000000252]
    assert list(runs["status"]) == ["ok", "ok"], list(runs["reason"])
    assert (runs["ring_background"] > 0).all()
    assert (tmp_path / "results" / "source" / "obs" / "5000000251").is_dir()


def test_the_quirks_that_are_named_exist() -> None:
    named = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", PAGE))
    assert named - set(QUIRKS) == {"aeff-max", "edisp-bias", "aeff-default"}  # methods of the safe mask
