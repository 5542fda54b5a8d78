"""What a plan means, in numbers."""

from collections import Counter
from dataclasses import dataclass

from cubeflow.pipeline.tasks import ArtifactTask, Refusal, reduced_file
from cubeflow.plan.clean import stale_files
from cubeflow.plan.jobs import Job
from cubeflow.plan.make import Plan

JOB_S = 1.0  # CPU time of the start of a process


@dataclass(frozen=True)
class TargetSummary:
    """Numbers of a target: runs, those to reduce, and what is left out."""

    runs: int
    runs_to_reduce: int
    batches: int
    refused: tuple[Refusal, ...]
    unselected: int
    excluded: dict[str, float]  # share of the field by exclusion file


@dataclass(frozen=True)
class Summary:
    """Numbers of a plan."""

    targets: dict[str, TargetSummary]  # by name
    jobs: dict[str, int]  # number by rule, of those that would be started
    make: int  # files that are made
    keep: int  # files that are there
    remove: int  # files that are not needed any more
    disk_mb: int  # upper bound
    removable_mb: float
    cpu_seconds: int
    largest_job: Job | None  # that with the largest need of memory


def summarize(plan: Plan) -> Summary:
    """Numbers of a plan."""
    needed = {id(task) for task in plan.needed}
    jobs = [job for job in plan.jobs if not job.is_made and not needed.isdisjoint(map(id, job.tasks))]
    targets, disk_mb = {}, 0.0
    for name, found in plan.tasks.items():
        batches = [task for task in found.reduce if id(task) in needed]
        units = [each.unit for task in batches for each in task.units if not plan.exists(reduced_file(name, each))]
        to_reduce = len({unit.obs_id for unit in units})
        disk_mb += len(units) * plan.needs[name].run_mb
        disk_mb += plan.needs[name].stack_mb * sum(len(task.leaves) for task in batches)
        counts = found.n_runs, to_reduce, len(found.reduce), found.refused, found.unselected
        targets[name] = TargetSummary(*counts, dict(plan.excluded[name]))
    total = sum(len(plan.files(task)) for task in plan.all_tasks)
    # Products of a certificate that does not hold are all made again.
    wanted = ((task, file) for task in plan.needed for file in plan.files(task))
    make = sum(not (isinstance(task, ArtifactTask) and plan.exists(file)) for task, file in wanted)
    stale = stale_files(plan)
    cpu = sum(job.seconds + JOB_S for job in jobs)
    largest = max(jobs, key=lambda job: job.memory_mb, default=None)
    of_kind: dict[str, int] = dict(Counter(job.kind for job in jobs))
    removable = round(sum(path.lstat().st_size for path in stale) / 2**20, 1)
    return Summary(targets, of_kind, make, total - make, len(stale), int(disk_mb), removable, round(cpu), largest)
