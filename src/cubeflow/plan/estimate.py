"""What a job will need: memory, time and disk, from the geometry alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cubeflow.plan.model import Plain, TargetSpec
from cubeflow.plan.tree import LONGEST

PROCESS_MB = 150  # Python with its libraries
SNAKEMAKE_MB = 350  # of the two Snakemake that a cluster job consists of, beside the command that they start
LEAF_BYTES = 1 << 30  # of the sums of a batch in memory, all labels together; the rest lies on the disk
START_MINUTES = 5  # the same for time: imports from a busy shared file system, twice
SECONDS_PER_VOXEL = 3e-7  # of one run's maps, generous
SECONDS_PER_RUN = 1.0
BYTES_KEPT = 1.5  # on the disk for a voxel of a run in float32, compressed
BYTES_FACTORED = 5e5  # of a run in the factored form, whatever its maps
BYTES_PER_VOXEL = 40  # of one run: its maps, their float32 copies, and what a background needs meanwhile


@dataclass(frozen=True)
class Estimate:
    """Need of one job."""

    memory_mb: int
    minutes: int

    def to_plain(self) -> dict[str, int]:
        """Plain numbers."""
        return {"memory_mb": self.memory_mb, "minutes": self.minutes}


@dataclass(frozen=True)
class Sizes:
    """Numbers of voxels.

    Parameters
    ----------
    run, total : int
        Of all sky maps of one run on its cutout, and of the final geometry.
    run_irf, total_irf : int
        Of the PSF and energy-dispersion maps.
    """

    run: int
    total: int
    run_irf: int
    total_irf: int


def sizes(spec: TargetSpec) -> Sizes:
    """Numbers of voxels of a target's maps, those of its largest label."""
    reduce = spec.reduce
    n_energy, n_true, n_rad = (len(reduce[name]["edges"]) - 1 for name in ("energy", "energy_true", "rad"))
    per_pixel = max((_layers(plain) for plain in spec.backgrounds.values()), default=5) * n_energy + n_true
    per_irf_pixel = n_true * (n_rad + n_energy + 1)
    run, total = _pixels(reduce["geometry"], reduce["offset_max_deg"], reduce["trim"])
    run_irf, total_irf = _pixels(reduce["irf_geometry"], reduce["offset_max_deg"], reduce["trim"])
    return Sizes(run * per_pixel, total * per_pixel, run_irf * per_irf_pixel, total_irf * per_irf_pixel)


def _layers(background: Plain) -> int:
    """Maps over energy in a stack of a label: rings at each energy have two more, OFF counts and acceptance."""
    return 7 if background.get("per_energy") else 5


def _pixels(geometry: dict[str, Any], offset_max_deg: float, trim: bool) -> tuple[int, int]:
    """Pixels of a run's cutout and of the whole map."""
    side = 2 * offset_max_deg / geometry["pixel_deg"] + 3
    total = geometry["nx"] * geometry["ny"]
    run = min(side, geometry["nx"]) * min(side, geometry["ny"]) if trim else side * side
    return int(run), total


def estimate(spec: TargetSpec) -> dict[str, Estimate]:
    """Need of the command of each rule; an upper bound where runs cover only part of a map.

    ``reduce`` holds the maps of one run and, for each label, the sum of the batch; ``stack`` the sum
    and one child; ``export`` the final cube and what is written from it; ``table`` next to nothing;
    ``report`` a library that draws, and one label at a time.
    The factors are measured: the estimate is 1.1 to 3 times the need.

    Returns
    -------
    dict of str to Estimate
        By the name of the rule, without what a cluster job needs beside the command (`ask_memory_mb`).
    """
    n = sizes(spec)
    labels = max(1, len(spec.backgrounds))
    one_stack = 8 * (n.total + n.total_irf)
    seconds = LONGEST * spec.batch * (SECONDS_PER_RUN + SECONDS_PER_VOXEL * (n.run + n.run_irf))
    return {
        "reduce": _need(BYTES_PER_VOXEL * (n.run + n.run_irf) + labels * one_stack, seconds),
        "stack": _need(2.5 * one_stack, LONGEST * spec.fanout * one_stack / 1e8),
        "export": _need(3 * one_stack, one_stack / 1e7),
        "table": _need(50 * 2**20, 60),
        "report": _need(PROCESS_MB * 2**20 + 2 * one_stack, 60),
    }


def ask_memory_mb(need_mb: int, attempt: int) -> int:
    """Memory to ask for in MB, half as much again with every further attempt."""
    return int((need_mb + SNAKEMAKE_MB) * (1 + 0.5 * (attempt - 1)))


def ask_minutes(need_minutes: int, attempt: int) -> int:
    """Time to ask for in minutes, as much again with every further attempt."""
    return (need_minutes + START_MINUTES) * attempt


def _need(memory_bytes: float, seconds: float) -> Estimate:
    return Estimate(int(PROCESS_MB + memory_bytes / 2**20), 1 + int(seconds / 60))


def disk_mb(spec: TargetSpec, n_runs: int, n_stacks: int) -> int:
    """Disk for the artifacts of `n_runs` runs and for `n_stacks` stacks, compressed; an upper bound, for full maps."""
    n = sizes(spec)
    per_run = BYTES_KEPT * (n.run + n.run_irf) * (1 + 0.4 * len(spec.backgrounds))
    if spec.settings.get("form") == "factored":
        per_run = BYTES_FACTORED
    return int((n_runs * per_run + 2 * BYTES_KEPT * n_stacks * (n.total + n.total_irf)) / 2**20)


def run_seconds(spec: TargetSpec) -> float:
    """CPU time to reduce one run, as measured; jobs are given far more (`estimate`)."""
    n = sizes(spec)
    return 0.15 + 8e-8 * (n.run + n.run_irf)
