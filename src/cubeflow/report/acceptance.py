"""Counts against the predicted background across the field of view: by offset, and by direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubeflow.products.profiles import N_SECTORS, OFFSET_WIDTH_DEG, Profiles
from cubeflow.report.figures import DATA, INK, MODEL, SOFT, drawing, grid, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]
Bands = Sequence[tuple[float, float]]
DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


def draw_radial(profiles: Profiles, bands_tev: Bands, svg_name: str, alt: str) -> str:
    """SVG with a panel per energy band: density by offset, and the residual in sigma below it."""
    n_bands = len(bands_tev)
    rows = -(-n_bands // 2)
    with drawing(5.8, 3.2 * rows) as figure:
        figure.subplots_adjust(top=1 - 0.1 / rows)
        cells = figure.add_gridspec(rows, min(n_bands, 2), hspace=0.35, wspace=0.28)
        for band, (low, high) in enumerate(bands_tev):
            row, column = divmod(band, 2)
            pair = cells[row, column].subgridspec(2, 1, height_ratios=[2.4, 1.0], hspace=0.12)
            upper = figure.add_subplot(pair[0])
            lower = figure.add_subplot(pair[1], sharex=upper)
            _draw_density(upper, profiles, band)
            _draw_residual(lower, profiles, band)
            upper.set_title(f"{low:.3g} to {high:.3g} TeV", fontsize=10)
            upper.tick_params(labelbottom=False)
            if column == 0:
                upper.set_ylabel("events / deg²")
                lower.set_ylabel("residual (σ)")
            if band == 0:
                upper.legend(fontsize=8)
        return to_svg(figure, svg_name, alt)


def _draw_density(axes: Axes, profiles: Profiles, band: int) -> None:
    area = profiles.area_deg2[band]
    scale = np.divide(1.0, area, out=np.full(area.shape, np.nan), where=area > 0)
    counts, background = profiles.offset_counts[band], profiles.offset_background[band]
    edges = OFFSET_WIDTH_DEG * np.arange(area.size + 1)
    grid(axes)
    axes.stairs(background * scale, edges, color=MODEL, linewidth=1.6, label="background", baseline=None)
    centres = 0.5 * (edges[1:] + edges[:-1])
    axes.errorbar(centres, counts * scale, np.sqrt(counts) * scale, fmt="o", color=DATA, label="counts")
    axes.set_ylim(bottom=0.0)


def _draw_residual(axes: Axes, profiles: Profiles, band: int) -> None:
    pull = residual_sigma(profiles.offset_counts[band], profiles.offset_background[band])
    grid(axes)
    axes.axhspan(-1.0, 1.0, color=SOFT, alpha=0.2, linewidth=0)
    axes.axhline(0.0, color=SOFT, linewidth=1.0)
    axes.plot(OFFSET_WIDTH_DEG * (np.arange(pull.size) + 0.5), pull, "o", color=DATA)
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
    n_bands = len(bands_tev)
    with drawing(5.8, 2.3 * -(-n_bands // 2) + 0.2) as figure:
        figure.subplots_adjust(hspace=0.4, wspace=0.28, top=1 - 0.13 / -(-n_bands // 2))
        for band, limits in enumerate(bands_tev):
            _draw_sector_band(figure, profiles, band, limits, n_bands)
        return to_svg(figure, svg_name, alt)


def _draw_sector_band(
    figure: Figure, profiles: Profiles, band: int, limits_tev: tuple[float, float], n_bands: int
) -> None:
    axes = figure.add_subplot(-(-n_bands // 2), min(n_bands, 2), band + 1)
    counts, background = profiles.sector_counts[band], profiles.sector_background[band]
    scale = np.divide(1.0, background, out=np.full(N_SECTORS, np.nan), where=background > 0)
    grid(axes)
    axes.axhline(0.0, color=SOFT, linewidth=1.0)
    y, error = 100.0 * (counts * scale - 1.0), 100.0 * np.sqrt(counts) * scale
    axes.errorbar(np.arange(N_SECTORS), y, error, fmt="o", color=DATA, elinewidth=1.0)
    axes.set_xticks(np.arange(N_SECTORS), DIRECTIONS)
    reach = float((np.abs(y) + error)[np.isfinite(y)].max(initial=1.0))
    axes.set_ylim(-1.1 * reach, 1.1 * reach)
    axes.set_title(f"{limits_tev[0]:.3g} to {limits_tev[1]:.3g} TeV", fontsize=10, color=INK)
    if band % 2 == 0:
        axes.set_ylabel("counts / background − 1 (%)")
