"""A case by gammapy, as fast as it goes: cutouts, its own parallel maker, files without compression.

python benchmarks/gammapy_run.py case.json folder [--jobs 2] [--each] [--stages 5]
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

from usage import cpu_seconds

warnings.simplefilter("ignore")


def main() -> None:
    """Reduce the case of the command line and write the results into its folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--each", action="store_true", help="write each run, then the stack")
    parser.add_argument("--stages", type=int, default=0, help="time each product so many times instead")
    options = parser.parse_args()
    case = json.loads(options.case.read_text())
    if options.stages:
        print(json.dumps(time_stages(case, options.stages, options.folder)))
        return
    for field in case["fields"]:
        if options.each:
            reduce_each(case, field, options.folder)
        else:
            reduce_field(case, field, options.folder, options.jobs)


def reduce_field(case: dict[str, Any], field: dict[str, Any], folder: Path, jobs: int) -> None:
    """Stack of a field with the normalised acceptance and, if asked for, with rings; significance images."""
    from gammapy.datasets import MapDatasetOnOff
    from gammapy.estimators import ExcessMapEstimator
    from gammapy.makers import DatasetsMaker

    empty, observations, makers = prepare(case, field)
    width = 2 * case["offset_max_deg"]
    options = {"cutout_mode": "trim", "cutout_width": f"{width} deg", "n_jobs": jobs}
    stacked = DatasetsMaker(makers, stack_datasets=True, **options).run(empty, observations)[0]
    write(stacked, folder / f"{field['name']}-fov")
    image = ExcessMapEstimator("0.1 deg", selection_optional=[]).run(stacked)
    image["sqrt_ts"].write(folder / f"{field['name']}-fov-significance.fits", overwrite=True)
    if case["ring"]:
        makers = [*makers[:2], ring_maker(case, empty)]
        wide = {**options, "cutout_mode": "partial", "cutout_width": f"{width + 2 * sum(case['ring'])} deg"}
        datasets = DatasetsMaker(makers, stack_datasets=False, **wide).run(empty, observations)
        total = MapDatasetOnOff.from_map_dataset(empty, acceptance=1, acceptance_off=1, name="ring")
        for dataset in datasets:
            total.stack(dataset)
        write(total, folder / f"{field['name']}-ring")
        image = ExcessMapEstimator("0.1 deg", selection_optional=[]).run(total)
        image["sqrt_ts"].write(folder / f"{field['name']}-ring-significance.fits", overwrite=True)


def reduce_each(case: dict[str, Any], field: dict[str, Any], folder: Path) -> None:
    """Each run by itself, written, and the stack of all."""
    empty, observations, makers = prepare(case, field)
    stacked = empty.copy(name="stacked")
    for observation in observations:
        dataset = cutout_of(empty, observation, case)
        for maker in makers:
            dataset = maker.run(dataset, observation)
        write(dataset, folder / str(observation.obs_id))
        stacked.stack(dataset)
    if len(observations) > 1:
        write(stacked, folder / "stack")


def prepare(case: dict[str, Any], field: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
    """Empty dataset, observations and makers of a field."""
    from astropy.coordinates import SkyCoord
    from gammapy.data import DataStore
    from gammapy.datasets import MapDataset
    from gammapy.makers import FoVBackgroundMaker, MapDatasetMaker, SafeMaskMaker
    from gammapy.maps import MapAxis, WcsGeom

    low, high, n_bins = case["energy"]
    energy = MapAxis.from_energy_bounds(low, high, n_bins, unit="TeV")
    low, high, n_bins = case["energy_true"]
    energy_true = MapAxis.from_energy_bounds(low, high, n_bins, unit="TeV", name="energy_true")
    center = SkyCoord(field["lon_deg"], field["lat_deg"], unit="deg", frame=field["frame"])
    geom = WcsGeom.create(
        skydir=center,
        proj=field["projection"],
        frame=field["frame"],
        width=tuple(field["width_deg"]),
        binsz=case["pixel_deg"],
        axes=[energy],
    )
    empty = MapDataset.create(geom, energy_axis_true=energy_true, binsz_irf=0.2, name=field["name"])
    observations = DataStore.from_dir(case["store"]).get_observations(field["runs"])
    methods = ["aeff-default", "offset-max"] if case["thresholds"] else ["offset-max"]
    safe = SafeMaskMaker(methods=methods, offset_max=f"{case['offset_max_deg']} deg")
    keep = exclusion(case, geom)
    return empty, observations, [MapDatasetMaker(), safe, FoVBackgroundMaker(method="scale", exclusion_mask=keep)]


def exclusion(case: dict[str, Any], geom: Any) -> Any:
    """Mask of the pixels from which background is taken."""
    circles = ";".join(f"circle({ra}, {dec}, {radius})" for ra, dec, radius in case["exclusion"])
    return geom.to_image().region_mask(f"icrs;{circles}", inside=False)


def ring_maker(case: dict[str, Any], empty: Any) -> Any:
    """Ring background."""
    from gammapy.makers import RingBackgroundMaker

    r_in, width = (f"{value} deg" for value in case["ring"])
    return RingBackgroundMaker(r_in=r_in, width=width, exclusion_mask=exclusion(case, empty.counts.geom))


def cutout_of(empty: Any, observation: Any, case: dict[str, Any]) -> Any:
    """Part of the empty dataset that the run can fill."""
    center = observation.get_pointing_icrs(observation.tmid)
    name = f"run{observation.obs_id}"
    return empty.cutout(center, width=f"{2 * case['offset_max_deg']} deg", mode="trim", name=name)


def write(dataset: Any, stem: Path) -> None:
    """Write a dataset as FITS; compression would take ten times as long."""
    dataset.write(stem.with_suffix(".fits"), overwrite=True)


def time_stages(case: dict[str, Any], repeats: int, folder: Path) -> dict[str, float]:
    """CPU seconds of each product of the first run, medians, after a warm-up."""
    from gammapy.makers import MapDatasetMaker

    empty, observations, (_, safe, fov) = prepare(case, case["fields"][0])
    observation = observations[0]
    full = MapDatasetMaker().run(cutout_of(empty, observation, case), observation)
    full = safe.run(full, observation)

    def product(name: str) -> Any:
        return lambda: MapDatasetMaker([name]).run(cutout_of(empty, observation, case), observation)

    stages = {name: product(name) for name in ("counts", "exposure", "background", "psf", "edisp")}
    stages["mask_safe"] = lambda: safe.run(full.copy(), observation)
    stages["norm"] = lambda: fov.run(full.copy(), observation)
    stages["stack"] = lambda: empty.copy().stack(full)
    stages["write"] = lambda: write(full, folder / "stage")
    return cpu_seconds(stages, repeats)


if __name__ == "__main__":
    main()
