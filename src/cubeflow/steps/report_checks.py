"""Figures that tell whether a background is right, and the spectra of a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cubeflow.maps import Axis
from cubeflow.products.profiles import Profiles, band_edges_tev
from cubeflow.report import acceptance, norms, off_source, spectra
from cubeflow.report.page import Figure
from cubeflow.steps.rows import TargetRows
from cubeflow.storage.slabs import Map, in_memory

Draw = Callable[[str, str], str]
SHOWN_OUTLIERS = 20


class Check(NamedTuple):
    """A figure that is yet to be drawn."""

    kind: str
    title: str
    caption: str
    draw: Draw


@dataclass(frozen=True, eq=False)
class LabelCube:
    """Maps of a final cube, which stay on the disk, and its attributes."""

    maps: Mapping[str, Map]
    about: Mapping[str, Any]

    @property
    def energy(self) -> Axis:
        """Reconstructed energy."""
        return self.maps["counts"].axes[0]


@dataclass(frozen=True, eq=False)
class LabelRows:
    """Rows of the run table, and the summed profiles of the label."""

    label: str
    table: TargetRows
    profiles: Profiles | None


def draw_checks(name: str, of: str, cube: LabelCube, rows: LabelRows) -> list[Figure]:
    """Figures of a label in the order in which people look; those without data are left out.

    Parameters
    ----------
    name : str
        Beginning of the names of the figures.
    of : str
        Which target and label, in words.
    cube : LabelCube
        Final cube.
    rows : LabelRows
        What is known of its runs.
    """
    profiles = _profiles(rows.profiles, band_edges_tev(cube.energy))
    made = [_off_source(cube), _norms(rows), *profiles, *_spectra(cube, rows)]
    figures = []
    for check in (each for each in made if each is not None):
        alt = f"{check.title} {of}. {check.caption}"
        svg = check.draw(f"{name}-{check.kind}", alt)
        figures.append(Figure(f"{name}-{check.kind}", check.title, check.caption, svg))
    return figures


def _off_source(cube: LabelCube) -> Check | None:
    about: Mapping[str, Any] | None = cube.about.get("off_source")
    if not about or not about["n_pixels"]:
        return None
    data = np.asarray(in_memory(cube.maps["disc_significance"]).data, dtype=float)
    caption = (
        f"Outside the exclusions, {off_source.describe(about)}. "
        "Without sources and with the right background the mean is 0 and the width 1."
    )
    return Check(
        "off-source",
        "Significance of empty sky",
        caption,
        partial(off_source.draw_off_source, about, data),
    )


def _norms(rows: LabelRows) -> Check | None:
    found = norms.collect_norms(rows.table.columns, rows.label)
    if found is None:
        return None
    out = [str(run) for run in np.unique(found.obs_id[found.outlier.any(axis=1)])]
    if out:
        more = f" and {len(out) - SHOWN_OUTLIERS} more" if len(out) > SHOWN_OUTLIERS else ""
        caption = f"Runs far from the median (5 times error and scatter): {', '.join(out[:SHOWN_OUTLIERS])}{more}."
    else:
        caption = "No run is further from the median than 5 times its error and the usual scatter."
    return Check(
        "norms",
        "Norm of the background by run, time and zenith",
        caption,
        partial(norms.draw_norms, found),
    )


def _profiles(summed: Profiles | None, bands: acceptance.Bands) -> list[Check]:
    if summed is None or not summed.area_deg2.any():
        return []
    radial = "Counts and background outside the exclusions, by offset from the pointing, all runs together."
    sectors = "Relative residual in eight sectors about the pointings, outside the exclusions, all runs together."
    return [
        Check("radial", "Acceptance by offset", radial, partial(acceptance.draw_radial, summed, bands)),
        Check("sectors", "Acceptance by direction", sectors, partial(acceptance.draw_sectors, summed, bands)),
    ]


def _spectra(cube: LabelCube, rows: LabelRows) -> list[Check]:
    about = cube.about
    found = spectra.collect_spectra(cube.maps, (about["ra_deg"], about["dec_deg"]))
    used = (row for row in rows.table.rows("status", "energy_threshold_tev") if row["status"] == "ok")
    known = (row["energy_threshold_tev"] for row in used)
    thresholds = np.fromiter((value for value in known if value is not None), float)
    counts = "Events of the whole map that pass the safe mask, and the background predicted for them."
    made = [Check("counts-spectrum", "Counts by energy", counts, partial(spectra.draw_counts, found, thresholds))]
    if found.true_tev.size:
        words = "Effective area times livetime by true energy."
        made.append(Check("exposure-spectrum", "Exposure by energy", words, partial(spectra.draw_exposure, found)))
    return made
