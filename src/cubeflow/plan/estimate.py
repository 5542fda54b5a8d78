"""What a job will need: memory, time and disk, from the geometry alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cubeflow.plan.coverage import Coverage, coverage
from cubeflow.plan.model import Plain, TargetSpec
from cubeflow.plan.tree import LONGEST
from cubeflow.products.stack import PENDING_BYTES

SNAKEMAKE_MB = 350  # of the two Snakemake that a cluster job consists of, beside the command that they start
LEAF_BYTES = 1 << 30  # of the sums of a batch in memory, all labels together; the rest lies on the disk
START_MINUTES = 5  # the same for time: imports from a busy shared file system, twice
SECONDS_PER_VOXEL = 3e-7  # of one run's maps, generous
SECONDS_PER_RUN = 1.0
BYTES_PER_ROW = 1_000  # of a run in the run table, whose columns are packed
BYTES_PER_FILE = 1e5  # on the disk, whatever is in it
BYTES_KEPT = 1.5  # on the disk for a voxel of a run in float32, compressed
BYTES_FACTORED = 5e5  # of a run in the factored form, whatever its maps
EXPORT_BYTES = 1 << 27  # of final maps in memory, in double precision; larger ones stay on the disk
EXPORT_PLANES = {False: 27, True: 47}  # in memory then, without and with rings at each energy
REPORT_PLANES = 10  # of images while one is drawn
EXPORT_PARTS = 1 << 25  # and parts of files
SLAB_BYTES = 1 << 25  # of a layer of a node in memory at a time, or one plane where that is larger
BYTES_PER_VOXEL = 27  # of one run: its maps, their float32 copies, and what a background needs meanwhile


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
    """Numbers of voxels of all layers of the largest label, maps and responses together.

    Parameters
    ----------
    run, batch, total : int
        Of one run on its cutout, of the sum of a batch, and of the final maps.
    plane, layer : int
        Of a slice along the first axis of a layer of the last stack, and of a whole layer; the largest.
    """

    run: int
    batch: int
    total: int
    plane: int
    layer: int


def sizes(spec: TargetSpec, covered: Coverage | None = None) -> Sizes:
    """Numbers of voxels of a target; of a map that is covered as a whole by default."""
    reduce, covered = spec.reduce, covered or coverage(spec)
    n_energy, n_true, n_rad = (len(reduce[name]["edges"]) - 1 for name in ("energy", "energy_true", "rad"))
    sky = max((_layers(plain) for plain in spec.backgrounds.values()), default=5) * n_energy + n_true
    irf = n_true * (n_rad + n_energy + 1)
    run, batch, total = (
        sky * getattr(covered.sky, part) + irf * getattr(covered.irf, part) for part in ("run", "batch", "total")
    )
    planes = (max(n_energy, n_true), covered.sky.stack), (n_true, covered.irf.stack * max(n_rad, n_energy))
    largest = max(planes, key=lambda plane: plane[0] * plane[1])
    return Sizes(run, batch, total, max(plane[1] for plane in planes), largest[0] * largest[1])


def _layers(background: Plain) -> int:
    """Maps over energy in a stack of a label: rings at each energy have two more, OFF counts and acceptance."""
    return 7 if background.get("per_energy") else 5


def estimate(spec: TargetSpec, covered: Coverage | None = None) -> dict[str, Estimate]:
    """Need of the command of each rule.

    ``reduce`` holds the maps of one run, some of those before it and, for each label, the sum of the batch, which lies
    on the disk beyond a limit; ``stack`` some planes of the node, or all of a small one; ``export`` the final cube and
    what is written from it up to a limit, else some images and planes; ``table`` the rows of the runs; ``report``
    these, a library that draws, and one label at a time. The factors are measured: memory is 1 to 2 times the need.

    Parameters
    ----------
    spec : TargetSpec
        Geometry, axes and backgrounds.
    covered : Coverage or None
        Where the runs lie; None if that is not known, for a map that is covered as a whole.

    Returns
    -------
    dict of str to Estimate
        By the name of the rule, without what a cluster job needs beside the command (`ask_memory_mb`).
    """
    covered = covered or coverage(spec)
    n = sizes(spec, covered)
    labels = max(1, len(spec.backgrounds))
    final = 8 * n.total
    slab = max(8 * n.plane, min(8 * n.layer, SLAB_BYTES))
    run_seconds = SECONDS_PER_RUN + SECONDS_PER_VOXEL * n.run
    longest = min(LONGEST * spec.batch, covered.runs or LONGEST * spec.batch)
    waiting = min(longest * 4 * n.run, PENDING_BYTES * labels + 4 * n.run)  # maps of runs, for the sums
    run_bytes = BYTES_PER_VOXEL * n.run + waiting
    return {
        "reduce": _need(90, run_bytes + min(8 * labels * n.batch, LEAF_BYTES), LONGEST * spec.batch * run_seconds),
        "stack": _need(70, max(4 * slab, 2 * slab + min(final, SLAB_BYTES)), LONGEST * spec.fanout * final / 1e8),
        "export": _need(95, _export_bytes(spec, covered), final / 1e7),
        "table": _need(75, BYTES_PER_ROW * covered.runs, 60 + covered.runs / 50),
        "report": _need(230, 2 * BYTES_PER_ROW * covered.runs + 8 * REPORT_PLANES * covered.sky.total, 60),
    }


def _export_bytes(spec: TargetSpec, covered: Coverage) -> float:
    """Need of the largest export: small final maps as a whole; of larger ones images, and the planes of the moment."""
    needs = [0.0]
    for plain in spec.backgrounds.values():
        n = sizes(replace(spec, backgrounds={"": plain}), covered)
        planes = EXPORT_PLANES[bool(plain.get("per_energy"))] * max(covered.sky.total, n.plane)
        needs.append(2.4 * 8 * n.total if 8 * n.total <= EXPORT_BYTES else 8 * planes + EXPORT_PARTS)
    return max(needs)


def ask_memory_mb(need_mb: int, attempt: int) -> int:
    """Memory to ask for in MB, half as much again with every further attempt."""
    return int((need_mb + SNAKEMAKE_MB) * (1 + 0.5 * (attempt - 1)))


def ask_minutes(need_minutes: int, attempt: int) -> int:
    """Time to ask for in minutes, as much again with every further attempt."""
    return (need_minutes + START_MINUTES) * attempt


def _need(process_mb: int, memory_bytes: float, seconds: float) -> Estimate:
    """Need of a process that has its libraries and these bytes in memory."""
    return Estimate(int(process_mb + memory_bytes / 2**20), 1 + int(seconds / 60))


def disk_mb(spec: TargetSpec, n_runs: int, n_stacks: int) -> int:
    """Disk for the artifacts of `n_runs` runs and for `n_stacks` stacks, compressed; an upper bound, for full maps."""
    n = sizes(spec)
    per_run = BYTES_KEPT * n.run * (1 + 0.4 * len(spec.backgrounds)) + BYTES_PER_FILE * (1 + len(spec.backgrounds))
    if spec.settings.get("form") == "factored":
        per_run = BYTES_FACTORED
    per_stack = 2 * BYTES_KEPT * n.total + BYTES_PER_FILE
    return int((n_runs * per_run + n_stacks * per_stack) / 2**20)


def run_seconds(spec: TargetSpec, covered: Coverage | None = None) -> float:
    """CPU time to reduce one run, as measured; jobs are given far more (`estimate`)."""
    n = sizes(spec, covered)
    return 0.15 + 8e-8 * n.run
