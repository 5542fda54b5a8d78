"""What a job will need, from the geometry, the pointings and the sizes of files alone: memory, time and disk."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cubeflow.dl3.entries import RunEntry, direction_of
from cubeflow.dl3.files import FileRefused, content_bytes
from cubeflow.errors import MistakeError
from cubeflow.maps import FloatArray, Geometry, sphere
from cubeflow.maps.scratch import HELD_VALUES
from cubeflow.pipeline.memory import memory_limit_mb
from cubeflow.pipeline.tasks import Target
from cubeflow.products.acceptance_model import SUBCELLS

LABEL_MAPS = {False: 5, True: 7}  # maps over energy in a stack, without and with rings at each energy
LARGEST = 16  # files on the disk among which that is which is the largest when it is decompressed
READ_FACTOR, READ_FREE = 4, 48 * 2**20  # memory for reading a file over its size, and what of it the least need holds
BYTES_PER_VOXEL = 27  # of one run: its maps, their float32 copies, and what a background needs meanwhile
EXPORT_PLANES = {False: 27, True: 47}  # in memory, without and with rings at each energy
REPORT_PLANES, BYTES_SHOWN = 26, 25  # of images while they are drawn, and of a voxel of small maps that are shown
MOST_SHOWN = 1e8  # bytes
BYTES_PER_ROW = 4_000  # of a run in the run table
BYTES_PER_FILE = 1e5  # on the disk, whatever is in it
BYTES_KEPT = 1.5  # on the disk for a voxel of a run in float32, compressed


@dataclass(frozen=True)
class Sizes:
    """Numbers of voxels of all layers of the largest label, maps and responses together."""

    run: int  # of one run on its cutout
    batch: int  # of the sum of a batch
    total: int  # of the final maps
    plane: int  # of the largest slice along the first axis of a layer
    held: int  # of layers of the sum of a batch that are small enough to be in memory
    shown: int  # the same of final maps


@dataclass(frozen=True)
class Estimate:
    """Needs of the tasks of a target; CPU times are without the start of a process, the disk is an upper bound."""

    memory_mb: dict[str, int]  # of each kind of task
    run_s: float  # CPU time of a run
    export_s: float  # and of the export of a label
    run_mb: float  # disk for the artifacts of a run, all labels together
    stack_mb: float  # and for a stack


def estimate(target: Target, entries: Sequence[RunEntry] = (), off_runs: Sequence[RunEntry] = ()) -> Estimate:
    """Needs of a target with some runs, and with OFF runs; without a pointing the whole map is taken as covered.

    ``reduce`` holds the events and maps of one run; small sums are in memory, of large ones some planes. The
    factors are measured: memory is 1 to 2 times the need.
    """
    n = sizes(target, entries)
    per_energy = any(getattr(each, "per_energy", False) for each in target.backgrounds.values())
    planes, rows, labels = EXPORT_PLANES[per_energy] * n.plane, BYTES_PER_ROW * len(entries), len(target.backgrounds)
    sky = (120, 12) if target.sky_models else (0, 0)  # gammapy itself, and the maps that it evaluates
    n_shown = target.reduce.energy.n_bins * n.plane
    cells = 0 if target.model is None else len(target.model.off.edges_deg) ** 2 * target.model.off.energy.n_bins
    held = _reading_bytes(entries) + 32 * cells * len(off_runs)  # the model, and a copy of it without one of its runs
    needs = {
        "off": (150, BYTES_PER_VOXEL * SUBCELLS**2 * cells + _reading_bytes(off_runs)),
        "model": (150, 95 * cells * len(off_runs)),
        "reduce": (140 + sky[0], (BYTES_PER_VOXEL + sky[1]) * n.run + 16 * n.plane + 8 * labels * n.held + held),
        "stack": (110, 64 * n.plane + 21 * n.held + rows),
        "export": (140, 8 * (planes + n.held + n.shown) + 4 * rows),
        "series": (140, 8 * n.plane),
        "figures": (140, 8 * REPORT_PLANES * n.plane + min(BYTES_SHOWN * n_shown, MOST_SHOWN) + rows),
        "report": (100, rows),
    }
    kinds = needs if target.model else needs.keys() - {"off", "model"}
    memory = {kind: int(base_mb + n_bytes / 2**20) for kind, (base_mb, n_bytes) in needs.items() if kind in kinds}
    run_mb = (BYTES_KEPT * n.run * (1 + 0.4 * labels) + BYTES_PER_FILE * (1 + labels)) / 2**20
    stack_mb = (2 * BYTES_KEPT * n.total + BYTES_PER_FILE) / 2**20
    return Estimate(memory, 0.15 + 8e-8 * n.run, 0.3 + 1e-7 * n.total, run_mb, stack_mb)


def sizes(target: Target, entries: Sequence[RunEntry] = ()) -> Sizes:
    """Numbers of voxels of a target."""
    options = target.reduce
    n_energy, n_true, n_rad = (axis.n_bins for axis in (options.energy, options.energy_true, options.rad))
    maps = max(LABEL_MAPS[getattr(each, "per_energy", False)] for each in target.backgrounds.values())
    bins = [n_energy] * maps + [n_true], [n_true * n for n in (n_rad, n_energy, 1)]  # of each layer on either grid
    found = [direction_of(entry.obs_info) for entry in entries]
    pointings = np.array(found) if found and None not in found else None  # shape (n, 2)
    grids = [_pixels(options.geometry, target, 0.0, pointings)]
    grids.append(_pixels(options.irf_geometry, target, math.sqrt(0.5), pointings))  # any part of a coarse pixel counts
    layers = [[n * grid[k] for each, grid in zip(bins, grids, strict=True) for n in each] for k in range(3)]
    run, batch, total = map(sum, layers)
    held, shown = (sum(size for size in each if size <= HELD_VALUES) for each in layers[1:])
    plane = max(math.prod(options.geometry.shape), math.prod(options.irf_geometry.shape) * max(n_rad, n_energy))
    return Sizes(run, batch, total, plane, held, shown)


def check_memory(name: str, need: Estimate, target: Target, limit_mb: float | None, n_off_runs: int = 0) -> None:
    """Refuse a target whose jobs need more memory than there is (MistakeError), with a model of its OFF runs."""
    limit = memory_limit_mb() if limit_mb is None else int(limit_mb)
    kind = max(need.memory_mb, key=lambda each: need.memory_mb[each])
    if need.memory_mb[kind] > limit and (n_off_runs or kind == "off"):
        what = f"needs about {need.memory_mb[kind]} MB in the step {kind} for {n_off_runs or 'any'} OFF runs"
        way_out = f"the limit is {limit} MB; expected fewer of them, larger cells or fewer bins (or a larger memory)"
        raise MistakeError(f"targets.{name}.acceptance.model: {what}, {way_out}")
    if need.memory_mb[kind] > limit:
        geom = target.reduce.geometry
        raise MistakeError(
            f"targets.{name}.geometry: a map of {geom.nx} x {geom.ny} pixels needs about {need.memory_mb[kind]} MB in "
            f"the step {kind}, the limit is {limit} MB; expected a smaller width, a larger pixel, fewer bins of energy "
            "and energy_true or smaller files of events (or more memory: the key memory)"
        )


def _reading_bytes(entries: Sequence[RunEntry]) -> int:
    """Memory for reading the largest event list, beyond what reading any takes; 0 if no file can be read."""
    sizes: dict[Path, int] = {}
    for path in {ref.path for entry in entries for ref in entry.hdus if ref.hdu_type == "events"}:
        with suppress(OSError):  # its run is refused
            sizes[path] = path.stat().st_size
    largest = [0]
    for path in sorted(sizes, key=lambda each: sizes[each])[-LARGEST:]:
        with suppress(FileRefused):
            largest.append(content_bytes(path))
    return max(0, READ_FACTOR * max(largest) - READ_FREE)


def _pixels(geom: Geometry, target: Target, margin: float, pointings_deg: FloatArray | None) -> tuple[int, int, int]:
    """Pixels of the largest cutout (`margin` pixels beyond the largest offset), of the box of all, and of the grid."""
    total = geom.nx * geom.ny
    radius_deg = target.reduce.offset_max_deg + margin * geom.pixel_deg
    if pointings_deg is None:
        run = int((2 * radius_deg / geom.pixel_deg + 3) ** 2)
        return run, max(total, run), total
    circles = sphere.circles(pointings_deg, min(radius_deg, 90.0))
    pixel = np.stack(geom.vectors_to_pixel(circles), axis=-1)
    lower, upper = np.floor(pixel.min(axis=1)), np.ceil(pixel.max(axis=1)) + 1  # of the box about each, shape (n, 2)
    reaches = np.all(np.maximum(lower, 0) < np.minimum(upper, [geom.nx, geom.ny]), axis=1)  # the map, at all
    if not reaches.any():
        return 0, 0, total
    lower, upper = lower[reaches], upper[reaches]
    run, union = np.prod(upper - lower, axis=1).max(), np.prod(upper.max(axis=0) - lower.min(axis=0))
    return int(run), int(union), total
