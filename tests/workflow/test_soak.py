"""Random operations one after the other: whatever happened before, all is as a build from nothing makes it.

Every step is told with its seed and number, and depends on what these say: ``make soak SEED=... STEPS=...`` comes there
again.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from click.testing import CliRunner

from cubeflow.cli import main
from cubeflow.pipeline.tasks import ReduceTask, StackTask, files_of
from cubeflow.plan.make import Plan
from cubeflow.simulate.store import write_gzip, write_index
from cubeflow.store.atomic import TEMPORARY

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

HERE = Path(__file__).parent
_SPEC = importlib.util.spec_from_file_location("soak_projects", HERE / "conftest.py")
projects = sys.modules["soak_projects"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(projects)

IDS = range(100001, 100009)
KEPT = 60  # builds from nothing, should their state come again
FOV, RING, ONE = (
    projects.CONFIG["backgrounds"]["fov"],
    projects.CONFIG["backgrounds"]["ring"],
    projects.CONFIG["targets"],
)
TWO = {"position": {"frame": "galactic", "lon": "184.2 deg", "lat": "-5.9 deg"}}
TWO["geometry"] = {"frame": "galactic", "projection": "CAR", "width": ["2 deg", "1 deg"], "pixel": "0.1 deg"}
# Of each section what it may be; first what it is at the start, and None where it is not written.
SETTINGS: dict[str, tuple[Any, ...]] = {
    "energy": tuple({"min": "1 TeV", "max": "10 TeV", "bins": bins} for bins in (3, 2, 5)),
    "offset_max": ("1.5 deg", "1.2 deg", "0.3 deg"),
    "exclusion": ("exclusion.reg", None, {"path": "exclusion.reg", "energy_max": "3 TeV"}),
    "backgrounds": (
        {"fov": FOV, "ring": RING},
        {"fov": {**FOV, "on_failure": "error", "min_counts": 40}, "ring": RING},
        {"fov": {**FOV, "on_failure": "drop", "energy_groups": 2}, "ring": RING},
        {"fov": FOV, "annulus": RING},
        {"ring": RING, "fov": FOV},
        {"fov": RING, "ring": FOV},
        {"none": {"method": "none"}},
    ),
    "stack": tuple({"batch": batch, "fanout": fanout} for batch, fanout in ((2, 2), (1, 2), (3, 3), (64, 16))),
    "artifacts": (None, {"compression": "gzip"}, {"compression": "none"}, {"keep": "none"}),
    "on_refused": (None, "fail"),
    "significance": (None, {"radius": "0.2 deg"}),
    "observations": (
        None,
        {"split": "100 s"},
        {"exclude": [100001, 100002]},
        {"split": "gti", "time": [[51544, 60000]]},
    ),
    "targets": (ONE, {**ONE, "two": TWO}),
}
REGIONS = [projects.EXCLUSION, "icrs\ncircle(84.0, 22.3, 0.4)\n", "icrs\ncircle(83.633, 22.014, 0.30001)\n"]


def emptied(content: bytes) -> bytes:
    """Run without events."""
    with fits.open(BytesIO(gzip.decompress(content))) as hdus:
        hdus["EVENTS"].data = hdus["EVENTS"].data[:0]
        return gzip.compress(written(hdus), mtime=0)


def without_energies(content: bytes) -> bytes:
    """Run whose energies are no numbers."""
    with fits.open(BytesIO(gzip.decompress(content))) as hdus:
        hdus["EVENTS"].data["ENERGY"][:] = float("nan")
        return gzip.compress(written(hdus), mtime=0)


def written(hdus: fits.HDUList) -> bytes:
    buffer = BytesIO()
    hdus.writeto(buffer, checksum=True)
    return buffer.getvalue()


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


# What a run may be beside whole: its content, or None for no file; all are refused but one without events.
BROKEN: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": lambda content: content[:-300],
    "flipped": lambda content: flipped(content, 4 * len(content)),
    "text": lambda _: b"no FITS\n",
    "absent": lambda _: None,
    "without energies": without_energies,
    "empty": emptied,
}


@cache
def content_of(path: Path, kind: str | None) -> bytes | None:
    """Content of a run, whole or broken."""
    return path.read_bytes() if kind is None else BROKEN[kind](path.read_bytes())


@dataclass
class Soak:
    """A project, what is known of its runs, settings and damages, and what has been built from nothing."""

    project: Any
    scratch: Path
    rng: random.Random = field(default_factory=random.Random)
    broken: dict[int, str] = field(default_factory=dict)
    renamed: set[int] = field(default_factory=set)
    runs: dict[int, int] = field(default_factory=lambda: dict.fromkeys(IDS[:4], 0))
    settings: dict[str, Any] = field(default_factory=lambda: {key: values[0] for key, values in SETTINGS.items()})
    region: str = REGIONS[0]
    damaged: set[str] = field(default_factory=set)  # files that an operation has damaged, and nobody has seen yet
    lost: set[str] = field(default_factory=set)  # artifacts that an operation has removed, or that were not to be kept
    built: dict[str, tuple[Any, int]] = field(default_factory=dict)  # project from nothing, and its status, by state
    said: str = ""  # by the last build
    group: int = 0  # of the processes of a start that was killed, some of which may be alive

    # --- operations: each gives what it did

    def add(self) -> str:
        absent = sorted(set(IDS) - self.runs.keys())
        if not absent:
            return self.remove()
        obs_id = self.rng.choice(absent)
        self.runs[obs_id] = self.rng.randrange(2)
        return f"add {obs_id}"

    def remove(self) -> str:
        if len(self.runs) == 1:
            return self.add()
        obs_id = self.any_run()
        del self.runs[obs_id]
        self.broken.pop(obs_id, None)
        self.renamed.discard(obs_id)
        return f"remove {obs_id}"

    def replace(self) -> str:
        obs_id = self.any_run()
        self.runs[obs_id] ^= 1
        return f"replace {obs_id}"

    def rename(self) -> str:
        obs_id = self.any_run()
        self.renamed ^= {obs_id}
        return f"rename {obs_id}"

    def spoil(self) -> str:
        obs_id, kind = self.any_run(), self.rng.choice(sorted(BROKEN))
        self.broken[obs_id] = kind
        return f"break {obs_id}: {kind}"

    def mend(self) -> str:
        if not self.broken:
            return self.spoil()
        obs_id = self.rng.choice(sorted(self.broken))
        del self.broken[obs_id]
        return f"mend {obs_id}"

    def change(self) -> str:
        key = self.rng.choice(sorted(SETTINGS))
        self.settings[key] = self.rng.choice([value for value in SETTINGS[key] if value != self.settings[key]])
        return f"{key}: {json.dumps(self.settings[key])[:120]}"

    def revert(self) -> str:
        changed = [key for key, values in SETTINGS.items() if self.settings[key] != values[0]]
        if not changed:
            return self.change()
        key = self.rng.choice(changed)
        self.settings[key] = SETTINGS[key][0]
        return f"revert {key}"

    def exclude(self) -> str:
        self.region = self.rng.choice([region for region in REGIONS if region != self.region])
        return f"exclusion.reg: {self.region.splitlines()[1]}"

    def damage(self) -> str:
        """Flip a bit, cut, exchange or remove some files of the results."""
        files = [path for path in self.files() if not TEMPORARY.fullmatch(path.name)]
        told = []
        for path in self.rng.sample(files, min(len(files), self.rng.randint(1, 4))):
            kind = self.rng.choice(["flip", "cut", "text", "swap", "delete"])
            name, content = str(path.relative_to(self.project.results)), path.read_bytes()
            others = [other for other in files if other.suffix == path.suffix and other.exists()]
            if kind == "delete" or not content:
                path.unlink()
                self.lost.add(name)
            else:
                place = self.rng.randrange(8 * len(content))
                swapped = self.rng.choice(others).read_bytes()
                changes = {
                    "flip": flipped(content, place),
                    "cut": content[: place // 8],
                    "text": b"text",
                    "swap": swapped,
                }
                path.write_bytes(changes[kind])
                self.damaged |= {name} if changes[kind] != content else set()
            told.append(f"{kind} {name}")
        return ", ".join(told)

    def delete_folder(self) -> str:
        """Remove a folder of the results, or all of them."""
        folders = sorted(
            {parent for path in self.files() for parent in path.parents if self.project.folder in parent.parents}
        )
        if not folders:
            return self.change()
        folder = self.rng.choice(folders)
        self.lost |= {str(path.relative_to(self.project.results)) for path in self.files() if folder in path.parents}
        shutil.rmtree(folder)
        return f"delete {folder.relative_to(self.project.folder)}"

    def clean(self) -> str:
        self.write()
        status = self.cubeflow(self.project, "clean", "--yes")
        assert status in (0, 2)  # no run is left
        if status == 0:
            assert self.cubeflow(self.project, "clean", "--json") == 0
            assert json.loads(self.said)["files"] == []
        return "clean --yes"

    def any_run(self) -> int:
        return self.rng.choice(sorted(self.runs))

    # --- store and configuration

    def contents(self) -> dict[str, bytes]:
        """Content of every file of the store."""
        pool = self.project.pool
        found = {"irf.fits.gz": projects.simulated(pool, IDS[0], 0).with_name("irf.fits.gz").read_bytes()}
        for obs_id, variant in self.runs.items():
            content = content_of(projects.simulated(pool, obs_id, variant), self.broken.get(obs_id))
            if content is not None:
                found[f"{'run' if obs_id in self.renamed else 'obs'}_{obs_id}.fits.gz"] = content
        index = self.scratch / "index"
        index.mkdir(exist_ok=True)
        write_index(index, projects.options_of(), sorted(self.runs))
        with fits.open(index / "hdu-index.fits.gz") as hdus:
            names = [
                name.replace("obs", "run") if obs_id in self.renamed and name.startswith("obs") else name
                for obs_id, name in zip(hdus[1].data["OBS_ID"], hdus[1].data["FILE_NAME"], strict=True)
            ]
            hdus[1].data["FILE_NAME"] = names
            write_gzip(index / "hdu-index.fits.gz", written(hdus))
        return found | {path.name: path.read_bytes() for path in index.iterdir()}

    def write(self) -> str:
        """Make store and configuration what they are to be, changing no other file; give the digest of this state."""
        contents, store = self.contents(), self.project.store
        store.mkdir(exist_ok=True)
        for path in store.iterdir():
            if path.name not in contents:
                path.unlink()
        for name, content in contents.items():
            if not (store / name).exists() or (store / name).read_bytes() != content:
                (store / name).write_bytes(content)
        if (self.project.folder / "exclusion.reg").read_text() != self.region:
            (self.project.folder / "exclusion.reg").write_text(self.region)
        self.project.config = self.config()
        self.project.write()
        state = [json.dumps(self.project.config), self.region]
        state += [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in sorted(contents.items())]
        return hashlib.sha256("\n".join(state).encode()).hexdigest()

    def config(self) -> dict[str, Any]:
        changed = {key: value for key, value in self.settings.items() if value is not None}
        return {key: value for key, value in projects.CONFIG.items() if key not in SETTINGS} | changed

    # --- building

    def cubeflow(self, project: Any, *arguments: str) -> int:
        """Exit status of a verb in this process."""
        with contextlib.chdir(project.folder):
            result = CliRunner().invoke(main, [*arguments, "-c", "config.yaml"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.said = result.stdout if "--json" in arguments else result.output
        return result.exit_code

    def start(self, way: str, *arguments: str, kill: str = "", project: Any = None) -> int:
        """Exit status of a build in one way: ``run``, or a target of Snakemake; `kill` says when it is to end."""
        project, environment = project or self.project, projects.environment()
        if way == "run" and not kill:
            return self.cubeflow(project, "run")
        command = project.command("--keep-going", *arguments, way)
        if way == "run":
            command = ["cubeflow", "run", "-c", "config.yaml"]
        if kill:
            paths = [str(HERE / "killing"), environment["PYTHONPATH"]]
            environment |= {"PYTHONPATH": os.pathsep.join(paths), "CUBEFLOW_KILL": kill}
        said = self.scratch / "said"
        said.unlink(missing_ok=True)  # jobs whose scheduler is gone write on
        with said.open("w") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT, "start_new_session": True}
            process = subprocess.Popen(command, cwd=project.folder, env=environment, **streams)
            status = process.wait(timeout=300)
        self.said, self.group = said.read_text(), process.pid if kill else self.group
        return status

    def build(self, way: str) -> int:
        """Start until nothing that was damaged is found any more; give the last exit status."""
        for _ in range(2 + len(self.damaged)):
            status = self.start(way)
            if "start again" not in self.said:
                break
            assert self.damaged, self.said
        while self.group and is_alive(self.group):
            time.sleep(0.05)
        self.group = 0
        return status

    def killed(self, way: str, expected: int) -> str:
        """Start, and kill in the middle: a job, which Snakemake tries again, the scheduler, or both."""
        whom = "job" if way == "run" else self.rng.choice(["job", "scheduler", "group"])
        number, mark = int(self.rng.triangular(1, 80, 1)), self.scratch / "killed"
        mark.unlink(missing_ok=True)
        found = self.start(way, kill=f"{number}:{whom}:{mark}")
        is_dead = mark.exists() and (way == "run" or whom != "job")
        assert found == (-9 if is_dead else as_told_by(way, expected)) or "start again" in self.said, self.said
        return f"kill {whom} at call {number}: {found}"

    # --- what must hold

    def fresh(self, state: str) -> tuple[Any, int]:
        """Project of a state that is built from nothing, and the exit status of `cubeflow run`."""
        if state not in self.built:
            project = self.project.fresh(self.scratch / f"fresh-{state[:16]}")
            project.write()
            way = "run" if self.rng.random() < 0.95 else "all"
            status = self.start(way, project=project)
            said, expected = self.said, self.expected(project)
            assert status == as_told_by(way, expected), said
            self.built[state] = project, expected
            if len(self.built) > KEPT:
                shutil.rmtree(self.built.pop(next(iter(self.built)))[0].folder)
        return self.built[state]

    def expected(self, fresh: Any) -> int:
        """Exit status that the documents tell for what is in the store; the run tables must say the same of it."""
        excluded = (self.settings["observations"] or {}).get("exclude", ())
        selected = self.runs.keys() - set(excluded)
        if all(self.broken.get(obs_id) == "absent" for obs_id in selected):
            return 2
        broken = {obs_id for obs_id in selected if self.broken.get(obs_id, "empty") != "empty"}
        refused, labels = set(), self.settings["backgrounds"]
        for name in self.settings["targets"]:
            rows = list(csv.DictReader((fresh.results / name / "runs.csv").open()))
            assert {int(row["obs_id"]) for row in rows} == selected
            assert {int(row["obs_id"]) for row in rows if row["status"] == "refused"} >= broken
            columns = ["status", *(f"{label}_status" for label in labels)]
            refused |= {int(row["obs_id"]) for row in rows if "refused" in [row[column] for column in columns]}
        may_fail = any(each.get("on_failure") == "error" for each in labels.values())
        assert refused >= broken if may_fail else refused == broken
        return 3 if refused and self.settings["on_refused"] == "fail" else 0

    def files(self) -> list[Path]:
        """Files of the results, sorted."""
        return sorted(path for path in self.project.results.rglob("*") if path.is_file())

    def stamps(self) -> dict[str, tuple[int, ...]]:
        """What tells that anything was written anywhere in the results."""
        found = {str(path): path.lstat() for path in self.project.results.rglob("*")}
        return {name: (about.st_ino, about.st_size, about.st_mtime_ns) for name, about in found.items()}

    def step(self) -> Iterator[str]:
        """Do an operation or several, build, and look whether all is as it must be; tell what is done."""
        operations = [self.add, self.remove, self.replace, self.rename, self.spoil, self.mend, self.exclude, self.clean]
        operations += [self.change] * 4 + [self.revert] * 2 + [self.damage] * 3 + [self.delete_folder]
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            yield self.rng.choice(operations)()
        way = self.rng.choice(["run"] * 12 + ["products", "all"])
        fresh, expected = self.fresh(self.write())
        yield f"{way}: {as_told_by(way, expected)}"
        if way != "run":
            before = self.stamps()
            assert self.start(way, "--dry-run") == 2 * (expected == 2), self.said
            assert self.stamps() == before, "a dry run has written"
        if self.rng.random() < 0.15:
            yield self.killed(way, expected)
        assert self.build(way) == as_told_by(way, expected), self.said
        if expected != 2:
            self.verify(way, expected)
        again = "run" if self.rng.random() < 0.9 else way
        before = self.project.stamps()
        assert self.start(again) == as_told_by(again, expected), self.said
        assert self.project.stamps() == before, "made again without need"
        self.compare(fresh, expected)

    def verify(self, way: str, expected: int) -> None:
        """Let ``cubeflow verify`` look at every byte, and make again what was damaged unseen; then all is sound."""
        before = self.stamps()
        status = self.cubeflow(self.project, "verify", "--json")
        found = {os.path.relpath(path, "results") for path in json.loads(self.said)["damaged"]}
        assert found <= self.damaged
        assert status == bool(found)
        assert self.stamps() == before, "verify has written"
        if found:
            assert self.cubeflow(self.project, "verify", "--set-aside") == 1
            assert self.build(way) == as_told_by(way, expected), self.said
            assert self.cubeflow(self.project, "verify") == 0, self.said

    def compare(self, fresh: Any, expected: int) -> None:
        """Compare with what was built from nothing, byte for byte."""
        plan, results, others = self.project.plan(), self.project.results, fresh.results
        made, made_there = files_by_task(self.project, plan), files_by_task(fresh, fresh.plan())
        assert [files for _, files, _ in made] == [files for _, files, _ in made_there]
        if expected == 2:
            return
        there, artifacts = set(), set()
        for (task, files, is_made), (*_, is_made_there) in zip(made, made_there, strict=True):
            if isinstance(task, ReduceTask | StackTask):
                artifacts |= set(files_of(task))
            else:
                assert is_made == is_made_there or task.kind in ("figures", "report"), task
                there |= set(files) if is_made else set()
        if (self.settings["artifacts"] or {}).get("keep") == "none":
            self.lost |= artifacts
        there |= {file for file in artifacts if (results / file).exists()}
        assert artifacts - there <= self.lost
        for file in there:
            if (others / file).exists():
                assert (results / file).read_bytes() == (others / file).read_bytes(), file
        self.lost -= there
        self.damaged = {file for file in self.damaged - there if (results / file).exists()}
        units = {keys.unit.name for found in plan.tasks.values() for task in found.reduce for keys in task.units}
        left = [path for path in self.files() if TEMPORARY.fullmatch(path.name)]
        assert not [path for path in left if path.parent.parent.name != "obs" or path.parent.name in units]


def files_by_task(project: Any, plan: Plan) -> list[tuple[Any, list[str], bool]]:
    """Each task of a plan with its files, and whether these are made."""
    with contextlib.chdir(project.folder):
        return [(task, plan.files(task), plan.is_made(task)) for task in plan.all_tasks]


def as_told_by(way: str, status: int) -> int:
    """Exit status of a way of building where that of `cubeflow run` is another: Snakemake knows of no 3."""
    return 1 if status == 3 and way != "run" else status


def is_alive(group: int) -> bool:
    """Whether any process of a group has not ended."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, found = path.read_text().rpartition(")")[2].split()[:3]
            if int(found) == group and state != "Z":
                return True
    return False


def seed_of_the_commit() -> int:
    """Number that is another one at each commit."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False)
    return int(done.stdout[:8] or "1", 16)


def test_random_operations_equal_a_build_from_nothing(make_project, tmp_path):
    seed, steps = int(os.environ.get("SOAK_SEED") or seed_of_the_commit()), int(os.environ.get("SOAK_STEPS") or 60)
    soak = Soak(make_project(tmp_path / "project"), tmp_path)
    for number in range(steps):
        soak.rng.seed(f"{seed}:{number}")
        print(f"\nseed {seed} step {number + 1}", end="", flush=True)
        start = time.monotonic()
        for told in soak.step():
            print(f"; {told}", end="", flush=True)
        print(f" ({time.monotonic() - start:.1f} s)", end="", flush=True)
