"""Norms of the runs against run, time and zenith angle, with those that stand out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubeflow.observation import TIME_REFERENCE_MJD
from cubeflow.report.figures import ALERT, MANY_POINTS, SERIES, SOFT, drawing, grid, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
Column = Iterable[float | str | None]
X_TICKS = 6  # at most: dates as MJD with a fraction need the room
MAX_NAMES = 8
OUTLIER_SIGMAS = 5.0


@dataclass(frozen=True, eq=False)
class Norms:
    """Norms of all runs of a label.

    Parameters
    ----------
    obs_id : array of int, shape (n_runs,)
        Runs that have a norm in any group, in order.
    norm, norm_err : array, shape (n_runs, n_groups)
        NaN where there is none.
    mjd, zenith_deg : array, shape (n_runs,)
        Start of the run and its zenith angle; NaN where unknown.
    outlier : array of bool, shape (n_runs, n_groups)
        Norms far from the median of their group.
    """

    obs_id: NDArray[np.int64]
    norm: FloatArray
    norm_err: FloatArray
    mjd: FloatArray
    zenith_deg: FloatArray
    outlier: NDArray[np.bool_]


def collect_norms(columns: Mapping[str, Column], label: str) -> Norms | None:
    """Norms of a label from the columns of the run table; None for a method without norms.

    Parameters
    ----------
    columns : mapping of str to iterable
        Columns of the run table by name, all of one length; None where a run has no value.
    label : str
        Which label.
    """
    groups = 0
    while f"{label}_norm_{groups}" in columns:
        groups += 1
    if not groups:
        return None
    norm = np.stack([_numbers(columns[f"{label}_norm_{group}"]) for group in range(groups)], axis=1)
    found = ~np.isnan(norm).all(axis=1)
    if not found.any():
        return None

    def of_runs(name: str) -> FloatArray:
        """Values of a column for the runs that have a norm."""
        return _numbers(columns[name])[found] if name in columns else np.full(int(found.sum()), np.nan)

    error = np.stack([of_runs(f"{label}_norm_err_{group}") for group in range(groups)], axis=1)
    outlier = np.stack([find_outliers(*pair) for pair in zip(norm[found].T, error.T, strict=True)], axis=1)
    obs_id = np.fromiter((int(value or 0) for value in columns["obs_id"]), np.int64)[found]
    mjd = TIME_REFERENCE_MJD + of_runs("tstart_s") / 86400.0
    return Norms(obs_id, norm[found], error, mjd, of_runs("zenith_deg"), outlier)


def _numbers(values: Column) -> FloatArray:
    """Values of a column, shape (n_rows,); NaN where a row has none."""
    return np.fromiter((np.nan if value is None else float(value) for value in values), float)


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
    panels = [("run, in order of its number", order), ("start (MJD)", norms.mjd), ("zenith (°)", norms.zenith_deg)]
    with drawing(5.8, 6.2) as figure:
        figure.subplots_adjust(hspace=0.5, top=0.95)
        for index, (title, x) in enumerate(panels):
            axes = figure.add_subplot(3, 1, index + 1)
            _draw_panel(axes, x, norms)
            axes.set_xlabel(title)
            axes.set_ylabel("norm")
            if index == 0:
                _name_outliers(axes, x, norms)
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


def _name_outliers(axes: Axes, x: FloatArray, norms: Norms) -> None:
    """Write the run beside the first few outliers."""
    runs, groups = np.nonzero(norms.outlier)
    for run, group in list(zip(runs, groups, strict=True))[:MAX_NAMES]:
        place = x[run], norms.norm[run, group]
        axes.annotate(str(norms.obs_id[run]), place, (7, 0), textcoords="offset points", fontsize=8, va="center")
