"""Every reader of files: what is no regular file is refused at once, and JSON that is nested without end."""

import os
import signal

import pytest
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.dl3.files import FileRefused, digest_file, read_content
from cubeflow.errors import FailedError, MistakeError
from cubeflow.pipeline.certificate import holds, read_certificate
from cubeflow.plan.digests import DigestCache
from cubeflow.plan.jobs import read_jobs
from cubeflow.plan.lock import Lock
from cubeflow.regular import open_regular, read_regular
from cubeflow.report.figures import read_figures
from cubeflow.report.runs import read_runs
from cubeflow.store.artifact import ArtifactDamaged, read_artifact
from cubeflow.store.atomic import StorageError, file_sha256
from cubeflow.tools.load import load

KEY = "0123456789abcdef"
DEEP = "[" * 100_000
# Of each reader the name of its file, what it does, and what it answers or raises.
READERS = {
    "plain": ("a", read_regular, OSError),
    "digest of an input": ("a.fits", digest_file, FileRefused),
    "input": ("a.fits.gz", read_content, FileRefused),
    "sum of a product": ("cube.h5", file_sha256, StorageError),
    "artifact": ("a.h5", read_artifact, ArtifactDamaged),
    "loaded": ("cube.h5", load, ArtifactDamaged),
    "certificate": (f"made-{KEY}.json", lambda path: read_certificate(path, KEY), None),
    "size of products": (f"made-{KEY}.json", lambda path: holds(path, KEY), False),
    "digests": ("digests.json", lambda path: DigestCache.load(path).files, {}),
    "plan": ("plan.jsonl", read_jobs, StorageError),
    "run table": ("runs.ecsv", lambda path: read_runs(path.parent, KEY), StorageError),
    "lock": (".cubeflow/lock-a", lambda path: Lock(path.parents[1], "a").take(), StorageError),
    "section of the report": (
        f"t/fov/figures-{KEY}.json",
        lambda path: read_figures(path.parents[2], "t", "fov", KEY),
        FailedError,
    ),
}


@pytest.fixture(autouse=True)
def _no_waiting():
    """End a reader that waits, which none does."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def put(path, kind):
    path.parent.mkdir(exist_ok=True, parents=True)
    {"FIFO": os.mkfifo, "folder": os.mkdir, "device": lambda path: path.symlink_to("/dev/zero")}[kind](path)


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, reader, kind):
    name, read, answer = READERS[reader]
    put(tmp_path / name, kind)
    if isinstance(answer, type):
        with pytest.raises(answer, match=name.rpartition("/")[2]):
            read(tmp_path / name)
    else:
        assert read(tmp_path / name) == answer


@pytest.mark.parametrize("reader", ["certificate", "size of products", "digests", "plan"])
def test_json_that_is_nested_without_end_is_no_json(tmp_path, reader):
    name, read, answer = READERS[reader]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    starts = {"plan": '{"is": "job", "content": ', "digests": "0" * 64 + "\n"}
    (tmp_path / name).write_text(starts.get(reader, "") + DEEP)
    if isinstance(answer, type):
        with pytest.raises((answer, MistakeError), match="nested too deeply"):
            read(tmp_path / name)
    else:
        assert read(tmp_path / name) == answer


@pytest.mark.parametrize("name", ["cube.h5", "runs.csv", "dataset.fits.gz"])
def test_looking_at_a_fifo(tmp_path, name):
    put(tmp_path / name, "FIFO")
    told = CliRunner().invoke(main, ["inspect", str(tmp_path / name)])
    assert told.exit_code in (1, 2)
    assert f"{name}: expected a regular file" in told.output or f"{name}: not a regular file" in told.output


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"abc"
    (tmp_path / "linked").symlink_to("a")
    assert read_regular(tmp_path / "linked") == b"abc"
