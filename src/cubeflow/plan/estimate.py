"""What a job will need: memory, time and disk, from the geometry alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cubeflow.plan.model import TargetSpec

PROCESS_MB = 250  # Python with its libraries
SECONDS_PER_VOXEL = 3e-8  # of one run's maps, generous
SECONDS_PER_RUN = 1.0


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
    """Numbers of voxels of a target's maps."""
    reduce = spec.reduce
    n_energy, n_true, n_rad = (len(reduce[name]["edges"]) - 1 for name in ("energy", "energy_true", "rad"))
    per_pixel = 5 * n_energy + n_true
    per_irf_pixel = n_true * (n_rad + n_energy + 1)
    run, total = _pixels(reduce["geometry"], reduce["offset_max_deg"], reduce["trim"])
    run_irf, total_irf = _pixels(reduce["irf_geometry"], reduce["offset_max_deg"], reduce["trim"])
    return Sizes(run * per_pixel, total * per_pixel, run_irf * per_irf_pixel, total_irf * per_irf_pixel)


def _pixels(geometry: dict[str, Any], offset_max_deg: float, trim: bool) -> tuple[int, int]:
    """Pixels of a run's cutout and of the whole map."""
    side = 2 * offset_max_deg / geometry["pixel_deg"] + 3
    total = geometry["nx"] * geometry["ny"]
    run = min(side, geometry["nx"]) * min(side, geometry["ny"]) if trim else side * side
    return int(run), total


def estimate(spec: TargetSpec) -> dict[str, Estimate]:
    """Need of a job of each rule.

    ``reduce`` holds the maps of one run and, for each label, the sum of the batch; ``stack`` the sum
    and one child; ``export`` the final cube and what is written from it.
    """
    n = sizes(spec)
    labels = max(1, len(spec.backgrounds))
    one_stack = 8 * (n.total + n.total_irf)
    seconds = spec.batch * 4 * (SECONDS_PER_RUN + SECONDS_PER_VOXEL * (n.run + n.run_irf) * 10)
    return {
        "reduce": _need(24 * (n.run + n.run_irf) + labels * one_stack, seconds),
        "stack": _need(3 * one_stack, 60 + spec.fanout * one_stack / 1e8),
        "export": _need(5 * one_stack, 120 + one_stack / 1e7),
    }


def _need(memory_bytes: float, seconds: float) -> Estimate:
    return Estimate(int(PROCESS_MB + memory_bytes / 2**20), 2 + int(seconds / 60))


def disk_mb(spec: TargetSpec, n_runs: int) -> int:
    """Disk for the artifacts of all runs and stacks, uncompressed float32 halved by the filter."""
    n = sizes(spec)
    per_run = 2 * (n.run + n.run_irf) * (1 + 0.4 * len(spec.backgrounds))
    stacks = 8 * (n.total + n.total_irf) * len(spec.backgrounds) * (1 + n_runs / spec.batch)
    return int((n_runs * per_run + stacks) / 2**20)
