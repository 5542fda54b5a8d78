"""Jobs: tasks that share a process, as the rules of the workflow start them; and the file in which jobs find them.

The file is JSON line by line, each beginning with what it is and its name: the targets, then the jobs with their tasks;
a checksum ends it, for under a key stands only what was made with the options of that key.
A job reads the lines that it needs and no others, whatever the size of the plan.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain
from math import ceil
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, NamedTuple

from cubeflow.errors import MistakeError
from cubeflow.pipeline.tasks import OffTask, ReduceTask, Target, Task, describe, files_of, inputs_of
from cubeflow.plan.estimate import Estimate
from cubeflow.regular import open_regular
from cubeflow.store.atomic import make_folder, naming, replacing
from cubeflow.store.keys import from_plain, parse_json, seal, to_plain

Kind = Literal["off", "model", "reduce", "stack", "export", "series", "figures", "report"]
LIMIT_S = 16.0  # of estimated CPU time in a job: the start of its process is some percent of it
LEAST_S = 4.0  # and less is not worth a second process
CPU_S = {"off": 0.05, "model": 5.0, "figures": 0.3, "table": 0.3, "series": 0.3, "report": 1.0}
MAX_SAID = 300  # letters in the message of a job


@dataclass(frozen=True)
class Job:
    """Tasks that one process does; its files are paths below the results."""

    name: str  # of its rule
    kind: Kind  # which command does it
    tasks: tuple[Task, ...]  # in order
    sources: tuple[str, ...]  # DL3 files, but those with braces in their path, which Snakemake would take for wildcards
    inputs: tuple[str, ...]  # files that it reads and that are to be made or fetched before; none if it is made
    outputs: tuple[str, ...]  # files that it makes
    message: str  # targets and runs, for people
    memory_mb: int  # need of its largest task
    seconds: float  # estimated CPU time
    is_made: bool  # whether all its outputs are there


class _Part(NamedTuple):
    """A task with those of its files that one job makes, and those that this job may read."""

    task: Task
    files: list[str]
    reads: list[str]
    memory_mb: int
    seconds: float


def make_jobs(
    tasks: Iterable[Task],
    targets: Mapping[str, Target],
    needs: Mapping[str, Estimate],
    exists: Callable[[str], bool],
    is_made: Callable[[Task], bool],
    fetches: bool = False,
) -> tuple[Job, ...]:
    """Put tasks, in order, into jobs.

    `exists` tells whether a file below the results is there, `is_made` whether all files of a task are, and current.
    What is there and what is missing of a batch are two jobs: Snakemake removes all outputs of a job before it starts.
    Inputs are what is yet to be made: what is named by its content is never stale, and its time says nothing. If
    Snakemake `fetches` all that a job reads from a storage, they are what is there, too.
    """
    parts: dict[tuple[Kind, bool], list[_Part]] = {}  # by kind, and whether it is made
    for task in tasks:
        kind: Kind = "export" if task.kind == "table" else task.kind
        target, of = (None, needs.values()) if task.kind == "report" else (task.target, [needs[task.target]])
        need = max(of, key=lambda each: each.memory_mb[kind])
        files = files_of(task, None if target is None else targets[target])
        split: dict[bool, list[str]] = {True: [], False: []}
        if isinstance(task, ReduceTask | OffTask):
            seconds = len(task.units) * CPU_S.get(kind, need.run_s)
            for file in files:
                split[exists(file)].append(file)
        else:
            seconds, split[is_made(task)] = CPU_S.get(task.kind, need.export_s), files
        for made, some in split.items():
            if some:
                reads = [] if made else inputs_of(task) + split[True]
                parts.setdefault((kind, made), []).append(_Part(task, some, reads, need.memory_mb[kind], seconds))
    pending = {file for (_, made), found in parts.items() if not made for part in found for file in part.files}
    # Figures that fill no second job share that of the page: the start of its process is most of what it takes.
    if ("report", False) in parts and sum(part.seconds for part in parts.get(("figures", False), [])) <= LEAST_S:
        parts["report", False][:0] = parts.pop(("figures", False), [])
    jobs: list[Job] = []
    for (kind, made), found in parts.items():
        packed = [[part] for part in found] if made or kind == "stack" else _packed(found)
        if kind == "report":  # a rule that people ask for by name
            packed = [found]
        for number, group in enumerate(packed, start=1):
            name = kind if kind == "report" else f"{kind}{'_made' * made}_{number}"
            jobs.append(_job(name, kind, group, made, None if fetches else pending))
    return tuple(jobs)


def _job(name: str, kind: Kind, parts: Sequence[_Part], is_made: bool, pending: Collection[str] | None) -> Job:
    """Make the job of some parts; its inputs are those files that are `pending`, if that is said."""
    tasks = tuple(part.task for part in parts)
    read = [keys.inputs for task in tasks if isinstance(task, ReduceTask | OffTask) for keys in task.units]
    outputs = dict.fromkeys(file for part in parts for file in part.files)
    needed = dict.fromkeys(file for part in parts for file in part.reads if file not in outputs)
    return Job(
        name=name,
        kind=kind,
        tasks=tasks,
        sources=tuple(path for path in sorted(set(chain(*read))) if "{" not in path),
        inputs=tuple(file for file in needed if pending is None or file in pending),
        outputs=tuple(outputs),
        message=shorten("; ".join(dict.fromkeys(map(describe, tasks))), MAX_SAID, placeholder=" ..."),
        memory_mb=max(part.memory_mb for part in parts),
        seconds=sum(part.seconds for part in parts),
        is_made=is_made,
    )


def _packed(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Cut parts into jobs of about the same length, in order: as few as hold them, but two where it is worth it."""
    total = sum(part.seconds for part in parts)
    number = max(ceil(total / LIMIT_S), 2 if total > LEAST_S else 1)
    packed: list[list[_Part]] = [[]]
    done = 0.0
    for part in parts:
        if packed[-1] and done + part.seconds / 2 > total * len(packed) / number:
            packed.append([])
        packed[-1].append(part)
        done += part.seconds
    return packed


def write_plan_file(path: Path, targets: Mapping[str, Target], jobs: Sequence[Job], made: Mapping[str, str]) -> None:
    """Write targets, jobs, and in words how they are made, line by line."""
    named: list[tuple[str, str, object]] = [("target", *item) for item in targets.items()]
    named += [("job", job.name, job) for job in jobs] + [("made", "", made)]
    lines = ({"is": kind, "name": name, "content": to_plain(content)} for kind, name, content in named)
    make_folder(path.parent)
    with replacing(path) as file:
        file.writelines((json.dumps({**line, "sha256": seal(line)}) + "\n").encode() for line in lines)


def read_jobs(path: Path, names: Collection[str] | None = None) -> list[Job]:
    """Jobs of a plan file, or some of them; raises as `read_targets`."""
    return [from_plain(Job, plain) for plain in _read(path, "job", names).values()]


def read_targets(path: Path, names: Collection[str]) -> dict[str, Target]:
    """Targets of a plan file.

    MistakeError if it is none that a plan has written, or has no line of a name; StorageError if it cannot be read.
    """
    return {name: from_plain(Target, plain) for name, plain in _read(path, "target", names).items()}


def read_made(path: Path) -> Mapping[str, str]:
    """What `write_plan_file` was told in words; raises as `read_targets`."""
    return dict[str, str](_read(path, "made", None)[""])


def _read(path: Path, kind: str, names: Collection[str] | None) -> dict[str, Any]:
    """Plain content of the lines of a kind by name, or of some of them."""
    start = f'{{"is": "{kind}", '
    starts = (start,) if names is None else tuple(f'{start}"name": {json.dumps(name)}, ' for name in names)
    try:
        with naming(path), TextIOWrapper(open_regular(path)) as lines:
            if not (first := next(lines, "")).startswith('{"is": '):
                raise ValueError(f"its first line is {first[:40]!r}")
            found = [parse_json(line) for line in chain([first], lines) if line.startswith(starts)]
        if damaged := [each["name"] for each in found if each.pop("sha256", "") != seal(each)]:
            raise ValueError(f"{kind} {damaged[0]} is not as it was written")
    except ValueError as error:
        raise MistakeError(f"{path}: expected a plan of this version; make it again: {error}") from error
    if missing := sorted(set(names or ()) - {each["name"] for each in found}):
        raise MistakeError(f"{path}: no {kind} {', '.join(missing)}")
    return {each["name"]: each["content"] for each in found}
