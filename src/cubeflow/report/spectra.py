"""Counts and exposure against energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cubeflow.maps import Cube
from cubeflow.maps.arrays import FloatArray
from cubeflow.report.checks import residual_sigma
from cubeflow.report.drawing import ALERT, DATA, MODEL, SOFT, THIRD, drawing, grid, power_of_ten, superscript, to_svg

if TYPE_CHECKING:
    from matplotlib.axis import Axis as DrawnAxis


@dataclass(frozen=True, eq=False)
class Spectra:
    """Totals of a final cube by energy."""

    edges_tev: FloatArray  # reconstructed energy
    counts: FloatArray  # sums over the safe bins of the map
    background: FloatArray  # the same; NaN if there is none
    true_tev: FloatArray  # centres of the bins of true energy; empty without an exposure
    exposure_target: FloatArray  # at the target, m2 s
    exposure_largest: FloatArray  # where it is largest, m2 s


def collect_spectra(maps: Mapping[str, Cube], target_deg: tuple[float, float]) -> Spectra:
    """Totals of the maps ``counts``, ``background``, ``mask_safe``, ``exposure`` of a final cube, plane by plane."""
    energy, nothing = maps["counts"].axes[0], np.zeros(0)
    sums = {"background": np.full(energy.n_bins, np.nan)}
    for name in ("counts", "background"):
        if name in maps:
            planes = zip(maps[name].data, maps["mask_safe"].data, strict=True)
            sums[name] = np.array([np.sum(plane, where=safe, dtype=float) for plane, safe in planes])
    if "exposure" not in maps:
        return Spectra(energy.edges_array, sums["counts"], sums["background"], nothing, nothing, nothing)
    exposure = maps["exposure"]
    ix, iy = (int(index) for index in exposure.geom.pixel_index(*target_deg))
    at_target = np.array([plane[iy, ix] if ix >= 0 else np.nan for plane in exposure.data])
    largest, true_tev = np.array([plane.max() for plane in exposure.data]), exposure.axes[0].centers
    return Spectra(energy.edges_array, sums["counts"], sums["background"], true_tev, at_target, largest)


def draw_counts(spectra: Spectra, thresholds_tev: FloatArray, svg_name: str, alt: str) -> str:
    """SVG of counts and background by energy, their residual, and the energy thresholds of the runs."""
    edges = spectra.edges_tev
    centres = np.sqrt(edges[1:] * edges[:-1])
    with drawing(5.8, 4.4) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1.0])
        figure.subplots_adjust(hspace=0.08)
        for axes in (upper, lower):
            grid(axes)
            if thresholds_tev.size:
                axes.axvspan(thresholds_tev.min(), thresholds_tev.max(), color=THIRD, alpha=0.15, linewidth=0)
                name = "threshold: range and median of the runs"
                axes.axvline(float(np.median(thresholds_tev)), color=THIRD, linestyle="--", label=name)
        if np.isfinite(spectra.background).any():
            upper.stairs(spectra.background, edges, color=MODEL, linewidth=1.6, label="background", baseline=None)
        upper.errorbar(centres, spectra.counts, np.sqrt(spectra.counts), fmt="o", color=DATA, label="counts")
        upper.set_xscale("log")
        upper.set_yscale("log", nonpositive="clip")
        upper.set_ylim(bottom=0.5)
        upper.set_ylabel("events per bin")
        upper.legend(fontsize=8)
        lower.axhline(0.0, color=SOFT, linewidth=1.0)
        lower.plot(centres, residual_sigma(spectra.counts, spectra.background), "o", color=DATA)
        lower.set_ylabel("residual (σ)")
        lower.set_xlabel("reconstructed energy (TeV)")
        _plain_numbers(lower.xaxis, *lower.get_xlim())
        return to_svg(figure, svg_name, alt)


def draw_exposure(spectra: Spectra, svg_name: str, alt: str) -> str:
    """SVG of the exposure by true energy."""
    with drawing(5.8, 3.4) as figure:
        axes = figure.add_subplot()
        grid(axes)
        power = power_of_ten(spectra.exposure_largest)
        largest, target = (values / 10.0**power for values in (spectra.exposure_largest, spectra.exposure_target))
        axes.plot(spectra.true_tev, largest, color=SOFT, linewidth=3, label="largest of the map")
        axes.plot(spectra.true_tev, target, "o-", color=ALERT, label="at the target")
        axes.set_xscale("log")
        axes.set_yscale("log", nonpositive="mask")
        axes.set_xlabel("true energy (TeV)")
        axes.set_ylabel(f"exposure (10{superscript(power)} m² s)")
        axes.legend(fontsize=8)
        _plain_numbers(axes.xaxis, *axes.get_xlim())
        _plain_numbers(axes.yaxis, *axes.get_ylim())
        return to_svg(figure, svg_name, alt)


def _plain_numbers(axis: DrawnAxis, low: float, high: float) -> None:
    """Write numbers on a logarithmic axis, not powers, and as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    several = (1.0, 2.0, 5.0) if high / low < 500 else (1.0,)
    axis.set_major_locator(LogLocator(subs=several))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
