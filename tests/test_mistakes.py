"""What people get wrong: every message names the key or the file, and says what to do; never a traceback."""

import copy
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.simulate.store import SimulationOptions, simulate_store

GEOMETRY = {"frame": "icrs", "projection": "TAN", "width": "4 deg", "pixel": "0.1 deg"}
CONFIG = {
    "data": {"store": "store"},
    "targets": {"crab": {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": GEOMETRY}},
    "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
    "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
    "backgrounds": {"fov": {"method": "fov"}, "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.4 deg"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Working directory with a store of three runs, and an exclusion mask with the wrong polarity."""
    folder = tmp_path_factory.mktemp("mistakes")
    simulate_store(folder / "store", SimulationOptions(n_runs=3, duration_s=60.0, tiny=True))
    (folder / "empty").mkdir()
    (folder / "broken.txt").write_bytes(b"\xff\xfe")
    (folder / "pixels.reg").write_text("image\ncircle(3, 4, 5)\n")
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 20, "CRPIX2": 20})
    header.update({"CRVAL1": 83.633, "CRVAL2": 22.014, "CDELT1": -0.3, "CDELT2": 0.3, "CUNIT1": "deg", "CUNIT2": "deg"})
    inverted = np.zeros((40, 40))
    inverted[18:22, 18:22] = 1
    fits.PrimaryHDU(inverted, header).writeto(folder / "inverted.fits")
    return folder


@pytest.fixture
def cubeflow(folder, monkeypatch):
    """``cubeflow(*words)``: exit status and what was said, of the command line in the working directory."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "1000")

    def run(*words: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


def changed(key: str, value: object) -> str:
    """Configuration with one key set; those that are not there are made."""
    config = copy.deepcopy(CONFIG)
    *path, last = key.split(".")
    section = config
    for part in path:
        section = section.setdefault(part, {})
    section[last] = value
    return yaml.safe_dump(config, sort_keys=False)


MISTAKES = {
    "wrong unit": ("energy.min", "1 deg", "c.yaml:14:energy.min: expected a quantity with a unit such as '1 TeV'"),
    "no unit": (
        "targets.crab.geometry.pixel",
        0.02,
        "pixel: expected a quantity with a unit such as '0.5 deg'",
    ),
    "unknown key": ("energy.bims", 8, "energy.bims: unknown key; did you mean 'bins'?"),
    "unknown method": ("backgrounds.ring.method", "rings", "backgrounds.ring.method: expected 'fov', 'ring'"),
    "inverted energies": ("energy.min", "20 TeV", "energy.min: expected less than max = 10 TeV, got 20 TeV"),
    "ring larger than the field": ("backgrounds.ring.r_in", "5 deg", "ring.r_in: expected less than twice offset_max"),
    "ring thinner than a pixel": ("backgrounds.ring.width", "0.05 deg", "ring.width: expected at least one pixel"),
    "missing folder": ("data.store", "nowhere", "data.store: nowhere: no such folder"),
    "folder without data": ("data.store", "empty", "data.store: empty: no DL3 file"),
    "no run left": (
        "observations",
        {"within": "0.001 deg"},
        "none of the 3 runs is selected; observations asks for within 0.001 deg. The run closest to the target, 10000",
    ),
    "target outside all runs": (
        "targets.crab",
        {"position": {"lon": "10 deg", "lat": "-50 deg"}, "geometry": GEOMETRY, "observations": {"within": "3 deg"}},
        "none of the 3 runs is selected",
    ),
    "run not in the store": ("observations", {"ids": [7, 100001]}, "not in the store: [7]; it has 3 runs, 10000"),
    "condition on no column": (
        "observations",
        {"where": "ZEN_PT < 6"},
        "no column 'ZEN_PT' (of 'ZEN_PT < 6'); did",
    ),
    "condition on no column, near the target": (
        "observations",
        {"within": "0.55 deg", "where": "ZEN_PT < 6"},
        "no column 'ZEN_PT' (of 'ZEN_PT < 6'); did",
    ),
    "condition that is none": (
        "observations",
        {"where": "ZEN_PNT <"},
        "observations.where: expected an expression",
    ),
    "missing exclusion": ("exclusion", "absent.reg", "targets.crab.exclusion: absent.reg: expected a regular file"),
    "inverted exclusion": ("exclusion", "inverted.fits", "1 means keep and 0 excluded; regions are the excluded areas"),
    "exclusion in pixels": ("exclusion", "pixels.reg", "pixels.reg: CirclePixelRegion: expected celestial coordinates"),
    "energy groups": ("backgrounds.fov.energy_groups", 7, "backgrounds.fov.energy_groups: expected"),
    "name that is no folder": ("targets.a/b", CONFIG["targets"]["crab"], "expected a name of letters, digits"),
    "variable": ("data.store", "${NO_SUCH_NAME}/x", "data.store: NO_SUCH_NAME is not set; set it or write a path"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_configuration(cubeflow, folder, mistake):
    key, value, expected = MISTAKES[mistake]
    (folder / "c.yaml").write_text(changed(key, value))
    status, said = cubeflow("plan", "-c", "c.yaml")
    assert status == 2
    assert expected in said
    assert "Traceback" not in said


def test_an_exclusion_file_that_cannot_be_read_is_a_mistake_at_its_key(cubeflow, folder, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    (folder / "c.yaml").write_text(changed("exclusion", "pixels.reg"))
    monkeypatch.setattr("hashlib.file_digest", fail)
    status, said = cubeflow("plan", "-c", "c.yaml")
    assert status == 2
    assert "targets.crab.exclusion: pixels.reg: Input/output error" in said


@pytest.mark.parametrize(
    ("limits", "is_said"),
    [((2, 8), True), ((0.5, 8), True), ((1, 20), True), ((0.5, 10), True), ((1, 10), True), ((0.5, 20), False)],
)
def test_true_energies_that_do_not_reach_beyond_the_reconstructed_ones_are_named(cubeflow, folder, limits, is_said):
    true = {"min": f"{limits[0]} TeV", "max": f"{limits[1]} TeV", "bins": 4}
    (folder / "c.yaml").write_text(changed("energy_true", true))
    status, said = cubeflow("plan", "-c", "c.yaml")
    assert status == 0
    assert ("targets.crab.energy_true: " in said) is is_said
    assert ("energy, 1 to 10 TeV: " in said) is is_said


@pytest.mark.parametrize("limits", [(50, 100), (10, 20), (0.1, 0.5), (0.1, 1)])
def test_true_energies_that_have_nothing_in_common_with_the_reconstructed_ones_are_refused(cubeflow, folder, limits):
    true = {"min": f"{limits[0]} TeV", "max": f"{limits[1]} TeV", "bins": 4}
    (folder / "c.yaml").write_text(changed("energy_true", true))
    status, said = cubeflow("plan", "-c", "c.yaml")
    assert status == 2
    got = f"energy_true: expected energies that reach over those of energy, 1 to 10 TeV, got {limits[0]} to {limits[1]}"
    assert got in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("energy: {min: 1 TeV\ntargets: x\n", "c.yaml:2"),
        ("energy:\n\tmin: 1 TeV\n", "c.yaml:2: expected printable text and spaces, got a tab"),
        ("gti_filter: true\ngti_filter: false\n", "c.yaml:2:gti_filter: duplicate key, first in line 1"),
        ("", "c.yaml: expected keys and values such as 'offset_max: 2 deg', got an empty file"),
    ],
)
def test_broken_yaml(cubeflow, folder, text, expected):
    (folder / "c.yaml").write_text(text)
    status, said = cubeflow("plan", "-c", "c.yaml")
    assert status == 2
    assert expected in said


def test_files_outside_the_store(cubeflow, folder):
    """The index leads out of its folder: the line that allows it is printed, and works."""
    inside = folder / "index"
    inside.mkdir(exist_ok=True)
    (inside / "obs-index.fits.gz").write_bytes((folder / "store" / "obs-index.fits.gz").read_bytes())
    index = Table.read(folder / "store" / "hdu-index.fits.gz")
    index.replace_column("FILE_DIR", ["../store"] * len(index))
    index.write(inside / "hdu-index.fits.gz", overwrite=True)
    (folder / "c.yaml").write_text(changed("data.store", "index"))
    status, said = cubeflow("plan", "-c", "c.yaml")
    assert status == 2
    assert "no run of 3 can be used" in said
    line = said.split("to allow it, add to the configuration: ")[1].splitlines()[0]
    (folder / "roots.yaml").write_text(line + "\n")
    assert cubeflow("plan", "-c", "c.yaml", "-c", "roots.yaml")[0] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["plan", "-c", "absent.yaml"], "absent.yaml: expected a configuration file, found nothing"),
        (["plam"], "No such command 'plam'. Did you mean 'plan'?"),
        (["plan", "--configfil", "c.yaml"], "Did you mean '--configfile'?"),
        (["init", "nowhere", "-t", "Crab"], "nowhere: no such folder"),
        (["init", "store"], '--target "simulated source"'),
        (["init", "store", "-t", "Crb"], "did you mean 'Crab'?"),
        (
            ["init", "store", "-t", "Mrk 421"],
            "no run sees Markarian 421 (icrs 166.114 38.2088 deg); the closest, run",
        ),
        (["reduce", "pixels.reg", "reduce_1"], "pixels.reg: expected a plan of this version; make it again: its first"),
        (["export", "broken.txt", "export_1"], "broken.txt: expected a plan of this version; make it again"),
        (["stack", "absent.jsonl", "stack_1"], "File 'absent.jsonl' does not exist"),
        (["inspect", "pixels.reg"], "pixels.reg: expected an artifact (.h5), a FITS file, or a run table"),
        (["inspect", "absent.h5"], "File 'absent.h5' does not exist"),
        (["diff", "store", "inverted.fits"], "expected two artifacts or two folders, got one of each"),
        (["diff", "store", "store"], "expected folders with results, found no artifact"),
        (["simulate", "x", "--runs", "0"], "0 is not in the range"),
    ],
)
def test_a_mistake_on_the_command_line(cubeflow, words, expected):
    status, said = cubeflow(*words)
    assert status == 2
    assert expected in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("words", "key"), [([], "targets.*"), (["-t", "crba"], "targets.crba")])
def test_an_index_without_a_model(cubeflow, folder, words, key):
    (folder / "c.yaml").write_text(changed("results", "results"))
    status, said = cubeflow("index", "c.yaml", "-o", "new", *words)
    assert (status, said) == (2, f"{key}: expected a target with acceptance.model, found none\n")


def test_what_fails_without_being_a_mistake_has_status_1(cubeflow, folder):
    (folder / "broken.h5").write_bytes(b"no artifact")
    status, said = cubeflow("inspect", "broken.h5")
    assert (status, said.count("\n")) == (1, 1)
    assert "broken.h5" in said


def test_a_wrong_configuration_ends_at_once(folder):
    """The real program, by its use of the processor: a machine may be busy."""
    (folder / "c.yaml").write_text(changed("energy.bims", 8))
    before = os.times()
    command = [sys.executable, "-c", "from cubeflow.cli import main; main()", "plan", "-c", "c.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = os.times()
    assert done.returncode == 2
    assert done.stderr == "c.yaml:17:energy.bims: unknown key; did you mean 'bins'?\n"
    assert done.stdout == ""
    assert after.children_user + after.children_system - before.children_user - before.children_system < 2.0


@pytest.mark.parametrize("section", ["common", "target"])
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("observations.ids", [7, 100001], "not in the store: [7]"),
        ("observations.where", "ZEN_PT < 6", "the observation index has no column 'ZEN_PT'"),
        ("exclusion", "absent.reg", "absent.reg: expected a regular file, found none"),
    ],
)
def test_what_only_the_files_show_is_told_at_the_line_of_its_key(cubeflow, folder, key, value, expected, section):
    """As every other mistake, wherever the value of the target was written."""
    text = changed(key if section == "common" else f"targets.crab.{key}", value)
    (folder / "c.yaml").write_text(text)
    (line,) = [n for n, each in enumerate(text.splitlines(), 1) if each.strip().startswith(f"{key.split('.')[-1]}:")]
    status, said = cubeflow("plan", "-c", "c.yaml")
    assert status == 2
    assert f"c.yaml:{line}:targets.crab.{key}: {expected}" in said


def test_later_file_is_the_one_that_is_named(cubeflow, folder):
    (folder / "c.yaml").write_text(changed("memory", "4 GB"))
    (folder / "more.yaml").write_text("memory: 4 GB\ndata:\n  store: nowhere\n")
    for verb in ("plan", "run", "clean", "verify"):
        status, said = cubeflow(verb, "-c", "c.yaml", "-c", "more.yaml")
        assert status == 2
        assert said.splitlines()[-1].startswith("more.yaml:3:data.store: nowhere: no such folder or file")


@pytest.mark.parametrize("value", ["/no/such", None])
@pytest.mark.parametrize("verb", [["plan", "-c"], ["check"]])
def test_variable_of_a_folder_that_is_not_there_is_told(cubeflow, folder, monkeypatch, value, verb):
    monkeypatch.delenv("CUBEFLOW_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("CUBEFLOW_DATA", value)
    (folder / "c.yaml").write_text(changed("data.store", "${CUBEFLOW_DATA:-elsewhere}/hess"))
    status, said = cubeflow(*verb, "c.yaml")
    assert status == 2
    assert f"c.yaml:2:data.store: {value or 'elsewhere'}/hess: no such folder" in said
    assert f"CUBEFLOW_DATA is {value or 'not set'}" in said
    (folder / "c.yaml").write_text(changed("data.store", "nowhere"))
    assert "CUBEFLOW_DATA" not in cubeflow(*verb, "c.yaml")[1]
