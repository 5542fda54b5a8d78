"""Faults 40 to 44, 53 to 55, 57 and 58: processes that die, two at once, limits, and what pages show.

A child is a fork of this process, in which everything is imported already: a killed worker costs
milliseconds, not the seconds of a new Python.
"""

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
import traceback
from array import array
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from cubeflow.cli import main
from cubeflow.cli.group import ending_in_order
from cubeflow.dl3 import files
from cubeflow.errors import FailedError
from cubeflow.plan.lock import Lock, LockedError
from cubeflow.plan.run import do_task
from cubeflow.plan.workflow import WorkflowPlan
from cubeflow.simulate.store import SimulationOptions, simulate_store

pytestmark = pytest.mark.faults
GOOD, BAD = 100001, 100002
REPOSITORY = Path(__file__).parents[2]
N_RUNS = 8


def fork(work) -> int:
    """Run `work` in a child; its exit status is that of `work`, as the command line would give it."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        work()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Exit status of a child; minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def verb(*arguments):
    """Work for `fork`: a verb of the command line."""
    return lambda: main([str(argument) for argument in arguments], standalone_mode=True)


@pytest.fixture(scope="module")
def longer_store(tmp_path_factory):
    """Enough runs to die in the middle of."""
    folder = tmp_path_factory.mktemp("longer") / "store"
    simulate_store(folder, SimulationOptions(tiny=True, n_runs=N_RUNS, duration_s=300.0, first_obs_id=GOOD))
    return folder


@pytest.fixture
def longer(bench, longer_store):
    """Bench with `N_RUNS` runs."""
    shutil.rmtree(bench.store)
    shutil.copytree(longer_store, bench.store)
    bench.set("stack", {"batch": 1024})
    return bench


def make_undisturbed(bench):
    """Products of a run that nothing disturbs, and how long its reduction takes in a child."""
    assert bench.plan()[0] == 0
    (job,) = bench.jobs("reduce")
    start = time.perf_counter()
    assert wait(fork(verb(*job))) == 0
    duration = time.perf_counter() - start
    assert bench.run().status == 0
    products = bench.products()
    shutil.rmtree(bench.results)
    return products, duration


def test_fault_40_fifty_kills_of_a_worker(longer):
    """Each life goes on where the last one ended; after fifty deaths the bytes are those of an undisturbed run."""
    expected, duration = make_undisturbed(longer)
    rng, killed = random.Random(40), 0
    while killed < 50:
        shutil.rmtree(longer.results, ignore_errors=True)
        assert longer.plan()[0] == 0
        (job,) = longer.jobs("reduce")
        for _ in range(5):
            child = fork(verb(*job))
            time.sleep(rng.uniform(0, duration / 2))
            os.kill(child, signal.SIGKILL)
            killed += wait(child) == -signal.SIGKILL
        outcome = longer.run()
        assert outcome.status == 0, outcome.text
        assert longer.products() == expected
        assert not list(longer.results.rglob("*.corrupt*"))
        assert not [path for path in longer.leftovers() if ".h5." in path.name and "/obs/" in str(path)]


@pytest.mark.workflow
@pytest.mark.slow
def test_fault_40_ten_kills_of_the_scheduler(longer):
    """Half of them take the whole group along. The next start takes the lock of the dead one and goes on."""
    expected = undisturbed_workflow(longer)
    rng = random.Random(41)
    for number in range(10):
        process = snakemake(longer.folder)
        time.sleep(rng.uniform(1.0, 6.0))
        if number % 2:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    process = snakemake(longer.folder)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 0, text
    assert longer.products() == expected


def undisturbed_workflow(bench):
    assert bench.run().status == 0
    assert bench.finish()[0] == 0
    products = bench.products()
    shutil.rmtree(bench.results)
    for name in ("workflow", "config"):
        shutil.copytree(REPOSITORY / name, bench.folder / name)
    shutil.copy(REPOSITORY / "environment.yml", bench.folder)
    return products


def snakemake(folder):
    """Start the workflow in a process group of its own."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config.yaml", "--printshellcmds"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fault_41_signals(longer, number):
    """Temporary files are gone, and the exit status says which signal it was."""
    _, duration = make_undisturbed(longer)
    rng, stopped = random.Random(41), 0
    assert longer.plan()[0] == 0
    (job,) = longer.jobs("reduce")
    for _ in range(15):
        shutil.rmtree(longer.results / "t" / "obs", ignore_errors=True)
        shutil.rmtree(longer.results / "t" / "stack", ignore_errors=True)
        ready, begin = os.pipe()
        child = fork(lambda begin=begin: (os.write(begin, b"x"), ending(verb(*job))))
        os.read(ready, 1)
        time.sleep(0.02 + rng.uniform(0, duration * 0.7))
        os.kill(child, number)
        status = wait(child)
        os.close(ready)
        os.close(begin)
        assert status in (0, 128 + number)
        stopped += status != 0
        assert longer.leftovers() == []
    assert stopped > 5


def ending(work):
    """Handle signals from the start, as the command line does once it runs."""
    with ending_in_order():
        work()


def test_fault_41_a_signal_while_a_reader_of_the_log_sleeps():
    """What is half written takes no second text before it: the signal is told all the same, and ends the process."""
    code = (
        "import sys\n"
        "from cubeflow.cli.group import ending_in_order\n"
        "with ending_in_order():\n"
        "    sys.stderr.write('x' * (1 << 22))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""}
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, env=environment) as process:
        pipe, size = process.stderr.fileno(), array("i", [0])
        while size[0] < fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ):
            time.sleep(0.01)
            fcntl.ioctl(pipe, termios.FIONREAD, size)
        process.terminate()
        text = process.stderr.read().replace(b"x", b"")
    assert (process.returncode, text) == (143, b"cubeflow: stopped by SIGTERM\n")


def test_fault_42_two_runs_in_one_folder(bench):
    """The second says who holds the lock; a holder that was killed holds nothing."""
    lock = Lock(bench.results, bench.made().config)
    ready, begin = os.pipe()

    def hold():
        lock.take()
        os.write(begin, b"x")
        time.sleep(60)

    child = fork(hold)
    os.read(ready, 1)
    with pytest.raises(LockedError, match=rf"process {child} on .* since .* is at work here"):
        lock.take()
    os.kill(child, signal.SIGKILL)
    wait(child)
    with lock.held():
        pass
    os.close(ready)
    os.close(begin)


def test_fault_43_two_writers_of_one_artifact(longer):
    expected, _ = make_undisturbed(longer)
    for _ in range(3):
        shutil.rmtree(longer.results, ignore_errors=True)
        assert longer.plan()[0] == 0
        (job,) = longer.jobs("reduce")
        children = [fork(verb(*job)) for _ in range(3)]
        assert [wait(child) for child in children] == [0, 0, 0]
        assert longer.leftovers() == []
        assert longer.run().status == 0
        assert longer.products() == expected


def nothing_to_do(bench):
    plan = bench.made()
    made = {task.kind for task in plan.all_tasks if plan.is_made(task)}
    left = {task.kind for task in plan.all_tasks if not plan.is_made(task)}
    return made == {"reduce", "export", "table"} and left == {"figures", "report"}


def test_fault_44_times_and_copies_mean_nothing(bench):
    """Times in the future or the past, touched inputs, a copied store, a copied tree: nothing is computed again."""
    assert bench.run().status == 0
    assert bench.finish()[0] == 0
    assert nothing_to_do(bench)
    rng = random.Random(44)
    for path in [*bench.store.iterdir(), *bench.results.rglob("*.h5"), *bench.results.rglob("*.fits.gz")]:
        when = time.time() + rng.uniform(-1e7, 1e9)
        os.utime(path, (when, when))
    assert nothing_to_do(bench)
    shutil.copytree(bench.store, bench.folder / "elsewhere")
    shutil.rmtree(bench.store)
    bench.set("data.store", "elsewhere")
    assert nothing_to_do(bench)
    shutil.copytree(bench.results, bench.folder / "cloned")
    shutil.rmtree(bench.results)
    bench.set("results", "cloned")
    bench.results = bench.folder / "cloned"
    assert nothing_to_do(bench)


def address_space() -> int:
    """Bytes of address space this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def test_fault_53_memory_limit(bench):
    """The job of the large target fails with estimate and limit; that of the small one is done."""
    bench.set("targets.large", json.loads(json.dumps(bench.config["targets"]["t"])))
    bench.set("targets.large.geometry", {"width": ["10 deg", "10 deg"], "pixel": "0.002 deg"})
    bench.set("memory", "64 GB")
    plan = bench.made()
    tasks = {name: found.reduce[0] for name, found in plan.tasks.items()}
    log = bench.folder / "log"

    def limited(name):
        def work():
            limit = address_space() + 2**27
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            try:
                do_task(plan.results, plan.targets[name], tasks[name], lambda line: None)
            except FailedError as error:
                log.write_text(str(error))
                sys.exit(error.status)

        return work

    assert wait(fork(limited("large"))) == 1
    text = log.read_text()
    assert "memory ran out: the limit is" in text
    assert "cubeflow plan says what a job needs" in text
    assert wait(fork(limited("t"))) == 0, log.read_text()


def test_fault_54_input_that_hangs(bench, undisturbed, monkeypatch):
    """A disk that does not answer: the job fails after the wall limit with a message; tried again, it is done."""
    assert bench.plan()[0] == 0
    read, answer = files._read_regular, threading.Event()

    def hanging(path, take):
        if path.name == bench.file().name:
            answer.wait(30)
        return read(path, take)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_read_regular", hanging)
        patch.setattr(files, "READ_LIMIT_S", 0.3)
        status, text = bench.reduce()
        answer.set()
    assert status == 1
    assert f"{bench.file()}: not read within 0.3 s: the disk does not answer" in text
    assert bench.artifact(GOOD).exists()
    assert bench.reduce()[0] == 0
    assert bench.artifact(BAD).read_bytes() == undisturbed.artifact(BAD).read_bytes()


def test_fault_55_warnings_are_errors(pytestconfig):
    assert pytestconfig.getini("filterwarnings")[0] == "error"


def test_fault_55_any_order_of_jobs_gives_the_same_bytes(longer):
    longer.set("stack", {"batch": 2, "fanout": 2})
    found = []
    for seed in range(3):
        shutil.rmtree(longer.results, ignore_errors=True)
        assert longer.plan()[0] == 0
        plan = longer.made()
        tasks = list(plan.tasks["t"].reduce)
        assert len(tasks) > 2
        random.Random(seed).shuffle(tasks)
        works = [partial(do_task, plan.results, plan.targets["t"], task, lambda line: None) for task in tasks]
        children = [fork(work) for work in works[:2]]
        assert [wait(child) for child in children] == [0, 0]  # two at the same time
        for work in works[2:]:
            work()
        assert longer.finish()[0] == 0
        found.append(longer.products())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("threads", ["1", "4"])
def test_fault_55_any_number_of_threads_gives_the_same_bytes(bench, undisturbed, threads):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **dict.fromkeys(names, threads)}
    assert bench.plan()[0] == 0
    command = [sys.executable, "-c", "from cubeflow.cli import main; main()", *bench.jobs("reduce")[0]]
    subprocess.run(command, check=True, env=environment)
    assert bench.artifact().read_bytes() == undisturbed.artifact().read_bytes()
    assert bench.leaf().read_bytes() == undisturbed.leaf().read_bytes()


def hostile_object(bench, name=b"<script>alert(1)</script>\xff\xfe[red]"):
    """A name that is a script, with bytes that are no UTF-8."""
    content = bench.content()
    position = content.index(b"OBJECT  =")
    card = b"OBJECT  = '" + name + b"'"
    bench.put(strip_sums(content[:position] + card.ljust(80) + content[position + 80 :]))


def strip_sums(content: bytes) -> bytes:
    """File without checksums."""
    for key in (b"CHECKSUM=", b"DATASUM ="):
        while key in content:
            position = content.index(key)
            content = content[:position] + b"COMMENT  " + content[position + 9 :]
    return content


def test_fault_57_hostile_texts(bench):
    hostile_object(bench)
    outcome = bench.run()
    assert outcome.status == 0, outcome.text
    assert outcome.rows[BAD]["object"] == "<script>alert(1)</script>??[red]"
    assert (bench.results / "t" / "runs.ecsv").read_bytes().decode("utf-8")
    status, text = bench.cubeflow("check", "store")
    assert status == 0
    assert "<script>alert(1)</script>" in text
    assert "[red]" in text


@pytest.mark.parametrize("name", [b"bell\x07", b"a\nb", b"\x1b[31m", b"a\0b"])
def test_fault_57_control_characters_are_no_name(bench, name):
    """A text that FITS does not allow is no text; the run is good."""
    hostile_object(bench, name)
    outcome = bench.run()
    assert (outcome.status, outcome.rows[BAD]["status"], outcome.rows[BAD]["object"]) == (0, "ok", "")
    assert not set("\x07\x1b\0") & set(outcome.text + bench.cubeflow("check", "store")[1])


def test_fault_57_hostile_texts_in_the_page(bench):
    """No text of a file becomes part of the page's structure; neither does the reason of a refusal."""
    hostile_object(bench)
    bench.header("EVENTS", obs_id=GOOD, OBJECT="</td><img src=x onerror=alert(1)>")
    assert bench.run().status == 0
    assert bench.finish()[0] == 0
    assert bench.do("figures")[0] == 0
    assert bench.do("report")[0] == 0
    page = (bench.results / "t" / "report.html").read_bytes().decode("utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "alert(1)" in page  # it is shown, not dropped


def test_fault_58_a_killed_job_is_tried_again_with_more():
    """Each attempt asks for more memory and time; the profile says how many there are."""
    job = SimpleNamespace(memory_mb=1000, seconds=60.0)
    needs = WorkflowPlan.memory_mb(None, job), WorkflowPlan.minutes(None, job)
    asked = [tuple(need(None, attempt) for need in needs) for attempt in (1, 2, 3)]
    assert asked == sorted(set(asked))
    assert asked[1][0] >= 1.4 * asked[0][0]
    for rule in ("reduce", "stack", "export"):
        text = (REPOSITORY / "workflow" / "rules" / f"{rule}.smk").read_text()
        assert "PLAN.memory_mb" in text
        assert "PLAN.minutes" in text
    assert "retries:" in (REPOSITORY / "workflow" / "profiles" / "default" / "config.yaml").read_text()
