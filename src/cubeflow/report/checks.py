"""Whether a background is right: empty sky, the norms of the runs, and counts beside it across the field of view."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.arrays import FloatArray
from cubeflow.products.profiles import N_SECTORS, OFFSET_WIDTH_DEG, Profiles
from cubeflow.products.significance import OffSource
from cubeflow.report.drawing import ALERT, DATA, MODEL, SERIES, SOFT, Panel, Series, draw_panels
from cubeflow.report.runs import numbers, run_names
from cubeflow.report.source import chi2_constant, over_background

if TYPE_CHECKING:
    from astropy.table import Table

Bands = Sequence[tuple[float, float]]
OUTLIER_SIGMAS = 5.0
FLAT = 0.1  # distance of mean from 0 and width from 1 that is taken as none, beside three times the error
DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


def draw_off_source(found: OffSource, significance: FloatArray, alt: str) -> str:
    """SVG of the significances outside known sources, beside those of all pixels (NaN for none) and of empty sky."""
    edges, histogram = found.edges, found.histogram.astype(float)
    step, n_pixels = edges[1] - edges[0], float(histogram.sum())
    everything = significance[np.isfinite(significance)]
    reach = np.concatenate([edges, np.arange(edges[-1] + step, everything.max(initial=0.0) + 2 * step, step)])
    x = np.linspace(-6.0, 6.0, 121)
    centres = 0.5 * (edges[1:] + edges[:-1])
    words = [f"{low:.1f} to {high:.1f} σ" for low, high in itertools.pairwise(edges)]
    series = [
        Series(reach, np.histogram(everything, reach)[0].astype(float), "steps", SOFT, "all"),
        Series(centres, np.where(histogram > 0, histogram, np.nan), "points", DATA, "off source", words=words),
        Series(x, n_pixels * step * normal(x, 0.0, 1.0), "dashed", ALERT, "expected"),
    ]
    if np.isfinite(found.fit_width):
        fit = n_pixels * step * normal(x, found.fit_mean, found.fit_width)
        series.append(Series(x, fit, "line", MODEL, "Gaussian fit"))
    x_range = min(float(edges[0]), -5.0), float(np.clip(reach[-1], 5.0, 15.0))
    y_range = 0.5, max(2.0 * float(histogram.max(initial=1)), 2.0)
    panel = Panel(series, "significance (σ)", f"pixels per {step:.2g} σ", False, True, x_range, y_range)
    return draw_panels([panel], alt, height=240)


def normal(x: FloatArray, mean: float, width: float) -> FloatArray:
    """Density of the normal distribution."""
    return np.exp(-0.5 * ((x - mean) / width) ** 2) / (width * np.sqrt(2.0 * np.pi))


def off_source_text(found: OffSource) -> str:
    """Whether the background is flat, with mean and width of all pixels off source, and chi-square of the histogram."""
    mean, width = found.mean, found.width
    if not (np.isfinite(mean) and np.isfinite(width)):
        return "too few pixels for a mean and a width"
    flat = abs(mean) <= max(3 * found.mean_err, FLAT) and abs(width - 1) <= max(3 * found.width_err, FLAT)
    text = f"mean {mean:.2f} ± {found.mean_err:.2f}, width {width:.2f} ± {found.width_err:.2f}".replace("-", "−")
    return f"{'flat' if flat else 'not flat'}: off source {text} (expected 0 and 1)"


@dataclass(frozen=True, eq=False)
class Norms:
    """Norms of all runs of a label that have one in any group, in order."""

    names: list[str]  # of each run
    obs_id: NDArray[np.int64]  # shape (n_runs,)
    norm: FloatArray  # shape (n_runs, n_groups), NaN where there is none
    norm_err: FloatArray  # the same
    mjd: FloatArray  # start of each run, NaN where unknown
    zenith_deg: FloatArray  # NaN where unknown
    outlier: NDArray[np.bool_]  # far from the median of its group

    @property
    def chi2(self) -> tuple[float, int]:
        """Chi-square of the norms about the weighted mean of their group, and degrees of freedom, all groups."""
        found = [chi2_constant(*pair) for pair in zip(self.norm.T, self.norm_err.T, strict=True)]
        return sum(chi2 for chi2, _ in found), sum(dof for _, dof in found)

    @property
    def suspects(self) -> list[tuple[str, str]]:
        """Run and reason of norms that are far from the others."""
        return [
            (str(self.obs_id[run]), f"norm {self.norm[run, group]:.3g} where the median is {median:.3g}")
            for group, median in enumerate(np.nanmedian(self.norm, axis=0))
            for run in np.flatnonzero(self.outlier[:, group])
        ]


def collect_norms(runs: Table, label: str) -> Norms | None:
    """Norms of a label from the run table; None for a method without norms, or without any run."""
    groups = [k for k in range(len(runs.colnames)) if f"{label}_norm_{k}" in runs.colnames]
    if not groups:
        return None
    names = ([f"{label}_{name}_{group}" for group in groups] for name in ("norm", "norm_err"))
    norm, error = (np.stack([numbers(runs, name) for name in each], axis=1) for each in names)
    found, known = ~np.isnan(norm).all(axis=1), ~np.isnan(norm).all(axis=0)
    if not found.any():
        return None
    norm, error, rows = norm[found][:, known], error[found][:, known], runs[found]
    outlier = np.stack([find_outliers(*pair) for pair in zip(norm.T, error.T, strict=True)], axis=1)
    about = np.asarray(rows["obs_id"], np.int64), norm, error, numbers(rows, "tstart"), numbers(rows, "zenith")
    return Norms(run_names(rows), *about, outlier)


def find_outliers(norm: FloatArray, error: FloatArray) -> NDArray[np.bool_]:
    """Whether each norm, shape (n,), is further from the median than five times its error and the usual scatter.

    The scatter is 1.4826 times the median distance from the median, which outliers do not enlarge.
    """
    if not np.isfinite(norm).any():
        return np.zeros(norm.shape, bool)
    distance = np.abs(norm - np.nanmedian(norm))
    scatter = 1.4826 * np.nanmedian(distance)
    return distance > OUTLIER_SIGMAS * np.fmax(np.nan_to_num(error), scatter)


def draw_norms(norms: Norms, alt: str) -> str:
    """SVG with one panel each for order in time, and zenith angle."""
    order = 1.0 + np.argsort(np.argsort(norms.mjd, kind="stable"), kind="stable").astype(float)
    panels = []
    for title, x in {"run, in order of time": order, "zenith (°)": norms.zenith_deg}.items():
        series = []
        for group, colour in zip(range(norms.norm.shape[1]), SERIES * 9, strict=False):
            label = "norm" if norms.norm.shape[1] == 1 else f"group {group}"
            y, error = norms.norm[:, group], norms.norm_err[:, group]
            series.append(Series(x, y, colour=colour, label=label, error=error, words=norms.names))
        if norms.outlier.any():
            runs, groups = np.nonzero(norms.outlier)
            names = [norms.names[k] for k in runs]
            series.append(Series(x[runs], norms.norm[runs, groups], colour=ALERT, label="far off", words=names))
        panels.append(Panel(series, title, "norm"))
    return draw_panels(panels, alt, height=220)


def draw_offsets(profiles: Profiles, bands_tev: Bands, alt: str) -> str:
    """SVG with a panel per energy band of the density by offset, and the residual in sigma below it."""
    panels = []
    for first in range(0, len(bands_tev), 2):
        upper, lower = [], []
        for band, (low, high) in list(enumerate(bands_tev))[first : first + 2]:
            counts, background = profiles.offset_counts[band], profiles.offset_background[band]
            area = profiles.area_deg2[band]
            scale = np.divide(1.0, area, out=np.full(area.shape, np.nan), where=area > 0)
            edges = OFFSET_WIDTH_DEG * np.arange(area.size + 1)
            centres = 0.5 * (edges[1:] + edges[:-1])
            words = [f"{centre:.1f}° from the pointing" for centre in centres]
            series, residual = over_background(edges, centres, counts, background, words, scale)
            top = 1.1 * float(np.nanmax([*(counts * scale), *(background * scale)], initial=1e-9))
            title = f"{low:.3g} to {high:.3g} TeV"
            upper.append(Panel(series, "", "events / deg²", y_range=(0.0, top), title=title))
            limit = max(3.5, 1.15 * float(np.nan_to_num(np.abs(residual[1].y)).max(initial=0.0)))
            lower.append(Panel(residual, "offset (°)", "residual (σ)", y_range=(-limit, limit)))
        panels += [*upper, *lower]
    return draw_panels(panels, alt, columns=min(len(bands_tev), 2), height=150)


def draw_sectors(profiles: Profiles, bands_tev: Bands, alt: str) -> str:
    """SVG with a panel per energy band: counts over background in eight sectors about the pointing."""
    panels = []
    for band, (low, high) in enumerate(bands_tev):
        counts, background = profiles.sector_counts[band], profiles.sector_background[band]
        scale = np.divide(1.0, background, out=np.full(N_SECTORS, np.nan), where=background > 0)
        y, error = 100.0 * (counts * scale - 1.0), 100.0 * np.sqrt(counts) * scale
        reach = 1.1 * float((np.abs(y) + error)[np.isfinite(y)].max(initial=1.0))
        zero = Series(np.array([0.0, N_SECTORS - 1.0]), np.zeros(2), "line", SOFT)
        points = Series(np.arange(N_SECTORS, dtype=float), y, error=error, words=DIRECTIONS)
        title, ends = f"{low:.3g} to {high:.3g} TeV", ((-0.4, N_SECTORS - 0.6), (-reach, reach))
        panels.append(Panel([zero, points], "", "residual (%)", False, False, *ends, title=title, names=DIRECTIONS))
    return draw_panels(panels, alt, columns=min(len(panels), 2), height=180)
