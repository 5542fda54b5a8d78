"""The list of rules, their diagram and the gallery: what a plan does, and the pictures that are there."""

import re
from pathlib import Path

import pytest

from cubeflow.config import parse_config
from cubeflow.pipeline.tasks import files_of, inputs_of
from cubeflow.plan.make import Plan, make_plan
from cubeflow.simulate.store import SimulationOptions, simulate_store

DOCS = Path(__file__).resolve().parents[1] / "docs"
MOST_BYTES = 500_000
NAMES = {"key": "[0-9a-f]{16}", "run": r"\d+", "name": "[^/]+", "target": "[^/]+", "label": "[^/-]+", "part": "[^/]+"}
CONFIG = """
data: {{store: "{folder}"}}
results: "{folder}/results"
targets:
{targets}
energy: {{min: 1 TeV, max: 10 TeV, bins: 3}}
energy_true: {{min: 0.5 TeV, max: 20 TeV, bins: 4}}
safe_mask: {{methods: [offset-max]}}
acceptance: {{model: self}}
stack: {{by: {by}, fanout: 2}}
export: {{per: {per}}}
backgrounds:
  fov: {{method: fov}}
  ring: {{method: ring, r_in: 0.5 deg, width: 0.4 deg}}
"""
TARGET = "  {name}: {{position: {{lon: 83.633 deg, lat: 22.014 deg}}, geometry: {{width: 4 deg, pixel: 0.1 deg}}}}"


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[Plan]:
    """Everything at once for more targets than one page holds, and one small target with a single batch."""
    folder = tmp_path_factory.mktemp("rules")
    simulate_store(folder, SimulationOptions(tiny=True, n_runs=4, duration_s=300.0))
    many = "\n".join(TARGET.format(name=name) for name in "abcd")
    texts = [
        CONFIG.format(folder=folder, targets=many, by="run", per="interval"),
        CONFIG.format(folder=folder, targets=TARGET.format(name="one"), by="null", per="none"),
    ]
    return [make_plan(parse_config(text), print) for text in texts]


def described() -> dict[str, tuple[list[re.Pattern], list[re.Pattern]]]:
    """Patterns of what each step reads and makes, as its row says."""
    found = {}
    for line in (DOCS / "rules.md").read_text().splitlines():
        cells = line.strip("|").split(" | ")
        if len(cells) == 3 and re.fullmatch(r" `\w+`", cells[0]) and "reads" not in cells[1]:
            reads, makes = ([pattern(name) for name in re.findall("`([^`]+)`", cell)] for cell in cells[1:])
            makes += [pattern(f"{each}/") for each in re.findall("`([^`]+parts/<part>)/`", cells[2])]
            found[cells[0].strip(" `")] = reads, makes
    return found


def pattern(name: str) -> re.Pattern:
    """Expression for a name with placeholders; one that ends in a slash is a folder with products."""
    text = re.sub("<([a-z]+)>", lambda place: NAMES[place[1]], name.replace(".", r"\."))
    return re.compile(text + (r"[^/]+" if name.endswith("/") else ""))


def test_every_step_has_a_row_with_its_files(plans: list[Plan]) -> None:
    rows = described()
    used: dict[str, set[re.Pattern]] = {name: set() for name in rows}
    tasks = [(plan, task) for plan in plans for task in plan.all_tasks]
    assert {task.kind for _, task in tasks} == set(rows)
    for plan, task in tasks:
        for files, patterns in zip((inputs_of(task), plan.files(task)), rows[task.kind], strict=True):
            for file in files:
                (match, *_) = [each for each in patterns if each.fullmatch(file)] or [None]
                assert match, f"{task.kind}: {file}"
                used[task.kind].add(match)
    for name, (reads, makes) in rows.items():
        assert [each.pattern for each in (*reads, *makes) if each not in used[name]] == [], name


def test_the_diagram_has_the_arrows_of_a_plan(plans: list[Plan]) -> None:
    expected = set()
    for plan in plans:
        makers = {file: task.kind for task in plan.all_tasks for file in files_of(task)}
        expected |= {f"{makers[file]}-{task.kind}" for task in plan.all_tasks for file in inputs_of(task)}
    drawn = re.findall(r'id="([a-z]+-[a-z]+)"', (DOCS / "gallery" / "rules.svg").read_text())
    assert sorted(drawn) == sorted(expected)


def test_every_picture_is_shown_and_all_are_small() -> None:
    pictures = {path.name: path for path in (DOCS / "gallery").iterdir()}
    shown = {name for page in DOCS.glob("*.md") for name in re.findall(r"\]\(gallery/([\w.-]+)\)", page.read_text())}
    assert shown == set(pictures)
    assert sum(path.stat().st_size for path in pictures.values()) < MOST_BYTES


def test_every_picture_is_one_that_the_command_draws() -> None:
    program = "".join((DOCS.parent / "benchmarks" / name).read_text() for name in ("gallery.py", "coverage.py"))
    assert [path.name for path in (DOCS / "gallery").iterdir() if path.name not in program] == []
