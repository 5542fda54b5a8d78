"""The n-th call that changes a file: killed before it or failing, for every n; and the power cut there.

A call that is counted makes, renames, removes, writes, cuts or flushes a file or a folder. What is looked at after each
is the whole of a workflow, from the plan to the report. A process that is killed leaves what is on the disk at that
moment, so one build, copied before each of its calls, shows what all kills leave.
"""

import errno
import io
import itertools
import os
import pickle
import re
import shutil
import sys
import warnings
from pathlib import Path

import pytest

from cubeflow.plan.clean import stale_files
from cubeflow.report import figures
from cubeflow.simulate.store import SimulationOptions, simulate_store

pytestmark = pytest.mark.faults
HEARD = {"rename": (0, 1), "remove": (0,), "mkdir": (0,), "rmdir": (0,), "link": (0, 1), "symlink": (1,)}
HEARD |= {"truncate": (0,), "chmod": (0,)}
OF_OPEN = {"write", "pwrite", "fsync", "truncate", "chmod"}  # of a file that is open: errors do not name it
RANDOM = re.compile(r"\.[0-9a-f]{16}\.tmp$")
SECONDARY = re.compile(r"\.tmp$|^\.cubeflow/(lock|progress)")
UNTOLD = re.compile(r"\.cubeflow/|.*\.tmp$")  # no result
REGION = "icrs\ncircle(83.633, 22.014, {radius})\n"


class Calls:
    """In a process that was forked: `meet` hears of each call below a folder before it is made, and may raise."""

    def __init__(self, folder, meet):
        self.folder, self.meet, self.is_met = f"{folder}/", meet, False
        sys.addaudithook(self.hear)
        for name in ("fsync", "pwrite"):
            setattr(os, name, self.told(name, getattr(os, name)))
        opened, calls = io.open, self

        class Raw(io.FileIO):
            def write(self, data):
                calls.tell("write", self.fileno())
                return super().write(data)

        def open_told(file, mode="r", *args, **kwargs):
            if isinstance(file, int) or not set(mode) & set("wxa+") or not calls.path(file).startswith(calls.folder):
                return opened(file, mode, *args, **kwargs)
            raw = Raw(file, mode.replace("b", ""))
            if "b" not in mode:
                return io.TextIOWrapper(io.BufferedWriter(raw), *args[1:], **kwargs)
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        io.open = open_told

    def told(self, name, original):
        def call(descriptor, *args):
            self.tell(name, descriptor)
            return original(descriptor, *args)

        return call

    def hear(self, event, args):
        name = event.removeprefix("os.")
        if name in HEARD:
            self.tell(name, *(args[place] for place in HEARD[name]))
        elif event == "open" and not isinstance(args[0], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.tell("open", args[0])

    def tell(self, name, *places):
        paths = [self.path(place) for place in places]
        if not self.is_met and any(f"{path}/".startswith(self.folder) for path in paths):
            self.is_met = True  # what `meet` does itself is no call
            try:
                self.meet(name, [path.removeprefix(self.folder) for path in paths])
            finally:
                self.is_met = False

    def path(self, place):
        return str(Path(f"/proc/self/fd/{place}").readlink() if isinstance(place, int) else Path(place).absolute())


def forked(work):
    """Do work in a copy of this process: status of waiting for it, and what `work` gave (None if it was killed)."""
    ends = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: none of them is needed
        child = os.fork()
    if child == 0:
        status = 1
        try:
            with os.fdopen(ends[1], "wb") as told:
                pickle.dump(work(), told)
            status = 0
        except BaseException as error:
            sys.__stderr__.write(f"{error!r}\n")
        finally:
            os._exit(status)
    os.close(ends[1])
    with os.fdopen(ends[0], "rb") as told:
        content = told.read()
    return os.waitpid(child, 0)[1], pickle.loads(content) if content else None


class Tree(dict):
    """Files below a folder, content by name; None for a folder."""

    @classmethod
    def read(cls, folder):
        found = ((path, path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*")))
        return cls((name, None if path.is_dir() else path.read_bytes()) for path, name in found)

    def write(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in self.items():
            path = folder / name
            (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content)

    @property
    def results(self):
        """Files that are artifacts, products, pictures or certificates."""
        return {name: content for name, content in self.items() if content is not None and not UNTOLD.match(name)}

    @property
    def digest(self):
        """The same for trees that differ in the names of temporary files, and in the content of what is no result."""
        known = ((RANDOM.sub("", name), 0 if SECONDARY.search(name) else content) for name, content in self.items())
        return hash(frozenset(known))


class Disk:
    """What of a folder is on the disk: which content was flushed, of files, and which names, of folders."""

    def __init__(self, folder):
        self.folder, self.pending, self.held = folder, None, {}  # files that are held keep their number
        self.names, self.content = {}, {}  # as they are: number by name, content by number
        self.safe_names, self.safe_content = {}, {}
        self.look()
        self.safe_names, self.safe_content = dict(self.names), dict(self.content)

    def look(self):
        """Read the folder as it is."""
        self.names = {}
        for path in sorted(self.folder.rglob("*")):
            number = path.stat().st_ino
            self.names[path.relative_to(self.folder).as_posix()] = number
            if number not in self.held:
                self.held[number] = os.open(path, os.O_RDONLY)
            self.content[number] = None if path.is_dir() else path.read_bytes()

    def before(self, name, path):
        """Take up what the last call has done; another one is about to be made."""
        self.look()
        if self.pending is not None:
            number = self.names.get(self.pending)
            if number is not None and self.content[number] is not None:
                self.safe_content[number] = self.content[number]
            else:
                folder = Path(self.pending)
                kept = {each: number for each, number in self.safe_names.items() if Path(each).parent != folder}
                self.safe_names = kept | {
                    each: number for each, number in self.names.items() if Path(each).parent == folder
                }
        self.pending = path.removeprefix(str(self.folder)) if name == "fsync" else None

    def cuts(self):
        """Trees that a power cut may leave, by its kind."""
        now, safe = self.names, self.safe_names
        folders = {name: number for name, number in now.items() if self.content[number] is None}
        left = {
            "all names": now,
            "no name": safe,
            "no removal": safe | now,
            "no rename": {name: safe[name] for name in now if name in safe},
        }
        for names, found in left.items():
            for lost, spoil in LOST.items():
                found = folders | found
                tree = Tree((name, self.content[number]) for name, number in sorted(found.items()))
                for name, number in found.items():
                    if tree[name] is not None and self.safe_content.get(number) != tree[name]:
                        tree[name] = spoil(tree[name])
                yield f"{names}, {lost}", tree


LOST = {
    "all content": lambda content: content,
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
}
SETTINGS = {"old": ("1.9 deg", 0.3), "new": ("2 deg", 0.4)}  # regions of the same size


class Workflow:
    """A project that is built with one of two settings, from the plan to the report; pictures are not drawn."""

    def __init__(self, bench, patch):
        self.bench = bench
        patch.setattr(
            figures, "draw_map", lambda images, *_: (f"<svg>{images[0].data.tobytes()[:3000].hex()}</svg>", "")
        )
        patch.setattr(figures, "_draw_charts", lambda *_: [])
        patch.setattr(os, "fsync", lambda descriptor: None)  # heard of all the same, and not waited for
        bench.set("exclusion", "exclusion.reg")
        bench.set("stack", {"batch": 2})
        self.made = {name: self.build_from_nothing(name) for name in SETTINGS}

    def build_from_nothing(self, setting):
        Tree().write(self.bench.results)
        self.set(setting)
        status, text = self.build()
        assert status == 0, text
        return Tree.read(self.bench.results)

    def set(self, setting):
        offset_max, radius = SETTINGS[setting]
        self.bench.set("offset_max", offset_max)
        (self.bench.folder / "exclusion.reg").write_text(REGION.format(radius=radius))

    def verbs(self, *kinds):
        """Do some verbs, up to one that fails: its status and all that was said."""
        said = []
        for kind in kinds:
            if kind in ("run", "verify"):
                said.append(self.bench.cubeflow(kind, "-c", self.bench.write_config()))
            else:
                said.append(self.bench.plan() if kind == "plan" else self.bench.do(kind))
            if said[-1][0] != 0:
                break
        return said[-1][0], "".join(text for _, text in said)

    def build(self):
        return self.verbs("run", "plan", "figures", "report")

    def wrong(self, tree, setting):
        """What is wrong with what was left, for the plan of a setting and after another build: lines."""
        tree.write(self.bench.results)
        self.set(setting)
        found = [f"{name} is taken for made" for name in self.untrue(setting)]
        status, text = self.verbs("verify")
        found += [f"verify: {text}"] if status else []
        status, text = self.build()
        found += [f"then {status}: {text}"] if status else []
        now = Tree.read(self.bench.results)
        for name, content in self.made[setting].results.items():
            is_needed = not re.search("/(obs|stack)/", name)  # none is, below a sum that is there
            if now[name] != content if name in now else is_needed:
                found.append(f"{name} is {'other' if name in now else 'not'} there")
        cleaned = {path.relative_to("results").as_posix() for path in stale_files(self.bench.made())}
        found += [f"{name} stays" for name in now.keys() - cleaned if name.endswith((".tmp", ".corrupt"))]
        return [f"{setting}: {line}" for line in found]

    def untrue(self, setting):
        """Files that a plan takes for made and that are not those of a build from nothing."""
        plan = self.bench.made()
        for task in plan.all_tasks:
            files = plan.files(task)
            trusted = filter(plan.exists, files) if task.kind in ("reduce", "stack") else files * plan.is_made(task)
            for file in trusted:
                if (plan.results / file).read_bytes() != self.made[setting][file]:
                    yield file


@pytest.fixture(scope="module")
def workflow(tmp_path_factory, make_bench):
    folder = tmp_path_factory.mktemp("workflow")
    simulate_store(folder / "store", SimulationOptions(tiny=True, n_runs=3, duration_s=600.0, first_obs_id=100001))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Workflow(make_bench(folder), patch)


def left_by(workflow, start):
    """Trees that kills and power cuts leave before each call of a build, by what is left; alike ones once."""

    def work():
        disk, found, told = Disk(workflow.bench.results), {}, []

        def before(name, paths):
            told.append(name)
            disk.before(name, paths[-1])
            for kind, tree in disk.cuts():
                what = "kill" if kind == "all names, all content" else f"power cut, {kind}"
                found.setdefault(tree.digest, (f"{len(told)} ({name} {paths[-1]}), {what}", tree))

        Calls(workflow.bench.results, before)
        status, text = workflow.build()
        assert status == 0, text
        return len(told), list(found.values())

    (workflow.made["old"] if start == "old" else Tree({".cubeflow": None})).write(workflow.bench.results)
    workflow.set("new")
    status, found = forked(work)
    assert status == 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize("start", ["nothing", "old"])
def test_whatever_a_kill_or_a_power_cut_leaves_the_next_start_mends(workflow, start):
    """Before each call; of content that was not flushed nothing, half or zeros are left, of names some are old."""
    count, left = left_by(workflow, start)
    wrong = {}
    for what, tree in left:
        for setting in SETTINGS if start == "old" else ["new"]:
            if lines := workflow.wrong(tree, setting):
                wrong[what] = lines
    assert not wrong, "\n".join(f"{what}: {line}" for what, lines in wrong.items() for line in lines)
    assert count > 100


JOBS = ("plan", "reduce", "stack", "export", "report")  # which draws the figures of so few


@pytest.fixture(scope="module")
def stages(workflow):
    """What there is before each kind of job, and before all: of the old setting all but observations and sums."""
    found = {}
    tree = Tree(
        (name, content) for name, content in workflow.made["old"].items() if not re.search("/(obs|stack)", name)
    )
    tree.write(workflow.bench.results)
    workflow.set("new")
    for kind in JOBS:
        found[kind] = Tree.read(workflow.bench.results)
        assert workflow.verbs(kind)[0] == 0
    found["run"] = Tree.read(workflow.bench.results)
    del found["run"][".cubeflow/digests.json"]
    return found, workflow.bench.planned


def failing(workflow, tree, kind, n, number):
    """Let the n-th call of a verb fail: its name and path (None if there are fewer), status and what was said."""

    def work():
        told, met = [], set()

        def before(name, paths):
            if name == "write" and paths[0] in met:  # of a file the first: each artifact fails at all elsewhere
                return
            met.update(paths if name == "write" else ())
            told.append((name, paths[-1]))
            if len(told) == n:
                raise OSError(number, os.strerror(number), *([] if name in OF_OPEN else paths[:1]))

        Calls(workflow.bench.results, before)
        done = workflow.verbs(kind)
        return (told[n - 1] if len(told) >= n else None), *done

    tree.write(workflow.bench.results)
    workflow.set("new")
    status, found = forked(work)
    assert status == 0, n
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*JOBS, "run"])
def test_a_call_that_fails_is_told_in_a_line_and_costs_nothing_that_was_made(workflow, stages, kind):
    wrong, seen, tree = {}, set(), stages[0][kind]
    for n in itertools.count(1):
        workflow.bench.planned = stages[1]
        call, status, text = failing(workflow, tree, kind, n, errno.EIO)
        if call is None:
            break
        lines = complaints(workflow, tree, call, status, text, errno.EIO)
        left = Tree.read(workflow.bench.results)
        if left.digest not in seen:
            seen.add(left.digest)
            lines += workflow.wrong(left, "new")
        if lines:
            wrong[f"{n} ({' '.join(call)})"] = lines
    assert status == 0, text
    assert not wrong, "\n".join(f"{what}: {line}" for what, lines in wrong.items() for line in lines)


def complaints(workflow, tree, call, status, text, number):
    """What is wrong with the end of a workflow whose call failed: lines."""
    found, left = [], Tree.read(workflow.bench.results).results
    name, path = call
    reason = re.compile(rf"{os.strerror(number)}|\[{errno.errorcode[number]}\]")
    final = re.sub(r"(^|/)\.([^/]+)\.[0-9a-f]{16}\.tmp$", r"\1\2", path)
    harmless = re.match(r"\.cubeflow/(progress|lock)", final) or name == "mkdir"
    if status == 0:
        found += [] if harmless else ["status 0"]
    elif status != 1:
        found.append(f"status {status}")
    if status and not any(final in line and reason.search(line) for line in text.splitlines()):
        found.append(f"no line names {final}: {text}")
    if "Traceback" in text:
        found.append(text)
    lost = [each for each in tree.results if each not in left and not re.search("(made|figures|report)-", each)]
    return found + [f"{each} is lost" for each in lost]
