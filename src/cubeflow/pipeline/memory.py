"""How much memory this process may use."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def memory_limit_mb() -> int:
    """Memory that this process may use: the least of what the machine has and the limits set for it."""
    return min(_limits_bytes()) // 2**20


def memory_message() -> str:
    """Say what there was, after memory ran out."""
    return f"memory ran out: the limit is {memory_limit_mb()} MB; cubeflow plan says what a job needs"


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
