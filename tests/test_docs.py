"""What README and docs say is true: commands and Python are run, configurations read, links and paths followed.

A block ``text`` holds lines that the block before it must print, in this order. A block ``yaml`` whose first line is
the name of a file, as a comment, is that file.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cubeflow.cli import main
from cubeflow.config import Config, TargetConfig, load_config
from cubeflow.config.build import keys_of

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [
    REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md", "workflow/documentation.md")
]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]\[]*\]\(([^)\s]+)\)")
MADE_BY_READER = ("flat_background", "psf_gauss", "test_flat", "config/mine", "config/schema")
NAMED = re.compile(r"# ([\w./-]+\.yaml)\n")
MADE = re.compile(r"(?:^# |> |-o )([\w./-]+\.yaml)\b", re.MULTILINE)  # files that a page makes
PICTURE = re.compile(r"savefig\(\"([^\"]+)\"\)")
NO_COMMANDS = ("cubeflow artifact schema 2",)  # the first line of a file
SECTIONS = {*keys_of(Config), *keys_of(TargetConfig)}
Edit = Callable[[str], str]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


@dataclass
class Block:
    """A block of code, and the lines that it must print."""

    language: str
    text: str
    expected: list[str]


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    for language, text in FENCE.findall(page.read_text()):
        if language == "text":
            found[-1].expected += text.splitlines()
        else:
            found.append(Block(language, text, []))
    return found


def command_lines(page: Path) -> Iterator[str]:
    """Every command of a page that is ours, from blocks and from the text."""
    for block in blocks(page):
        if block.language == "sh":
            for line in block.text.splitlines():
                yield from (part.strip() for part in re.split(r"&&|\||;", line.split("  #")[0]))
    for inline in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text())):
        if inline.partition(" ")[0] in ("make", "cubeflow", "snakemake") and " " in inline and "VERB" not in inline:
            yield from {inline} - set(NO_COMMANDS)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def check_output(output: str, expected: list[str]) -> None:
    """Each expected line is part of a line of the output, one after the other; ``...`` stands for what is left out."""
    lines = iter(squeezed(line) for line in output.splitlines())
    for wanted in (squeezed(line) for line in expected if line != "..."):
        assert any(wanted in line for line in lines), f"{wanted!r} is not (or not in this place) in:\n{output}"


def run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY / "src"), "MPLBACKEND": "agg"}
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, timeout=900, **both)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def run_page(page: Path, folder: Path, edit: Edit = str) -> None:
    """Run the shell and Python blocks of a page in order, and write its files.

    Python blocks know the names of those before them, which are run again.
    """
    python: list[str] = []
    for block in blocks(page):
        if block.language == "sh":
            lines = "\n".join(edit(line) for line in block.text.splitlines())
            check_output(run(["bash", "-eu", "-o", "pipefail", "-c", lines], folder), block.expected)
        elif block.language == "python":
            python.append(block.text)
            script = "\nprint('-' * 80)\n".join(python)
            output = run([sys.executable, "-c", script], folder)
            check_output(output.rsplit("-" * 80, 1)[-1], block.expected)
            for picture in PICTURE.findall(block.text):
                assert (folder / picture).stat().st_size > 5000, picture
        elif block.language == "yaml" and (name := NAMED.match(block.text)):
            (folder / name[1]).write_text(block.text)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of what the demo needs, with its results and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    for name in ("config", "workflow"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("mine*"))
    shutil.copy(REPOSITORY / "environment.yml", folder)
    (folder / "demo.log").write_text(run(["snakemake", "--cores", "2"], folder))
    (folder / "my-store").symlink_to("results/demo-dl3")
    return folder


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo, tmp_path / "copy", symlinks=True))


def demo_is_made(line: str) -> str:
    """Line without what sets up an environment or needs a cluster."""
    return re.sub(r"^make demo\b.*", "cat demo.log", re.sub(r"^(pip install|snakemake --profile)\b.*", ":", line))


@pytest.mark.workflow
def test_tutorial(copy: Path) -> None:
    run_page(REPOSITORY / "docs" / "tutorial.md", copy, demo_is_made)


@pytest.mark.workflow
@pytest.mark.slow
@pytest.mark.parametrize("name", ["docs/incremental.md", "README.md"])
def test_pages_on_the_demo(name: str, copy: Path) -> None:
    run_page(REPOSITORY / name, copy, demo_is_made)


@pytest.mark.workflow
@pytest.mark.parametrize("name", ["formats", "api", "configuration", "gammapy", "installation", "rules"])
def test_blocks_on_the_demo(name: str, copy: Path) -> None:
    run_page(REPOSITORY / "docs" / f"{name}.md", copy, demo_is_made)


@pytest.mark.workflow
@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["hess-crab", "rxj1713", "lightcurve"])
def test_tutorials_on_real_data(name: str, demo: Path, hess_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBEFLOW_DATA", str(hess_store.parent))
    run_page(REPOSITORY / "docs" / f"{name}.md", demo)


@pytest.mark.workflow
@pytest.mark.slow
def test_tutorial_on_off_runs(demo: Path) -> None:
    run_page(REPOSITORY / "docs" / "off-runs.md", demo)


@pytest.mark.workflow
@pytest.mark.real_data
@pytest.mark.slow
def test_survey_page(demo: Path, hess_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBEFLOW_DATA", str(hess_store.parent))
    run_page(REPOSITORY / "docs" / "survey.md", demo, lambda line: re.sub("^snakemake", "snakemake --dry-run", line))


@every_page
def test_commands_have_the_options_they_are_given(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for line in command_lines(page):
        words = shlex.split(line, comments=True)
        if words[:1] == ["cubeflow"] and words[1:] not in (["--help"], ["--version"]):
            verb = main.commands[words[1]]
            verb.make_parser(verb.make_context(words[1], [], resilient_parsing=True)).parse_args(words[2:])
        elif words[:1] == ["make"]:
            run(["make", "--dry-run", *words[1:]], REPOSITORY)
        elif words[:1] == ["snakemake"]:
            check_snakemake(words[1:], set(MADE.findall(page.read_text())))


def check_snakemake(words: list[str], made: set[str]) -> None:
    """The options exist, and so do the files they name, if the page does not make them."""
    from snakemake.cli import get_argument_parser

    arguments, _ = get_argument_parser().parse_known_args([word for word in words if word != "..."])
    for path in arguments.configfile or []:
        assert Path(path).is_file() or str(path) in made or Path(path).name in ("mine.yaml", "six.yaml"), path
    for profile in filter(None, [arguments.workflow_profile, *(arguments.profile or [])]):
        told = re.fullmatch(r"\$\(cubeflow workflow --profile (\w+)\)", profile)
        assert Path(f"workflow/profiles/{told[1]}" if told else profile).is_dir(), profile


@every_page
def test_configurations_are_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for block in blocks(page):
        if block.language == "yaml" and "method: flat" not in block.text:
            path = tmp_path / "block.yaml"
            path.write_text(block.text)
            if set(YAML(typ="safe").load(path)) <= SECTIONS:
                load_config([REPOSITORY / "config" / "config.yaml", path])


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for target in LINK.findall(text):
        if not target.startswith(("https://", "http://")):
            path, _, anchor = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """Anchors of headings as GitHub and MyST make them, and those that are written out."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


@every_page
def test_paths_exist(page: Path) -> None:
    named = re.findall(r"`((?:src|tests|config|docs|workflow)/[\w./-]+)`", page.read_text())
    for path in named:
        assert (REPOSITORY / path).exists() or any(name in path for name in MADE_BY_READER), f"{page.name}: {path}"


def test_run_table_columns_are_documented() -> None:
    from cubeflow.pipeline.table import FIRST, HEADERS, OF_LABEL

    text = (REPOSITORY / "docs" / "formats.md").read_text()
    columns = (*FIRST, *HEADERS, *OF_LABEL)
    assert [column for column in columns if f"`{column}`" not in text and f"`{column}_0`" not in text] == []


def test_every_name_of_the_front_door_has_its_task_in_the_api() -> None:
    import cubeflow

    text = (REPOSITORY / "docs" / "api.md").read_text()
    named = set(re.findall(r"{(?:func|class)}`~([\w.]+)`", text.partition("## Results")[0]))
    homes = {name: getattr(cubeflow, name).__module__ for name in cubeflow.__all__} | {"load": "cubeflow"}
    assert named == {f"{home}.{name}" for name, home in homes.items()}


def test_nothing_of_the_first_edition_is_named() -> None:
    """What is gone is named in the changelog alone."""
    gone = r"factored|pydantic|`storage\.|steps/|strict_yaml|left-out\.json|cubeflow (background|table|together)\b"
    found = {page.name: re.findall(gone, page.read_text()) for page in [*PAGES, REPOSITORY / "SECURITY.md"]}
    assert not {name: words for name, words in found.items() if words}


def test_pages_build_without_warnings_and_without_the_network(tmp_path: Path) -> None:
    for module in ("myst_parser", "pydata_sphinx_theme"):
        pytest.importorskip(module, reason="the documentation's packages are not installed: make docs")
    run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(REPOSITORY / "docs"), "out"],
        tmp_path,
    )
    for page in (tmp_path / "out").glob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe|link)\b[^>]*?(?:src|href)="(https?:)?//[^"]*"', page.read_text())
        assert not loaded, f"{page.name}: loads from the network"
    assert "<math" in (tmp_path / "out" / "physics.html").read_text()
