"""Simulated surveys, reduced by the workflow, cover the truth as often as their errors and limits say."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SURVEYS = 100
MANY = {"empty", "empty-self", "faint", "bright", "bright-open", "all"}  # fields with more than a few counts
FAR = 3.5  # standard errors; the seed is fixed, so that what passes once passes always

pytestmark = [pytest.mark.slow, pytest.mark.workflow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Figures, page and picture of a few surveys."""
    folder = tmp_path_factory.mktemp("coverage")
    files = {"figures": "f.json", "page": "p.md", "picture": "p.svg"}
    out = [f"--{name}={folder / file}" for name, file in files.items()]
    command = [sys.executable, "benchmarks/coverage.py", f"--surveys={SURVEYS}", *out]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """All figures."""
    return json.loads((folder / "f.json").read_text())


def test_shares_are_those_that_are_promised(found):
    checked = [each for each in found["figures"] if each["kind"] in MANY]
    assert {each["what"] for each in checked} == {"norm", "tilt", "significance", "flux", "flux upwards", "limit"}
    assert {each["label"] for each in checked} == {"fov", "tilt", "model", "ring", "adaptive"}
    for each in checked:
        error = math.sqrt(each["expected"] * (1 - each["expected"]) / each["n"])
        assert abs(each["share"] - each["expected"]) < FAR * error, each


def test_pulls_have_no_bias_and_the_width_1(found):
    """Norms have hundreds of counts; significances and fluxes have a few in the disc, which moves their pulls."""
    for each in found["figures"]:
        if each["kind"] in MANY and each["mean"] is not None:
            slack = 0.0 if each["what"] in ("norm", "tilt") else 0.15
            assert abs(each["mean"]) < FAR / math.sqrt(each["n"]) + slack, each
            assert abs(each["width"] - 1) < FAR / math.sqrt(2 * each["n"]) + slack, each


def test_empty_sky_is_as_wide_as_poisson_counts_are(found):
    assert {(each["name"], each["label"]) for each in found["off_source"]} == {
        (name, label) for name in ("nights", "runs", "few") for label in ("fov", "ring", "adaptive")
    }
    for each in found["off_source"]:
        assert abs(each["width"] - each["poisson"]) < FAR * each["error"] + 0.03, each


def test_limits_of_small_numbers_miss_where_nothing_is_counted(found):
    """Over a background of 0.5, a source of 1.5 counts lies above the limit if no count is there, and only then."""
    (row,) = (each for each in found["small_numbers"] if (each["background"], each["source"]) == (0.5, 1.5))
    assert row["limit"] == pytest.approx(1 - math.exp(-2.0), abs=1e-12)


def test_page_and_picture_are_made(folder, found):
    page = (folder / "p.md").read_text()
    assert f"{found['each'] * 4} simulated surveys" in page
    for each in found["figures"]:
        assert f"{100 * each['share']:.1f} ± {100 * each['error']:.1f}" in page, each
    assert "(no source)" not in page
    assert "<svg" in (folder / "p.svg").read_text()
