"""Distribution of the significances outside known sources, beside the one that empty sky should have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.report.figures import ALERT, DATA, MODEL, SOFT, drawing, grid, to_svg

FloatArray = NDArray[np.float64]


def draw_off_source(off_source: Mapping[str, Any], significance: FloatArray, svg_name: str, alt: str) -> str:
    """SVG of the distribution with its fit.

    Parameters
    ----------
    off_source : mapping
        ``edges``, ``histogram``, ``mean``, ``width``, ``fit_mean``, ``fit_width`` and their errors, as plain
        numbers; None for one that there is not.
    significance : array
        Of all pixels, NaN for none.
    svg_name, alt : str
        See `to_svg`.
    """
    edges, histogram = np.asarray(off_source["edges"]), np.asarray(off_source["histogram"])
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
        if off_source.get("fit_width") is not None:
            fit = n_pixels * step * normal(x, off_source["fit_mean"], off_source["fit_width"])
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


def describe(off_source: Mapping[str, Any]) -> str:
    """One sentence on mean and width."""
    parts = []
    for name, title in (("", "all pixels"), ("fit_", "fit")):
        mean, width = off_source.get(f"{name}mean"), off_source.get(f"{name}width")
        if mean is not None and width is not None:
            errors = off_source.get(f"{name}mean_err") or 0.0, off_source.get(f"{name}width_err") or 0.0
            parts.append(f"{title}: mean {mean:.2f} ± {errors[0]:.2f}, width {width:.2f} ± {errors[1]:.2f}")
    return "; ".join(parts).replace("-", "−") or "too few pixels for a mean and a width"
