"""The rule ``export``: the final products of a label, from the last stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cubeflow.errors import FailedError
from cubeflow.maps import Cube, geometry_from_plain
from cubeflow.plan import versions
from cubeflow.plan.write import read_json
from cubeflow.products.stack import Stack
from cubeflow.steps.datasets import make_fits_dataset
from cubeflow.steps.datasets_yaml import datasets_yaml
from cubeflow.steps.exclusion import planned_masks
from cubeflow.steps.final import Final, make_final
from cubeflow.steps.finish import significance_text
from cubeflow.steps.root import open_root
from cubeflow.steps.scratch import named_scratch
from cubeflow.storage.artifact import Artifact, write_artifact, write_artifact_streamed
from cubeflow.storage.atomic import write_atomic
from cubeflow.storage.fits import write_dataset_fits, write_image_fits
from cubeflow.storage.slabs import Map


def export_label(final_path: Path, say: Callable[[str], None]) -> list[Path]:
    """Write the final products of a label.

    Parameters
    ----------
    final_path : Path
        ``<label>-<key>.final.json`` of the plan.
    say : callable
        Takes one line for the log.

    Returns
    -------
    list of Path
        ``cube.h5``, ``dataset.fits.gz``, ``significance.fits.gz`` and ``datasets.yaml``.

    Raises
    ------
    FailedError
        If every run was refused or dropped.
    """
    manifest = read_json(final_path)
    folder = final_path.parents[1]
    with open_root(folder / "stack" / manifest["label"] / f"{manifest['root']}.h5", manifest) as (layers, about):
        if about.n_runs == 0:
            raise FailedError(f"{manifest['target']}: {manifest['label']}: no run is left; see {folder / 'runs.ecsv'}")
        geometries = geometry_from_plain(manifest["geometry"]), geometry_from_plain(manifest["irf_geometry"])
        keep = planned_masks(manifest).mask(geometries[0])
        final = make_final(layers, about, geometries, manifest["export"], keep)
        output = folder / manifest["label"]
        output.mkdir(parents=True, exist_ok=True)
        paths = [output / name for name in ("cube.h5", "dataset.fits.gz", "significance.fits.gz", "datasets.yaml")]
        write_dataset_fits(paths[1], make_fits_dataset(final.maps, about, manifest["key"]))
        write_atomic(paths[3], _datasets_list(final, manifest, paths[1].name))
        write_image_fits(paths[2], _images(final), {"CFKEY": manifest["key"][:16]})
        write_cube(paths[0], final, about, manifest)  # the last: its key tells that all of them are made
        _say_summary(manifest, final, output, say)
    return paths


def write_cube(path: Path, final: Final, about: Stack, manifest: Mapping[str, Any]) -> None:
    """Write ``cube.h5``: all final maps, the significance maps, and what they were made of."""
    datasets: dict[str, Map | NDArray[Any]] = dict(final.maps)
    for name in ("counts", "background", "excess", "significance"):
        datasets[f"disc_{name}"] = getattr(final.significance, name).to_float32()
    datasets["gti_s"] = about.gti_s
    summary = {"target": manifest["target"], "label": manifest["label"], **final.summary}
    made_of = {name: manifest[name] for name in ("reduce", "background", "export", "runs", "versions")}
    artifact = Artifact("cube", manifest["key"], versions.EXPORT, datasets, summary, made_of)
    if all(isinstance(cube, Cube) for cube in final.maps.values()):
        write_artifact(path, artifact, manifest["settings"]["compression"])
    else:
        write_artifact_streamed(path, artifact, manifest["settings"]["compression"], named_scratch())


def _datasets_list(final: Final, manifest: Mapping[str, Any], file: str) -> bytes:
    """List for gammapy with the one dataset that lies beside it."""
    kind = "MapDatasetOnOff" if "alpha" in final.maps else "MapDataset"
    return datasets_yaml([(f"{manifest['target']}-{manifest['label']}", kind, file)])


def _images(final: Final) -> dict[str, Cube]:
    """Images in discs, the significance first."""
    names = ("significance", "excess", "counts", "background")
    images = {name: getattr(final.significance, name).to_float32() for name in names}
    if "disc_flux" in final.maps:
        images["flux"] = final.maps["disc_flux"]
    return images


def _say_summary(manifest: Mapping[str, Any], final: Final, folder: Path, say: Callable[[str], None]) -> None:
    summary = final.summary
    say(
        f"{manifest['target']}: {manifest['label']}: {summary['n_runs']} runs, {summary['livetime_s'] / 3600:.2f} h, "
        f"{summary['counts']} counts, {significance_text(summary['source'])}; {folder}"
    )
