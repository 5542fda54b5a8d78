"""CPU time of each product of one run by cubeflow, medians: `python benchmarks/stages.py plan repeats`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from usage import Stages, cpu_seconds

from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.maps import make_cutout
from cubeflow.observation import Observation
from cubeflow.pipeline.tasks import Target
from cubeflow.plan.jobs import read_jobs, read_targets
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.background import Background, make_background, run_part
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.kernels import make_edisp_map, make_psf_map
from cubeflow.products.reduced import KEPT, Reduced, ReduceOptions, reduce_observation
from cubeflow.products.safe_mask import make_mask_safe
from cubeflow.products.stack import StackSum
from cubeflow.store.artifact import Artifact, write_artifact


def main(plan: Path, repeats: int) -> None:
    """Print the medians as JSON, in seconds."""
    (task,) = next(job.tasks for job in read_jobs(plan) if job.kind == "reduce")
    target: Target = read_targets(plan, [task.target])[task.target]
    keys, options = task.units[0], target.reduce
    read = partial(read_observation, keys.entry, ReadOptions(duplicates=options.duplicates, digests=keys.inputs))
    observation = read()
    reduced = reduce_observation(observation, options)
    counts, method = reduced.maps["counts"], next(iter(target.backgrounds.values()))
    excluded = target.exclusion_masks().mask(counts.geom, counts.axis("energy"))

    def background_of(each: Reduced) -> Background:
        return make_background(each, method, excluded, target.position_deg, target.significance.radius_deg[0])

    background, total = background_of(reduced), StackSum()
    stages = {"read": read, **product_stages(observation, options)}
    stages["norm"] = lambda: background_of(reduced)
    stages["maps"] = lambda: background_of(reduce_observation(observation, options))
    stages["stack"] = lambda: total.add(run_part(reduced, background))
    stages["write"] = lambda: write_run(plan.parent, reduced, background, target.compression)
    print(json.dumps(cpu_seconds(stages, repeats)))


def product_stages(observation: Observation, options: ReduceOptions) -> Stages:
    """What makes each product, from an observation in memory; the geometry is that of a batch."""
    pointing, cut, energy, energy_true = (
        observation.pointing,
        options.offset_max_deg,
        options.energy,
        options.energy_true,
    )
    geom = make_cutout(options.geometry, pointing.ra_deg, pointing.dec_deg, cut)
    coarse = make_cutout(options.irf_geometry, pointing.ra_deg, pointing.dec_deg, cut + 0.15)
    exposure_of = partial(
        make_map_exposure_true_energy,
        pointing,
        observation.livetime_s,
        observation.aeff,
        geom,
        energy_true,
        cut,
        KEPT,
    )
    exposure = exposure_of()

    def geometry() -> None:
        fresh = replace(geom)  # which remembers nothing
        _ = fresh.solid_angle_sr, fresh.center_vectors

    return {
        "geometry": geometry,
        "counts": lambda: make_map_counts(observation.events, geom, energy, pointing, cut),
        "exposure": exposure_of,
        "exposure_reco": lambda: make_map_exposure_reco_energy(
            exposure, pointing, observation.edisp, energy, options.spectrum, KEPT
        ),
        "background": lambda: make_map_hadron_acceptance(
            pointing, observation.ontime_s, observation.background, geom, energy, cut, dtype=KEPT
        ),
        "psf": lambda: make_psf_map(pointing, observation.psf, coarse, energy_true, options.rad, dtype=KEPT),
        "edisp": lambda: make_edisp_map(pointing, observation.edisp, coarse, energy_true, energy),
        "mask_safe": lambda: make_mask_safe(observation, geom, energy, cut, options.safe_mask),
    }


def write_run(folder: Path, reduced: Reduced, background: Background, compression: str) -> None:
    """Write both artifacts of the run, as `cubeflow reduce` does."""
    maps, usable = {**reduced.maps, "gti_s": reduced.gti_s}, {**background.maps, "usable": background.usable}
    for kind, datasets in (("reduced", maps), ("background", usable)):
        write_artifact(folder / f"stage-{kind}.h5", Artifact(kind, "0" * 64, 1, datasets), compression)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
