"""Results in a storage of Snakemake: S3, served on loopback, and a folder that stands for one."""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

pytestmark = pytest.mark.workflow

NOTHING = "Nothing to be done"
RUNS = range(100001, 100006)
PLACE = "iact", "crab/results/"  # bucket, and what the names of results begin with
BESIDE = (".cubeflow/", "logs/", "benchmarks/")
Objects = dict[str, tuple[datetime.datetime, bytes]]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an S3 server with nothing in it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def objects(endpoint: str) -> Objects:
    """Time and content of each result in S3, by its path below the results."""
    bucket, start = PLACE
    service = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1")
    found = {each.key.removeprefix(start): each for each in service.Bucket(bucket).objects.all()}
    kept = {name: each for name, each in found.items() if not name.startswith(BESIDE)}
    return {name: (each.last_modified, each.get()["Body"].read()) for name, each in kept.items()}


def contents(folder: Path) -> dict[str, bytes]:
    """Content of each result in a folder."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(BESIDE)}


def built(project, folder: Path) -> dict[str, bytes]:
    """What the same runs and configuration give without Snakemake: all but pictures and page."""
    fresh = project.fresh(folder)
    fresh.build()
    return contents(fresh.results)


def test_results_in_s3_are_those_of_a_folder(project, tmp_path, endpoint):
    """To the byte; nothing is done twice; and of a run that is added only what is new is made and stored."""
    project.put(RUNS[:3])
    options = "--default-storage-provider", "s3", "--default-storage-prefix", "s3://iact/crab"
    options += "--storage-s3-endpoint-url", endpoint
    project.snakemake(*options)
    first = objects(endpoint)
    expected = built(project, tmp_path / "plain")
    assert expected == {name: content for name, (_, content) in first.items() if name in expected}
    assert {"one/report.html", "one/exclusion.reg", "one/ring/significance.svg"} <= first.keys() - expected.keys()
    assert contents(project.results) == {}
    assert NOTHING in project.snakemake(*options)
    assert objects(endpoint) == first

    project.put(RUNS[:4])
    project.snakemake(*options)
    second = objects(endpoint)
    of_runs = {name for name in first if name.startswith(("one/obs/", "one/stack/"))}
    assert {name for name in of_runs if second[name] != first[name]} == set()
    assert {name.split("/")[2] for name in second.keys() - first.keys() if "/obs/" in name} == {str(RUNS[3])}
    expected = built(project, tmp_path / "later")
    assert expected == {name: content for name, (_, content) in second.items() if name in expected}


class Stored:
    """A project whose results lie in a folder that Snakemake takes for a storage."""

    def __init__(self, project, folder: Path) -> None:
        self.project, self.folder = project, folder / "results"
        self.options = "--default-storage-provider", "fs", "--default-storage-prefix", str(folder)

    def snakemake(self, *arguments: str, **others) -> str:
        return self.project.snakemake(*self.options, *arguments, **others)

    def inodes(self, pattern: str) -> dict[str, int]:
        """Inode of each file in the storage: one that is stored again gets another."""
        return {path.relative_to(self.folder).as_posix(): path.stat().st_ino for path in self.folder.glob(pattern)}

    def changes(self, before: dict[str, bytes]) -> set[str]:
        """Files that were there and have another content, or none, but the page, which names the command."""
        now = contents(self.folder)
        return {name for name in before if not name.startswith("one/report") and now.get(name) != before[name]}


@pytest.fixture(scope="module")
def template(make_project, tmp_path_factory, find_program):
    """Folder with stored results of five runs, made by Snakemake."""
    find_program("rsync")  # with which the plugin copies
    folder = tmp_path_factory.mktemp("template")
    project = make_project(folder / "project")
    project.put(RUNS)
    Stored(project, folder / "stored").snakemake()
    return folder


@pytest.fixture
def stored(template, make_project, tmp_path):
    """A copy of it, with the times that files have, and none of what Snakemake knows of it."""
    shutil.copytree(template / "stored", tmp_path / "stored")
    project = make_project(tmp_path / "project")
    project.put(RUNS)
    return Stored(project, tmp_path / "stored")


@pytest.mark.slow
def test_all_files_are_those_of_an_ordinary_start(stored, tmp_path):
    """Pictures and page, too, but that the page names the command by which it was made."""
    plain = stored.project.fresh(tmp_path / "plain")
    plain.snakemake()
    expected = contents(plain.results)
    assert stored.changes(expected) == set()
    assert contents(stored.folder).keys() == expected.keys()
    option = stored.options[0].encode()
    assert option in (stored.folder / "one/report.html").read_bytes()
    assert option not in expected["one/report.html"]


@pytest.mark.slow
def test_changes_are_made_and_reverted(stored):
    """A certificate whose products have been replaced does not count, though nobody has removed it."""
    before, kept = contents(stored.folder), stored.inodes("one/obs/*/*.h5").items()
    backgrounds = stored.project.config["backgrounds"]
    stored.project.write(backgrounds={**backgrounds, "ring": {**backgrounds["ring"], "width": "0.3 deg"}})
    stored.snakemake()
    changes = {name for name in stored.changes(before) if name.endswith((".h5", ".fits.gz"))}
    assert changes == {f"one/ring/{name}" for name in ("cube.h5", "dataset.fits.gz", "significance.fits.gz")}
    stored.project.write(backgrounds=backgrounds)
    stored.snakemake()
    assert stored.changes(before) == set()
    assert kept <= stored.inodes("one/obs/*/*.h5").items()
    assert NOTHING in stored.snakemake()


@pytest.mark.slow
def test_looking_changes_nothing_and_sees_all(stored):
    before = stored.inodes("**/*")
    summary = stored.snakemake("--summary")
    assert all(name in summary for name in stored.inodes("one/obs/*/*.h5"))
    assert NOTHING in stored.snakemake("--dry-run")
    stored.snakemake("--report", "snakemake.html")
    assert "significance" in (stored.project.folder / "snakemake.html").read_text()
    assert stored.inodes("**/*") == before


@pytest.mark.slow
def test_lost_files_are_made_again_and_all_where_that_is_asked(stored):
    before = contents(stored.folder)
    artifact = next(stored.folder.glob("one/obs/100001/reduced-*.h5"))
    artifact.unlink()
    (stored.folder / "one/ring/dataset.fits.gz").unlink()
    stored.snakemake()
    name = artifact.relative_to(stored.folder).as_posix()
    assert stored.changes(before) == {name}, "it lies below a stack that is there"
    stored.snakemake("--", f"results/{name}")
    assert stored.changes(before) == set()
    inodes = stored.inodes("one/**/*.h5")
    stored.snakemake("--forceall")
    assert not inodes.items() & stored.inodes("one/**/*.h5").items()
    assert stored.changes(before) == set()


@pytest.mark.slow
def test_what_was_damaged_is_removed_from_the_storage_and_made_again(stored):
    before = contents(stored.folder)
    next(stored.folder.glob("one/fov/made-*.json")).unlink()
    for path in stored.folder.glob("one/stack/fov/*.h5"):
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    for file in ("export_1", "stack-one-fov", "stack-one-fov"):
        output = stored.snakemake(status=1, is_talkative=False)
        assert re.search(rf"damaged \(.*\); set aside as .*, start again to make it; see results/logs/{file}", output)
    output = stored.snakemake()
    assert "was damaged; removed from the storage" in output
    assert stored.changes(before) == set()
    assert list(stored.project.folder.rglob("*.corrupt*")) == []
