"""An RO-Crate of a target: what it says of each file, and that it is always the same."""

import json
import shutil
import sys

import pytest

from cubeflow.cli import main
from cubeflow.config import parse_config
from cubeflow.errors import FailedError, MistakeError
from cubeflow.plan.run import run_whole
from cubeflow.plan.verify import verify_folder
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.atomic import file_sha256
from cubeflow.tools.crate import PROFILE, write_crate

CONFIG = """
data: {store: STORE}
results: RESULTS
energy: {min: 1 TeV, max: 10 TeV, bins: 3}
energy_true: {min: 0.5 TeV, max: 20 TeV, bins: 4}
targets:
  crab:
    position: {lon: 83.633 deg, lat: 22.014 deg}
    geometry: {width: 4 deg, pixel: 0.1 deg}
"""
TERMS = "https://creativecommons.org/licenses/by/4.0/"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crate")
    simulate_store(folder / "store", SimulationOptions(n_runs=2, duration_s=600.0, tiny=True))
    text = CONFIG.replace("STORE", str(folder / "store")).replace("RESULTS", str(folder / "results"))
    run_whole(parse_config(text), print).write()
    return folder / "results"


def graph(path):
    content = json.loads(path.read_text())
    assert content["@context"] == "https://w3id.org/ro/crate/1.1/context"
    found = {each["@id"]: each for each in content["@graph"]}
    assert len(found) == len(content["@graph"]), "no entity stands there twice"
    return found


def test_the_crate_says_what_there_is_and_how_it_was_made(results, capsys):
    pytest.importorskip("rocrate")
    main(["crate", str(results / "crab"), "--license", TERMS], standalone_mode=False)
    path = results / "crab/ro-crate-metadata.json"
    assert capsys.readouterr().out == f"{path}\n"
    found = graph(path)
    assert path not in verify_folder(results / "crab").orphans, "it speaks of the others"
    about, root, action = found["ro-crate-metadata.json"], found["./"], found["#run"]
    assert (about["about"], about["conformsTo"]) == ({"@id": "./"}, {"@id": "https://w3id.org/ro/crate/1.1"})
    assert root["@type"] == "Dataset"
    assert {"name", "description", "datePublished"} <= root.keys()
    assert (root["license"], root["conformsTo"], root["mentions"]) == (
        {"@id": TERMS},
        {"@id": PROFILE},
        {"@id": "#run"},
    )
    files = {name: each for name, each in found.items() if each["@type"] == "File"}
    there = {path.relative_to(results / "crab") for path in (results / "crab").rglob("*") if path.is_file()}
    made = {str(path) for path in there if path.parts[0] not in ("obs", "stack")} - {"ro-crate-metadata.json"}
    assert files.keys() == made
    for name, each in files.items():
        assert (each["sha256"], each["contentSize"]) == (
            file_sha256(results / "crab" / name),
            str((results / "crab" / name).stat().st_size),
        )
    assert sorted(each["@id"] for each in root["hasPart"]) == sorted(files)
    assert action["@type"] == "CreateAction"
    assert sorted(each["@id"] for each in action["result"]) == sorted(files)
    inputs = {found[each["@id"]]["name"]: found[each["@id"]] for each in action["object"]}
    for run in (results.parent / "store").glob("obs_*"):
        assert inputs[run.name]["sha256"] == file_sha256(run)
    options = json.loads(inputs[f"options of {next(name for name in files if name.startswith('fov/made-'))}"]["value"])
    assert options["reduce"]["options"]["reduce"]["offset_max_deg"] == 2.0
    programs = {found[each["@id"]]["name"] for each in action["instrument"]}
    assert {"cubeflow", "numpy", "astropy", "python"} <= programs
    linked = [link["@id"] for each in found.values() for value in each.values() for link in links(value)]
    assert {link for link in linked if not link.startswith("http")} <= found.keys()


def links(value):
    each = value if isinstance(value, list) else [value]
    return [link for link in each if isinstance(link, dict)]


def test_the_same_files_give_the_same_bytes(results, tmp_path):
    pytest.importorskip("rocrate")
    first = write_crate(results / "crab", None).read_bytes()
    assert write_crate(results / "crab", None).read_bytes() == first
    shutil.copytree(results / "crab", tmp_path / "crab")
    alone = graph(write_crate(tmp_path / "crab", None))
    digests = {file_sha256(run) for run in (results.parent / "store").glob("obs_*")}
    assert digests <= {each["name"] for each in alone.values() if each["@id"].startswith("#sha256-")}, (
        "names are unknown"
    )


def test_what_is_damaged_is_not_described(results, tmp_path):
    shutil.copytree(results / "crab", tmp_path / "crab")
    (tmp_path / "crab/ro-crate-metadata.json").unlink(missing_ok=True)
    (tmp_path / "crab/runs.csv").write_text("x")
    with pytest.raises(FailedError, match=r"runs\.csv: has another content than its certificate says; expected"):
        write_crate(tmp_path / "crab", None)
    assert not (tmp_path / "crab/ro-crate-metadata.json").exists()


def test_a_cube_without_certificate_is_not_left_out_in_silence(results, tmp_path):
    """As `cubeflow clean` leaves it, when the configuration has changed and nothing was made since."""
    shutil.copytree(results / "crab", tmp_path / "crab")
    for path in (tmp_path / "crab/fov").glob("made-*.json"):
        path.unlink()
    with pytest.raises(FailedError, match=r"fov/cube\.h5: no certificate speaks of it; expected results"):
        write_crate(tmp_path / "crab", None)


def test_without_the_library_one_line_says_how_to_get_it(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocrate.rocrate", None)
    with pytest.raises(MistakeError, match=r"expected the library rocrate: pip install 'cubeflow\[crate\]'"):
        write_crate(results / "crab", None)
