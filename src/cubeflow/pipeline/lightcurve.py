"""The task ``series``: the light curve of a label, and the list of its datasets for a joint fit."""

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from cubeflow.errors import Say, counted
from cubeflow.maps import Cube
from cubeflow.observation import to_mjd
from cubeflow.pipeline.certificate import certified
from cubeflow.pipeline.export import dataset_entry
from cubeflow.pipeline.stack import open_made
from cubeflow.pipeline.table import TIMES
from cubeflow.pipeline.tasks import JOINT, LIGHT_CURVE, SeriesTask, Target, certificate_file, files_of
from cubeflow.products.significance import disc_pixels
from cubeflow.store.artifact import OpenArtifact
from cubeflow.store.atomic import write_atomic
from cubeflow.store.fits import datasets_yaml, models_yaml

PER_CM2 = 1e-4  # of what is per m2
# Of the column: unit, and what it holds.
COLUMNS = {
    "interval": ("", "folder of its products, below parts"),
    "time_min": ("d", "start of the first good time interval, MJD (TT)"),
    "time_max": ("d", "end of the last good time interval, MJD (TT)"),
    "e_min": ("TeV", "lower end of the energies"),
    "e_max": ("TeV", "upper end of the energies"),
    "flux": ("cm-2 s-1", "flux of a point source at the target, from the excess in the disc and the containment"),
    "flux_err": ("cm-2 s-1", "error of the flux upwards"),
    "flux_ul": ("cm-2 s-1", "upper limit (95 %) where the significance is below 3"),
    "sqrt_ts": ("", "significance of the excess in the disc, negative for a deficit"),
    "livetime": ("s", "livetime"),
    "n_runs": ("", "runs that are used"),
    "n_on": ("", "counts in the disc"),
    "n_off": ("", "OFF counts of the ring about the target"),
    "alpha": ("", "background in the disc over OFF counts"),
    "excess": ("", "ON counts less background in the disc"),
    "containment": ("", "part of the PSF in the disc"),
    "energy_threshold": ("TeV", "lower edge of the first energy bin that is safe in the disc"),
}
OF_SOURCE = {name: name for name in ("flux", "flux_err", "flux_ul", "alpha", "excess", "containment")}
OF_SOURCE |= {"sqrt_ts": "significance", "n_on": "counts", "n_off": "off"}
OF_ENERGY = ("e_min", "e_max", "flux", "flux_err", "flux_ul", "sqrt_ts")  # shape (n, 1), as gammapy has it
Point = dict[str, str | float]


def write_series(results: Path, target: Target, task: SeriesTask, say: Say) -> None:
    """Write ``lightcurve.ecsv``, and ``joint.yaml`` with ``joint-models.yaml``, of a label; FailedError as `open_made`.

    An interval of which no run is left is no point of the light curve.
    """
    folder = results / task.folder
    points, listed, read, in_curve, in_list = [], [], [], set(task.intervals), set(task.joint)
    for part, key in task.parts.items():
        place = task.part_folder(part)
        read.append(results / certificate_file(place, key))
        with open_made(results / place / "cube.h5", "cube", key) as opened:
            if part in in_curve and opened.artifact.attributes["n_runs"]:
                points.append({"interval": part, **make_point(opened, target)})
            if part in in_list:
                wrong = opened.artifact.attributes["systematic"]["used"][0]
                file = os.path.relpath(f"{place}/dataset.fits.gz", task.folder)
                about = (replace(task, target=part), "") if task.family else (task, part)
                listed.append(dataset_entry(*about, opened.names, file, wrong))
    *names, certificate = files_of(task)
    made_from = task.recipe(target).record
    with certified(results / certificate, task.key, [results / name for name in names], made_from, read):
        if task.intervals:
            from astropy.table import Column, Table

            # In order of time, as ``gammapy.estimators.FluxPoints.read(..., format="lightcurve")`` takes it.
            table = Table(meta={"SED_TYPE": "flux", **TIMES, "TIMESYS": "tt"})  # in which letters gammapy takes it
            points.sort(key=lambda point: point["time_min"])
            for name, (unit, about_column) in COLUMNS.items():
                cells = np.array([point[name] for point in points])
                data = cells[:, None] if name in OF_ENERGY and points else cells
                table[name] = Column(data, unit=unit or None, description=about_column)
            table.write(text := io.StringIO(), format="ascii.ecsv")
            write_atomic(folder / LIGHT_CURVE, text.getvalue().encode())
            say(f"{task.target}: {task.label}: {folder / LIGHT_CURVE}: {counted(len(points), 'interval')}")
        if task.joint:
            write_atomic(folder / JOINT[0], datasets_yaml(listed))
            write_atomic(folder / JOINT[1], models_yaml(listed))


def make_point(opened: OpenArtifact, target: Target) -> Point:
    """Point of a light curve from the cube of an interval; NaN where there is no answer."""
    about, edges = opened.artifact.attributes, target.reduce.energy.edges
    found = {name: np.nan if value is None else value for name, value in (about["source"] or {}).items()}
    times = to_mjd(np.asarray(opened.dataset("gti_s")))
    mask = cast(Cube, opened.dataset("mask_safe"))
    rows, columns, _ = disc_pixels(mask.geom, target.position_deg, target.significance.radius_deg[0])
    safe = np.flatnonzero(mask.data[:, rows, columns].any(axis=1))
    point = {column: found.get(name, np.nan) for column, name in OF_SOURCE.items()}
    to_point_source = PER_CM2 / point["containment"]
    return {
        **point,
        **{name: point[name] * to_point_source for name in ("flux", "flux_err", "flux_ul")},
        "time_min": float(times[:, 0].min()),
        "time_max": float(times[:, 1].max()),
        "e_min": edges[0],
        "e_max": edges[-1],
        "livetime": about["livetime_s"],
        "n_runs": about["n_runs"],
        "energy_threshold": edges[safe[0]] if safe.size else np.nan,
    }
