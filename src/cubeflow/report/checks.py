"""Whether a background is right: empty sky, the norms of the runs, and counts beside it across the field of view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.arrays import FloatArray
from cubeflow.products.profiles import N_SECTORS, OFFSET_WIDTH_DEG, Profiles
from cubeflow.products.significance import OffSource
from cubeflow.report.drawing import ALERT, DATA, INK, MANY_POINTS, MODEL, SERIES, SOFT, drawing, grid, to_svg
from cubeflow.report.runs import numbers

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes

Bands = Sequence[tuple[float, float]]
X_TICKS = 6  # at most: dates as MJD with a fraction need the room
MAX_NAMES = 8
OUTLIER_SIGMAS = 5.0
DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


def draw_off_source(found: OffSource, significance: FloatArray, svg_name: str, alt: str) -> str:
    """SVG of the significances outside known sources, beside those of all pixels (NaN for none) and of empty sky."""
    edges, histogram = found.edges, found.histogram
    step, n_pixels = edges[1] - edges[0], float(histogram.sum())
    everything = significance[np.isfinite(significance)]
    with drawing(5.8, 3.8) as figure:
        axes = figure.add_subplot()
        grid(axes)
        reach = np.concatenate([edges, np.arange(edges[-1] + step, everything.max(initial=0.0) + 2 * step, step)])
        axes.stairs(np.histogram(everything, reach)[0], reach, color=SOFT, label="all pixels")
        axes.stairs(histogram, edges, color=DATA, fill=True, alpha=0.3)
        axes.stairs(histogram, edges, color=DATA, label="outside the exclusions")
        x = np.linspace(-6.0, 6.0, 241)
        axes.plot(x, n_pixels * step * normal(x, 0.0, 1.0), "--", color=ALERT, label="expected: mean 0, width 1")
        if np.isfinite(found.fit_width):
            fit = n_pixels * step * normal(x, found.fit_mean, found.fit_width)
            axes.plot(x, fit, color=MODEL, label="Gaussian fit")
        axes.set_yscale("log")
        axes.set_ylim(0.5, max(2.0 * float(histogram.max(initial=1)), 2.0))
        axes.set_xlim(min(edges[0], -5.0), float(np.clip(reach[-1], 5.0, 15.0)))
        axes.set_xlabel("significance (σ)")
        axes.set_ylabel(f"pixels per {step:.2g} σ")
        axes.legend(fontsize=8, loc="upper right")
        return to_svg(figure, svg_name, alt)


def normal(x: FloatArray, mean: float, width: float) -> FloatArray:
    """Density of the normal distribution."""
    return np.exp(-0.5 * ((x - mean) / width) ** 2) / (width * np.sqrt(2.0 * np.pi))


def off_source_text(found: OffSource) -> str:
    """One sentence on mean and width."""
    parts = [
        f"{title}: mean {mean:.2f} ± {mean_err:.2f}, width {width:.2f} ± {width_err:.2f}"
        for title, mean, mean_err, width, width_err in (
            ("all pixels", found.mean, found.mean_err, found.width, found.width_err),
            ("fit", found.fit_mean, found.fit_mean_err, found.fit_width, found.fit_width_err),
        )
        if np.isfinite(mean) and np.isfinite(width)
    ]
    return "; ".join(parts).replace("-", "−") or "too few pixels for a mean and a width"


@dataclass(frozen=True, eq=False)
class Norms:
    """Norms of all runs of a label that have one in any group, in order."""

    obs_id: NDArray[np.int64]  # shape (n_runs,)
    norm: FloatArray  # shape (n_runs, n_groups), NaN where there is none
    norm_err: FloatArray  # the same
    mjd: FloatArray  # start of each run, NaN where unknown
    zenith_deg: FloatArray  # NaN where unknown
    outlier: NDArray[np.bool_]  # far from the median of its group


def collect_norms(runs: Table, label: str) -> Norms | None:
    """Norms of a label from the run table; None for a method without norms, or without any run."""
    n_groups = 0
    while f"{label}_norm_{n_groups}" in runs.colnames:
        n_groups += 1
    if not n_groups:
        return None
    norm, error = (
        np.stack([numbers(runs, f"{label}_{name}_{group}") for group in range(n_groups)], axis=1)
        for name in ("norm", "norm_err")
    )
    found = ~np.isnan(norm).all(axis=1)
    if not found.any():
        return None
    norm, error = norm[found], error[found]
    outlier = np.stack([find_outliers(*pair) for pair in zip(norm.T, error.T, strict=True)], axis=1)
    mjd = numbers(runs, "tstart")[found]
    obs_id = np.asarray(runs["obs_id"], np.int64)[found]
    return Norms(obs_id, norm, error, mjd, numbers(runs, "zenith")[found], outlier)


def find_outliers(norm: FloatArray, error: FloatArray) -> NDArray[np.bool_]:
    """Whether each norm, shape (n,), is further from the median than five times its error and the usual scatter.

    The scatter is 1.4826 times the median distance from the median, which outliers do not enlarge.
    """
    if not np.isfinite(norm).any():
        return np.zeros(norm.shape, bool)
    distance = np.abs(norm - np.nanmedian(norm))
    scatter = 1.4826 * np.nanmedian(distance)
    return distance > OUTLIER_SIGMAS * np.fmax(np.nan_to_num(error), scatter)


def draw_norms(norms: Norms, svg_name: str, alt: str) -> str:
    """SVG with one panel each for run, time and zenith angle."""
    order = np.arange(1, norms.obs_id.size + 1, dtype=float)
    panels = [("run, in order of its number", order), ("start (MJD, TT)", norms.mjd), ("zenith (°)", norms.zenith_deg)]
    with drawing(5.8, 6.2) as figure:
        figure.subplots_adjust(hspace=0.5, top=0.95)
        for index, (title, x) in enumerate(panels):
            axes = figure.add_subplot(3, 1, index + 1)
            _draw_panel(axes, x, norms)
            axes.set_xlabel(title)
            axes.set_ylabel("norm")
            if index == 0:
                for run, group in np.argwhere(norms.outlier)[:MAX_NAMES]:
                    place, name = (x[run], norms.norm[run, group]), str(norms.obs_id[run])
                    axes.annotate(name, place, (7, 0), textcoords="offset points", fontsize=8, va="center")
                if norms.norm.shape[1] > 1 or norms.outlier.any():
                    axes.legend(fontsize=8, ncols=5, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)
        return to_svg(figure, svg_name, alt)


def _draw_panel(axes: Axes, x: FloatArray, norms: Norms) -> None:
    grid(axes)
    many = norms.norm.size > MANY_POINTS
    axes.axhline(1.0, color=SOFT, linewidth=1.0)
    for group, colour in zip(range(norms.norm.shape[1]), SERIES * 9, strict=False):
        y, error = norms.norm[:, group], norms.norm_err[:, group]
        label = "norm" if norms.norm.shape[1] == 1 else f"group {group}"
        if many:
            axes.plot(x, y, ".", color=colour, markersize=2, alpha=0.5, rasterized=True, label=label)
        else:
            axes.errorbar(x, y, error, fmt="o", color=colour, elinewidth=0.8, label=label, rasterized=x.size > 300)
        out = norms.outlier[:, group]
        if out.any():
            name = "outlier" if group == np.flatnonzero(norms.outlier.any(axis=0))[0] else None
            axes.plot(x[out], y[out], "o", markersize=9, fillstyle="none", color=ALERT, rasterized=many, label=name)
    axes.margins(x=0.03, y=0.12)
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(axis="x", nbins=X_TICKS)


def draw_radial(profiles: Profiles, bands_tev: Bands, svg_name: str, alt: str) -> str:
    """SVG with a panel per energy band: density by offset, and the residual in sigma below it."""
    rows, columns = -(-len(bands_tev) // 2), min(len(bands_tev), 2)
    with drawing(5.8, 3.2 * rows) as figure:
        figure.subplots_adjust(top=1 - 0.1 / rows)
        cells = figure.add_gridspec(rows, columns, hspace=0.35, wspace=0.28)
        for band, (low, high) in enumerate(bands_tev):
            pair = cells[divmod(band, 2)].subgridspec(2, 1, height_ratios=[2.4, 1.0], hspace=0.12)
            upper = figure.add_subplot(pair[0])
            lower = figure.add_subplot(pair[1], sharex=upper)
            counts, background = profiles.offset_counts[band], profiles.offset_background[band]
            area = profiles.area_deg2[band]
            scale = np.divide(1.0, area, out=np.full(area.shape, np.nan), where=area > 0)
            edges = OFFSET_WIDTH_DEG * np.arange(area.size + 1)
            centres = 0.5 * (edges[1:] + edges[:-1])
            grid(upper)
            upper.stairs(background * scale, edges, color=MODEL, linewidth=1.6, label="background", baseline=None)
            upper.errorbar(centres, counts * scale, np.sqrt(counts) * scale, fmt="o", color=DATA, label="counts")
            upper.set_ylim(bottom=0.0)
            upper.set_title(f"{low:.3g} to {high:.3g} TeV", fontsize=10)
            upper.tick_params(labelbottom=False)
            _draw_residual(lower, centres, residual_sigma(counts, background))
            if band % 2 == 0:
                upper.set_ylabel("events / deg²")
                lower.set_ylabel("residual (σ)")
            if band == 0:
                upper.legend(fontsize=8)
        return to_svg(figure, svg_name, alt)


def _draw_residual(axes: Axes, offset_deg: FloatArray, pull: FloatArray) -> None:
    grid(axes)
    axes.axhspan(-1.0, 1.0, color=SOFT, alpha=0.2, linewidth=0)
    axes.axhline(0.0, color=SOFT, linewidth=1.0)
    axes.plot(offset_deg, pull, "o", color=DATA)
    limit = max(3.5, 1.15 * float(np.abs(pull[np.isfinite(pull)]).max(initial=0.0)))
    axes.set_ylim(-limit, limit)
    axes.set_xlabel("offset (°)")


def residual_sigma(counts: FloatArray, background: FloatArray) -> FloatArray:
    """(counts - background) / sqrt(background); NaN without background."""
    known = np.nan_to_num(background) > 0
    root = np.sqrt(np.where(known, background, 1.0))
    return np.where(known, (counts - background) / root, np.nan)


def draw_sectors(profiles: Profiles, bands_tev: Bands, svg_name: str, alt: str) -> str:
    """SVG with a panel per energy band: counts over background in eight sectors about the pointings."""
    rows, columns = -(-len(bands_tev) // 2), min(len(bands_tev), 2)
    with drawing(5.8, 2.3 * rows + 0.2) as figure:
        figure.subplots_adjust(hspace=0.4, wspace=0.28, top=1 - 0.13 / rows)
        for band, (low, high) in enumerate(bands_tev):
            axes = figure.add_subplot(rows, columns, band + 1)
            counts, background = profiles.sector_counts[band], profiles.sector_background[band]
            scale = np.divide(1.0, background, out=np.full(N_SECTORS, np.nan), where=background > 0)
            y, error = 100.0 * (counts * scale - 1.0), 100.0 * np.sqrt(counts) * scale
            grid(axes)
            axes.axhline(0.0, color=SOFT, linewidth=1.0)
            axes.errorbar(np.arange(N_SECTORS), y, error, fmt="o", color=DATA, elinewidth=1.0)
            axes.set_xticks(np.arange(N_SECTORS), DIRECTIONS)
            reach = float((np.abs(y) + error)[np.isfinite(y)].max(initial=1.0))
            axes.set_ylim(-1.1 * reach, 1.1 * reach)
            axes.set_title(f"{low:.3g} to {high:.3g} TeV", fontsize=10, color=INK)
            if band % 2 == 0:
                axes.set_ylabel("counts / background − 1 (%)")
        return to_svg(figure, svg_name, alt)
