"""What the rules of the workflow ask a plan."""

import atexit
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from cubeflow.config.load import load_from_command_line
from cubeflow.errors import FailedError, MistakeError, Say
from cubeflow.pipeline.progress import showing
from cubeflow.pipeline.tasks import FOLDER, PICTURES, Task
from cubeflow.plan.jobs import Job, read_jobs
from cubeflow.plan.lock import Lock
from cubeflow.plan.make import Plan, make_plan, require_runs, say_planned
from cubeflow.plan.run import finish, forget_other_plans, target_lines
from cubeflow.plan.storage import damaged_copies, look, place, remove

# Options with which Snakemake looks at all files, writes none of them, and must see all as if none were there.
LOOKS = ("-[a-zA-Z]*[SD]", "--(detailed-)?summary", "--(rule|file)?graph", "--(d3)?dag", "--report")
READS = (*LOOKS, "-[a-zA-Z]*n", "-l", "--dry-?r(un?)?", "--list.*", "--lint", "--unlock")
WHOLE = (*LOOKS, "-[a-zA-Z]*[FfR]", "--force(all|run)?")
TALKS = (*READS, "-p", "--printshellcmds", "--verbose", "--debug-dag")  # ask for what Snakemake itself says
NOTHING = "Nothing to be done"
SNAKEMAKE_MB = 350  # of the two Snakemake that a cluster job consists of, beside the command that they start
START_MINUTES = 5  # the same for time: imports from a busy shared file system, twice
PLAN_VARIABLE = "CUBEFLOW_PLAN"  # names the file of the plan to the jobs of a workflow


@dataclass(eq=False)
class WorkflowPlan:
    """A plan as the rules ask for it, in the main process of Snakemake or in that of a cluster job."""

    results: str
    folder: str  # where jobs find them
    file: str  # of the plan, which is there when jobs start
    all_jobs: Sequence[Job]  # for which there are rules
    plan: Plan | None  # None in a cluster job
    say: Say
    workflow: Any  # of Snakemake

    def __post_init__(self) -> None:
        self.nodes = {job.outputs[0]: job for job in self.jobs("stack")}
        self._lock = None if self.plan is None else Lock(Path(self.results), self.plan.config)
        self._shown = ExitStack()
        self._told: set[str] = set()  # targets
        self.here = self.plan and replace(self.plan, stored=None)  # what is said of it is in the folder
        self._begun = 0.0  # when jobs began, s on the clock of `time.monotonic`

    def files(self, *kinds: str) -> list[str]:
        """Files that all tasks of some kinds make, and those that were damaged; none in a cluster job."""
        if (plan := self.plan) is None:
            return []
        made = (plan.files(task) for task in plan.all_tasks if task.kind in kinds)
        return self.below(chain(*made, *map(plan.set_aside, plan.all_tasks)))

    def jobs(self, kind: str) -> list[Job]:
        """Jobs of a kind."""
        return [job for job in self.all_jobs if job.kind == kind]

    def sources(self, job: Job) -> list[str]:
        """DL3 files of a job; none where no file system is shared: there what reads a local file would be done here."""
        shared = {each.name for each in self.workflow.storage_settings.shared_fs_usage}
        return [*job.sources] if "INPUT_OUTPUT" in shared else []

    def below(self, files: Iterable[str]) -> list[str]:
        """Paths of files below the results."""
        return [f"{self.results}/{file}" for file in files]

    @property
    def node_pattern(self) -> str:
        """Regular expression of the inner nodes."""
        return "|".join(sorted({Path(file).stem for file in self.nodes}))

    def node(self, wildcards: Any) -> Job:
        """Job of an inner node, by the wildcards of its file."""
        return self.nodes[f"{wildcards.target}/stack/{wildcards.label}/{wildcards.node}.h5"]

    def environment(self, _: Any) -> None:
        """No environment of its own for any job: that of Snakemake holds cubeflow, or there were no plan."""

    def memory_mb(self, job: Job) -> Callable[..., int]:
        """Memory to ask for in MB, half as much again with every further attempt."""
        return lambda _wildcards, attempt: int((job.memory_mb + SNAKEMAKE_MB) * (1 + 0.5 * (attempt - 1)))

    def minutes(self, job: Job) -> Callable[..., int]:
        """Time in minutes: a generous multiple of an estimate, and as much again with every further attempt."""
        return lambda _wildcards, attempt: (1 + int(job.seconds * 20 / 60) + START_MINUTES) * attempt

    def shown(self, report: Callable[..., Any], file: str) -> Any:
        """Output of a job; a picture with its place in Snakemake's own report."""
        path, name = f"{self.results}/{file}", Path(file).name
        if name not in PICTURES:
            return path
        (target, label, _), kind = file.split("/"), Path(file).stem
        about = {"target": target, "background": label, "map": kind}
        return report(path, caption=f"../report/{kind}.rst", category=target, subcategory=label, labels=about)

    def hold(self) -> None:
        """Take the lock, until the workflow or the process ends."""
        if self._lock is not None:
            self._lock.take()
            atexit.register(self._lock.release)

    def begin(self, is_quiet: bool, asked: Iterable[str] = ()) -> None:
        """Take the lock and write the plan: the first job is about to start, for what is asked, or for all."""
        if self.plan is None:
            return
        self.hold()
        self.plan.sweep()
        self.plan.write()
        forget_other_plans(self.plan)
        total = sum(len(task.units) for task in self.plan.needed if task.kind == "reduce")
        if {"all", "report"} & {*(asked or ["all"])}:
            total += sum(task.kind == "figures" for task in self.plan.needed)
        if not is_quiet:
            self._begun = time.monotonic()
            self._shown.enter_context(showing(self.plan.results, total, self.say, self._tell_finished))

    def end(self, is_done: bool) -> None:
        """Give the lock back, and say what was made."""
        self._shown.close()
        if self._lock is not None:
            self._lock.release()
        if is_done and self.here is not None:
            finish(self.here, self.say, self._told)

    def _tell_finished(self) -> None:
        """Say of each target what was found, as soon as its products are there."""
        assert self.here is not None
        for name, found in self.here.tasks.items():
            tasks: list[Task] = [*found.export, *([found.table] if found.table else [])]
            if name not in self._told and tasks and all(map(self.here.is_made, tasks)):
                with suppress(FailedError, OSError):  # is said at the end, by who can fail
                    for line in [*target_lines(self.here, name, time.monotonic() - self._begun)]:
                        self.say(line)
                    self._told.add(name)


def plan_workflow(workflow: Any, config: Mapping[str, Any], say: Say) -> WorkflowPlan:
    """Plan in the main process of Snakemake; in a cluster job, read what the main process has planned.

    Configuration files and overrides are those of the workflow; of one that is used as a module, the `config` alone.
    Raises as `make_plan`.
    """
    is_module = getattr(workflow.modifier, "namespace", None) is not None
    files = [] if is_module else list(workflow.config_settings.configfiles) or ["config/config.yaml"]
    given = dict(config) if is_module else dict(workflow.config_settings.config)
    loaded = load_from_command_line(files, given)
    results, folder = str(loaded.results), str(place(workflow, str(loaded.results)))
    if not workflow.is_main_process:
        file = os.environ.get(PLAN_VARIABLE) or _latest(loaded.results)
        return WorkflowPlan(results, folder, file, read_jobs(Path(file), _allowed(sys.argv)), None, say, workflow)
    only_looks, plan = _has_option(sys.argv, *READS), make_plan(loaded, say)
    say_planned(plan, say)
    require_runs(plan)
    named = {file: task for task in plan.all_tasks for file in plan.files(task)}
    damaged: dict[Path, str] = {}  # of what this plan does not name the copy stays, for a plan that does
    if (stored := look(workflow, results, named)) is not None:
        say(f"results: in the storage {workflow.storage_settings.default_storage_prefix}; copies in {folder}")
        if not only_looks:
            damaged = {copy: file for copy, file in damaged_copies(Path(folder)).items() if file in named}
    lost = [file for file in dict.fromkeys(damaged.values()) if stored and stored.pop(file, None) is not None]
    plan = replace(plan, results=Path(folder), stored={} if _has_option(sys.argv, *WHOLE) else stored)
    os.environ[PLAN_VARIABLE] = str(plan.path.absolute())
    made = WorkflowPlan(results, folder, str(plan.path), plan.jobs, plan, say, workflow)
    # Snakemake sees that a file is there, and not that a product has another size than its certificate says.
    if not only_looks and (damaged or plan.needed or plan.untrue_certificates()):
        made.hold()  # who is at work may be about to write what is removed here; a hook would tell it with a traceback
    for file in lost:
        say(f"{file}: was damaged; removed from the storage")
        remove(workflow, f"{results}/{file}")
    for copy in damaged:
        copy.unlink()
    for file in plan.untrue_certificates():
        say(f"{plan.results / file}: not true of the files that it names; they are made again")
        if not only_looks:
            (plan.results / file).unlink(missing_ok=True)
            if stored is not None:
                remove(workflow, f"{results}/{file}")
    if not _has_option(sys.argv, *TALKS):
        _quieten(say)
    if not plan.needed and not only_looks:
        made.end(is_done=True)
    if only_looks:
        return made
    if is_module or _has_option(sys.argv, "--no-h(ooks?)?"):
        made.begin(is_quiet=True)  # Snakemake calls the hooks of the main workflow alone, or none
    elif _has_option(sys.argv, "--delete-a[a-z-]*"):
        made.hold()  # it calls no hook before it removes what others may be at
    return made


def _quieten(say: Say) -> None:
    """Show of what Snakemake says warnings, errors, and that there is nothing to do; its log file has all.

    Of a job that failed the last line of its log is said, which tells why; once, however many attempts there are.
    """
    told: set[str] = set()

    def is_shown(record: logging.LogRecord) -> bool:
        """Whether Snakemake's handler is to show a record; a failure is said here."""
        text = record.getMessage()
        if getattr(record, "event", None) == "job_error":
            log = next(iter(getattr(record, "log", None) or ()), None)
            lines = Path(log).read_text(errors="replace").split("\n") if log and Path(log).is_file() else []
            why = next((line for line in reversed(lines) if line.strip()), "it left no word")
            line = f"job {getattr(record, 'rule_name', '')} failed: {why}; see {log}"
            if line not in told:
                say(line)
            told.add(line)
            return False
        is_said_above = "CalledProcessError" in text or text.startswith("Warning: the following output files")
        return NOTHING in text or (record.levelno >= logging.WARNING and not is_said_above)

    for name in ("snakemake.logging", "snakemake"):
        for handler in logging.getLogger(name).handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_shown)


def _has_option(arguments: Sequence[str], *patterns: str) -> bool:
    """Whether Snakemake was started with an option: when the Snakefile is read its settings are not known yet."""
    given = {each.partition("=")[0] for each in arguments[1:]}
    return any(re.fullmatch(pattern, each) for each in given for pattern in patterns)


def _allowed(arguments: Sequence[str]) -> list[str] | None:
    """Rules to which a cluster job is limited; None if that is not said. A node of the tree is one of many."""
    if "--allowed-rules" not in arguments:
        return None
    after = arguments[arguments.index("--allowed-rules") + 1 :]
    names = [name.strip("'\"") for name in takewhile(lambda each: not each.startswith("-"), after)]
    return None if not names or "stack" in names else names


def _latest(results: Path) -> str:
    """File of the plan that was written last."""
    files = sorted((results / FOLDER).glob("plan-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise MistakeError(f"{results}: no plan; start Snakemake where the results lie")
    return str(files[-1])
