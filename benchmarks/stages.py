"""CPU time of each product of one run by cubeflow, medians: `python benchmarks/stages.py manifest repeats`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.maps import geometry_from_plain, make_cutout
from cubeflow.observation import Observation
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.kernels import make_edisp_map, make_psf_map
from cubeflow.products.spectrum import make_spectrum
from cubeflow.products.stack import StackSum
from cubeflow.steps.background import make_background
from cubeflow.steps.batch import open_batch, run_stack
from cubeflow.steps.expand import dense_background, dense_reduced, factored_background, factored_reduced
from cubeflow.steps.reduce import reduce_observation
from cubeflow.steps.safe import make_run_mask
from cubeflow.steps.setup import ReduceSetup
from cubeflow.storage.artifact import Artifact, write_artifact

TOGETHER = 6  # runs: several are added to the sums in one pass
Stages = dict[str, Callable[[], Any]]
Datasets = dict[str, Any]


def main(manifest: Path, repeats: int) -> None:
    """Print the medians as JSON, in seconds."""
    batch = open_batch(manifest, print)
    entry = next(iter(batch.entries.values()))
    read = partial(read_observation, entry, ReadOptions(duplicates=batch.setup.duplicates))
    observation = read()
    label = next(iter(batch.manifest["backgrounds"]))
    stages: Stages = {"read": read, **product_stages(observation, batch.setup)}
    reduced = reduce_observation(observation, batch.setup)
    counts = reduced.maps["counts"]
    mask = batch.exclusions.mask(counts.geom, counts.axis("energy"))
    background = make_background(reduced, batch.manifest["backgrounds"][label], mask)
    stages["norm"] = partial(make_background, reduced, batch.manifest["backgrounds"][label], mask)
    total = StackSum()
    stages["stack"] = lambda: [total.add(run_stack(reduced, background)) for _ in range(TOGETHER)]
    stages["write"] = lambda: write_run(manifest.parent, dense_reduced(reduced)[0], dense_background(background)[0])
    stages["write, factored"] = lambda: write_run(
        manifest.parent, factored_reduced(reduced, batch.setup)[0], factored_background(background, mask)[0]
    )
    found = {name: median(cpu_seconds(stage) for _ in range(repeats)) for name, stage in stages.items()}
    print(json.dumps({**found, "stack": found["stack"] / TOGETHER}))


def product_stages(observation: Observation, setup: ReduceSetup) -> Stages:
    """What makes each product, from an observation in memory; the geometry is that of a batch."""
    pointing, cut = observation.pointing, setup.offset_max_deg
    geom = make_cutout(setup.geometry, pointing.ra_deg, pointing.dec_deg, cut)
    coarse = make_cutout(setup.irf_geometry, pointing.ra_deg, pointing.dec_deg, cut + 0.15)
    live, spectrum = observation.livetime_s, make_spectrum(setup.spectrum)
    exposure = make_map_exposure_true_energy(pointing, live, observation.aeff, geom, setup.energy_true, cut)
    ontime = observation.ontime_s

    def geometry() -> None:
        fresh = geometry_from_plain(geom.to_plain())
        _ = fresh.solid_angle_sr, fresh.center_vectors

    return {
        "geometry": geometry,
        "counts": lambda: make_map_counts(observation.events, geom, setup.energy, pointing, cut),
        "exposure": lambda: make_map_exposure_true_energy(
            pointing, live, observation.aeff, geom, setup.energy_true, cut
        ),
        "exposure_reco": lambda: make_map_exposure_reco_energy(
            exposure, pointing, observation.edisp, setup.energy, spectrum
        ),
        "background": lambda: make_map_hadron_acceptance(
            pointing, ontime, observation.background, geom, setup.energy, cut
        ),
        "psf": lambda: make_psf_map(pointing, observation.psf, coarse, setup.energy_true, setup.rad),
        "edisp": lambda: make_edisp_map(pointing, observation.edisp, coarse, setup.energy_true, setup.energy),
        "mask_safe": lambda: make_run_mask(observation, geom, setup),
    }


def write_run(folder: Path, reduced: Datasets, background: Datasets) -> None:
    """Write both artifacts of the run."""
    for kind, datasets in (("reduced", reduced), ("background", background)):
        write_artifact(folder / f"stage-{kind}.h5", Artifact(kind, "0" * 64, 1, datasets))


def cpu_seconds(stage: Callable[[], Any]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    stage()
    return time.process_time() - start


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
