"""How much memory there is, and that no plan asks for more."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from cubeflow.errors import MistakeError
from cubeflow.plan.estimate import estimate
from cubeflow.plan.model import TargetSpec

CGROUPS = Path("/sys/fs/cgroup")
MB = 2**20


class TooLarge(MistakeError):
    """A target does not fit into memory; the message holds the estimate, the limit and the keys to change."""


def memory_limit_mb() -> int:
    """Memory that this process may use: the least of what the machine has and the limits set for it."""
    return min(_limits_bytes()) // MB


def _limits_bytes() -> Iterator[int]:
    """Memory of the machine, limits of the process (ulimit) and of its control group, as far as there are any."""
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield soft
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
        for folder in (CGROUPS / own, *(CGROUPS / own).parents):
            if folder.is_relative_to(CGROUPS) and (folder / "memory.max").exists():
                limit = (folder / "memory.max").read_text().strip()
                yield from [int(limit)] if limit.isdigit() else []
    except OSError:
        return


def check_memory(specs: Iterable[TargetSpec], limit_mb: float | None) -> None:
    """Refuse targets whose jobs need more memory than there is, before anything is read.

    Parameters
    ----------
    specs : iterable of TargetSpec
        Targets.
    limit_mb : float or None
        Most memory of a job; None for what this process may use.

    Raises
    ------
    TooLarge
        For the first target that needs more.
    """
    limit = memory_limit_mb() if limit_mb is None else int(limit_mb)
    for spec in specs:
        needs = {step: need.memory_mb for step, need in estimate(spec).items()}
        step = max(needs, key=lambda name: needs[name])
        if needs[step] > limit:
            geometry = spec.reduce["geometry"]
            raise TooLarge(
                f"targets.{spec.name}.geometry: a map of {geometry['nx']} x {geometry['ny']} pixels needs about "
                f"{needs[step]} MB in the step {step}, the limit is {limit} MB; expected a smaller width, a larger "
                "pixel or fewer bins of energy and energy_true (or more memory: the key memory)"
            )


def memory_message(estimate_mb: int) -> str:
    """Say what was needed and what there was, after memory ran out."""
    return f"memory ran out: about {estimate_mb} MB were expected to do, the limit is {memory_limit_mb()} MB"
