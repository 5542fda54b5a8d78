"""Charts of a label: what is at the target, by angle, energy and run; and whether its background is right."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cubeflow.maps import BoolArray, FloatArray, Maps, Place, release, sphere
from cubeflow.products.cash import make_significance_cash, make_significance_li_ma
from cubeflow.products.profiles import N_SECTORS, OFFSET_WIDTH_DEG, Profiles
from cubeflow.products.significance import OffSource, disc_pixels
from cubeflow.report.drawing import ALERT, MODEL, SERIES, SOFT, Panel, Series, draw_panels, power_of_ten, superscript
from cubeflow.report.runs import Runs, is_used, numbers, run_names

Bands = Sequence[tuple[float, float]]
THETA2_BINS = 25  # of the profile, each as wide as the square of the radius
OUTLIER_SIGMAS = 5.0
FLAT = 0.1  # distance of mean from 0 and width from 1 that is taken as none, beside three times the error
TELLING = 0.5  # relative error of a run up to which it can be said that they are alike
DOUBTFUL, UNLIKELY = 0.0455, 0.0027  # chance of a chi-square, that of 2 and of 3 sigma
LEAST_CHANCE = 1e-9  # below it nobody asks how small it is
LEAST_COUNTS = 5.0  # expected in a cell, from which on its chi-square is one
DIRECTIONS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


@dataclass(frozen=True, eq=False)
class Source:
    """Sums of a final cube over bins that are safe; NaN where there is no background."""

    edges_tev: FloatArray  # reconstructed energy, shape (n + 1,)
    on: FloatArray  # counts in the disc at the target, shared out by area on its rim, shape (n,)
    on_background: FloatArray  # the same of the background
    off: FloatArray  # counts outside the exclusions and the disc
    off_background: FloatArray
    theta2_edges: FloatArray  # squared distance from the target, deg2
    theta2_counts: FloatArray  # of the pixels with their centre there
    theta2_background: FloatArray


@dataclass(frozen=True, eq=False)
class Evolution:
    """What each run of a label has at the target, in order of time; arrays of shape (n_runs,)."""

    rows: Runs  # of the run table
    cumulative: FloatArray  # significance of the first run, of the first two, and so on
    significance: FloatArray
    flux: FloatArray  # within the disc, m-2 s-1; NaN where the exposure is point-like
    flux_err: FloatArray


def collect_source(maps: Maps, target_deg: Place, radius_deg: float, excluded: BoolArray) -> Source:
    """Sums of the maps ``counts``, ``background`` and ``mask_safe`` of a final cube, plane by plane."""
    energy, geom = maps["counts"].axes[0], maps["counts"].geom
    rows, columns, share = disc_pixels(geom, target_deg, radius_deg)
    elsewhere = ~excluded
    elsewhere[rows[share > 0], columns[share > 0]] = False
    theta2_edges = np.square(radius_deg) * np.arange(THETA2_BINS + 1)
    near_rows, near_columns, _ = disc_pixels(geom, target_deg, float(np.sqrt(theta2_edges[-1])))
    vectors = geom.pixel_to_vectors(near_columns, near_rows)
    theta2 = np.square(sphere.separation_deg(vectors, sphere.unit_vectors(*target_deg)))
    sums = {name: np.full((2, energy.n_bins), np.nan) for name in ("counts", "background")}
    profiles = {name: np.full(THETA2_BINS, np.nan) for name in sums}
    for name in sums.keys() & maps.keys():
        near = np.zeros(theta2.shape)
        for k, (plane, safe) in enumerate(zip(maps[name].data, maps["mask_safe"].data, strict=True)):
            at_target = float(np.sum(plane[rows, columns] * share * safe[rows, columns], dtype=float))
            sums[name][:, k] = at_target, np.sum(plane, where=safe & elsewhere, dtype=float)
            near += plane[near_rows, near_columns] * safe[near_rows, near_columns]
            release(maps[name].data)
        profiles[name] = np.histogram(theta2, theta2_edges, weights=near)[0]
    (on, off), (on_background, off_background) = sums.values()
    return Source(energy.edges_array, on, on_background, off, off_background, theta2_edges, *profiles.values())


def collect_evolution(runs: Runs, label: str) -> Evolution | None:
    """Runs of a label that have a background at the target; None if there is none."""
    found = is_used(runs, label) & np.isfinite(numbers(runs, f"{label}_background") * numbers(runs, f"{label}_on"))
    if not found.any():
        return None
    used = runs.rows(found)
    used = used.rows(np.argsort(numbers(used, "tstart"), kind="stable"))
    on, background, off = (np.cumsum(numbers(used, f"{label}_{name}")) for name in ("on", "background", "off"))
    cumulative = make_significance_cash(on, background)
    if not np.isnan(off).any():  # there is a ring
        ratio = np.divide(background, off, out=np.full(on.shape, np.nan), where=off > 0)
        cumulative = make_significance_li_ma(on, off, ratio)
    values = [numbers(used, f"{label}_{name}") for name in ("significance", "flux", "flux_err")]
    return Evolution(used, np.asarray(cumulative), *values)


def chi2_constant(values: FloatArray, errors: FloatArray) -> tuple[float, int, float]:
    """Chi-square of values about their mean, weighted by their errors, degrees of freedom, and usual relative error."""
    known = np.isfinite(values) & (errors > 0)
    if known.sum() < 2:
        return 0.0, 0, np.inf
    weights = errors[known] ** -2
    mean = np.sum(weights * values[known]) / weights.sum()
    chi2 = float(np.sum(weights * (values[known] - mean) ** 2))
    return chi2, int(known.sum()) - 1, float(np.median(errors[known]) / abs(mean))


def chi2_cells(profiles: Profiles | None) -> tuple[float, int, float]:
    """Chi-square of counts over background in cells about the pointing, of all energies, and degrees of freedom.

    And the relative scatter of the background between cells that raises it by its own width, NaN where it has none.
    """
    counts, background = np.zeros((2, 0)) if profiles is None else (profiles.counts.sum(0), profiles.background.sum(0))
    known = background >= LEAST_COUNTS
    if (dof := int(known.sum()) - 1) < 1:
        return 0.0, 0, np.nan
    expected = background[known] * (counts[known].sum() / background[known].sum())
    chi2 = np.sum((counts[known] - expected) ** 2 / expected)
    return float(chi2), dof, float(np.sqrt(np.sqrt(2 * dof) / expected.sum()))


def chance(chi2: float, dof: int) -> float:
    """Probability Q(dof / 2, chi2 / 2) that a chi-square is as large (Abramowitz & Stegun 26.4.4, 26.4.5)."""
    first, x = (0.5 if dof % 2 else 1.0), chi2 / 2  # scipy.special takes a tenth of a second to import
    steps = (math.exp(a * math.log(x) - x - math.lgamma(a + 1)) for a in np.arange(first, dof / 2))
    return (math.erfc(math.sqrt(x)) if dof % 2 else math.exp(-x)) + sum(steps) if dof and x else 1.0


def chi2_text(chi2: float, dof: int, error: float, most: float, words: tuple[str, str], is_bad: bool = False) -> str:
    """Good or bad word by the chance of a chi-square; neither between, or where the relative error is above `most`.

    Bad it is, too, if that is known from elsewhere.
    """
    p = chance(chi2, dof)
    says = words[0] if error <= most else "cannot tell"
    if is_bad or p < UNLIKELY:
        says = words[1]
    elif p < DOUBTFUL:
        says = "doubtful"
    of_p = f"= {p:.2g}" if p > LEAST_CHANCE else f"< {LEAST_CHANCE:g}"
    errors = f"errors {error:.0%}" if error <= 1 else "errors above 100%"
    return says + (f" ({errors}): χ² / dof = {chi2:.1f} / {dof}, p {of_p}" if dof else "")


def over_background(
    edges: FloatArray,
    centres: FloatArray,
    counts: FloatArray,
    background: FloatArray,
    words: Sequence[str],
    scale: FloatArray | float = 1.0,
) -> tuple[list[Series], list[Series]]:
    """Counts over the steps of a background, both times a scale; and (counts - background) / sqrt(background)."""
    points = Series(centres, counts * scale, label="counts", error=np.sqrt(counts) * scale, words=words)
    zero = Series(edges[[0, -1]], np.zeros(2), "line", SOFT)
    root = np.sqrt(np.where(np.nan_to_num(background) > 0, background, np.nan))
    residual = Series(centres, (counts - background) / root, words=words)
    return [Series(edges, background * scale, "steps", MODEL, "background"), points], [zero, residual]


def draw_theta2(source: Source, alt: str) -> str:
    """SVG of counts and background by squared distance from the target."""
    edges, counts = source.theta2_edges, source.theta2_counts
    words = [f"{low:.3g} to {high:.3g} deg²" for low, high in itertools.pairwise(edges)]
    series, _ = over_background(edges, 0.5 * (edges[1:] + edges[:-1]), counts, source.theta2_background, words)
    top = 1.08 * float(np.nanmax([*(counts + np.sqrt(counts)), *source.theta2_background], initial=1.0))
    panel = Panel(series, "θ² (deg²)", "events per bin", x_range=(0.0, float(edges[-1])), y_range=(0.0, top))
    return draw_panels([panel], alt, height=240)


def draw_energies(source: Source, thresholds_tev: FloatArray, alt: str) -> str:
    """SVG of counts and background by energy, in the disc at the target and off it, with the residuals below."""
    edges = source.edges_tev
    centres = np.sqrt(edges[1:] * edges[:-1])
    words = [f"{low:.3g} to {high:.3g} TeV" for low, high in itertools.pairwise(edges)]
    span = (float(thresholds_tev.min()), float(thresholds_tev.max())) if thresholds_tev.size else None
    reach = float(edges[0]) / 1.05, float(edges[-1]) * 1.05
    upper, lower = [], []
    places = ("at the target", source.on, source.on_background), ("off it", source.off, source.off_background)
    for title, counts, background in places:
        series, residual = over_background(edges, centres, counts, background, words)
        positive = [value for value in (*counts, *background) if value > 0] or [1.0]
        y_range = max(0.5, min(positive) / 2), 2.0 * max(positive)
        upper.append(Panel(series, "", "events per bin", True, True, reach, y_range, span, title))
        lower.append(Panel(residual, "reconstructed energy (TeV)", "residual (σ)", True, x_range=reach, span=span))
    return draw_panels([*upper, *lower], alt, columns=2)


def draw_evolution(found: Evolution, alt: str) -> str:
    """SVG of flux (if there is any) and significance by run, and how the significance grows with livetime."""
    flux, error = 1e-4 * found.flux, 1e-4 * found.flux_err
    power = power_of_ten(np.nan_to_num(np.fmax(np.abs(flux), error)))
    flux, error, unit = flux / 10.0**power, error / 10.0**power, f"flux (10{superscript(power)} cm⁻² s⁻¹)"
    order = np.arange(1, flux.size + 1, dtype=float)
    root = np.sqrt(np.cumsum(numbers(found.rows, "livetime")) / 3600)
    total, names = found.cumulative, run_names(found.rows)
    growth = Series(np.array([0.0, root[-1]]), np.array([0.0, total[-1]]), "dashed", SOFT, "steady source")
    zero = Series(np.array([1.0, order[-1]]), np.zeros(2), "line", SOFT)
    of_runs = Series(order, found.significance, words=names)
    panels = [
        Panel([Series(numbers(found.rows, "tstart"), flux, error=error, words=names)], "start (MJD, TT)", unit),
        Panel([zero, Series(order, flux, error=error, words=names)], "run, in order of time", unit, whole=True),
        Panel([growth, Series(root, total, words=names)], "√(livetime / h)", "significance so far (σ)"),
        Panel([zero, of_runs], "run, in order of time", "significance (σ)", whole=True),
    ]
    return draw_panels([panel for panel in panels if np.isfinite(panel.series[-1].y).any()], alt, columns=2)


def draw_off_source(found: OffSource, significance: FloatArray, alt: str) -> str:
    """SVG of the significances outside known sources, beside those of all pixels (NaN for none) and of empty sky."""
    edges, histogram = found.edges, found.histogram.astype(float)
    step, n_pixels = edges[1] - edges[0], float(histogram.sum())
    everything = significance[np.isfinite(significance)]
    top = float(np.clip(everything.max(initial=0.0) + step, edges[-1], 15.0))
    reach = np.append(edges, np.arange(edges[-1] + step, top + step, step))
    x = np.linspace(-5.0, 5.0, 51)
    centres = 0.5 * (edges[1:] + edges[:-1])
    words = [f"{centre:.2f} σ" for centre in centres]
    series = [
        Series(reach, np.histogram(everything, reach)[0].astype(float), "steps", SOFT, "all"),
        Series(centres, np.where(histogram > 0, histogram, np.nan), label="off source", words=words),
        Series(x, n_pixels * step * normal(x, 0.0, 1.0), "dashed", ALERT, "expected"),
    ]
    if np.isfinite(found.fit_width):
        fit = n_pixels * step * normal(x, found.fit_mean, found.fit_width)
        series.append(Series(x, fit, "line", MODEL, "Gaussian fit"))
    x_range = min(float(edges[0]), -5.0), max(top, 5.0)
    y_range = 0.5, max(2.0 * float(histogram.max(initial=1)), 2.0)
    panel = Panel(series, "significance (σ)", f"pixels per {step:.2g} σ", False, True, x_range, y_range)
    return draw_panels([panel], alt, height=240)


def normal(x: FloatArray, mean: float, width: float) -> FloatArray:
    """Density of the normal distribution."""
    return np.exp(-0.5 * ((x - mean) / width) ** 2) / (width * np.sqrt(2.0 * np.pi))


def off_source_text(found: OffSource, profiles: Profiles | None) -> str:
    """Whether the background is flat: by mean and width of all pixels off source, and chi-square about the pointing."""
    mean, width = found.mean, found.width
    if not (np.isfinite(mean) and np.isfinite(width)):
        return "too few pixels for a mean and a width"
    chi2, dof, scatter = chi2_cells(profiles)
    error = float(np.nanmax([scatter, found.mean_err, found.width_err]))
    is_off = abs(mean) > max(3 * found.mean_err, FLAT) or abs(width - 1) > max(3 * found.width_err, FLAT)
    says = chi2_text(chi2, dof, error, FLAT, ("flat", "not flat"), is_off)
    text = f"mean {mean:.2f} ± {found.mean_err:.2f}, width {width:.2f} ± {found.width_err:.2f}".replace("-", "−")
    return f"{says}{' by offset and direction' * (dof > 0)}; significance off source has {text} (expected 0 and 1)"


@dataclass(frozen=True, eq=False)
class Norms:
    """Norms of all runs of a label that have one in any group, in order."""

    rows: Runs  # of the run table
    norm: FloatArray  # shape (n_runs, n_groups), NaN where there is none
    norm_err: FloatArray  # the same
    energies: list[str]  # of each group, where it is not joined with the next
    outlier: BoolArray  # further from the median of its group than five times its error and the usual scatter

    @property
    def chi2(self) -> tuple[float, int, float]:
        """Chi-square of the norms about the weighted mean of their group, as `chi2_constant`, all groups."""
        found = [chi2_constant(*pair) for pair in zip(self.norm.T, self.norm_err.T, strict=True)]
        chi2, dof, error = zip(*found, strict=True)
        return sum(chi2), sum(dof), min(error)

    @property
    def suspects(self) -> list[tuple[str, str]]:
        """Run and reason of norms that are far from the others."""
        names, medians = self.rows.column("obs_id"), np.nanmedian(self.norm, axis=0)
        odd = [(int(run), int(group)) for group, run in np.argwhere(self.outlier.T)]
        return [(str(names[k]), f"norm {self.norm[k, g]:.3g} where the median is {medians[g]:.3g}") for k, g in odd]


def collect_norms(runs: Runs, label: str) -> Norms | None:
    """Norms of a label from the run table; None for a method without norms, or without any run."""
    groups = [k for k in range(len(runs.columns)) if f"{label}_norm_{k}" in runs.columns]
    if not groups:
        return None
    names = ([f"{label}_{name}_{group}" for group in groups] for name in ("norm", "norm_err"))
    norm, error = (np.stack([numbers(runs, name) for name in each], axis=1) for each in names)
    found, known = ~np.isnan(norm).all(axis=1), ~np.isnan(norm).all(axis=0)
    if not found.any():
        return None
    norm, error, rows = norm[found][:, known], error[found][:, known], runs.rows(np.flatnonzero(found))
    energies = []
    for group in np.array(groups)[known]:
        low, high = (numbers(rows, f"{label}_energy_{end}_{group}") for end in ("min", "max"))
        energies.append(f"{np.fmin.reduce(low):.2g}–{np.fmin.reduce(high):.2g} TeV")
    distance = np.abs(norm - np.nanmedian(norm, axis=0))
    scatter = 1.4826 * np.nanmedian(distance, axis=0)  # the usual one, which outliers do not enlarge
    outlier = distance > OUTLIER_SIGMAS * np.fmax(np.nan_to_num(error), scatter)
    return Norms(rows, norm, error, energies, outlier)


def draw_norms(norms: Norms, alt: str) -> str:
    """SVG with one panel each for order in time, and zenith angle."""
    names = run_names(norms.rows)
    order = 1.0 + np.argsort(np.argsort(numbers(norms.rows, "tstart"), kind="stable"), kind="stable").astype(float)
    beside = np.linspace(-0.4, 0.4, norms.norm.shape[1] + 2)[1:-1]  # else the groups of a run would hide each other
    panels = []
    for title, x in {"run, in order of time": order, "zenith (°)": numbers(norms.rows, "zenith")}.items():
        series, places = [], x[:, None] + beside * (x is order)
        for group, colour in zip(range(norms.norm.shape[1]), SERIES * 9, strict=False):
            y, error, label = norms.norm[:, group], norms.norm_err[:, group], norms.energies[group]
            series.append(Series(places[:, group], y, colour=colour, label=label, error=error, words=names))
        if norms.outlier.any():
            far, odd = norms.outlier, [names[k] for k in np.nonzero(norms.outlier)[0]]
            series.append(Series(places[far], norms.norm[far], colour=ALERT, label="far off", words=odd))
        panels.append(Panel(series, title, "norm", whole=x is order))
    return draw_panels(panels, alt, height=220)


def draw_profiles(profiles: Profiles, bands_tev: Bands, stated: FloatArray | None, alt: str) -> str:
    """SVG with a column of panels per energy band: density by offset, and residuals by offset and by direction.

    By offset with the error that is `stated`, (band, ring). Bands in which nothing is safe are left out.
    """
    panels, found = list[Panel](), [band for band in enumerate(bands_tev) if profiles.area_deg2[band[0]].any()]
    for first in range(0, len(found), 2):
        rows: list[list[Panel]] = [[], [], []]
        for band, (low, high) in found[first : first + 2]:
            counts, background = (each[band].sum(axis=0) for each in (profiles.counts, profiles.background))
            n, mu = (each[band].sum(axis=1) for each in (profiles.counts, profiles.background))  # by direction
            area = profiles.area_deg2[band]
            scale = np.divide(1.0, area, out=np.full(area.shape, np.nan), where=area > 0)
            edges = OFFSET_WIDTH_DEG * np.arange(area.size + 1)
            centres = 0.5 * (edges[1:] + edges[:-1])
            words = [f"{centre:.1f}°" for centre in centres]
            series, residual = over_background(edges, centres, counts, background, words, scale)
            top = 1.05 * float(np.nanmax([(counts + np.sqrt(counts)) * scale, background * scale], initial=1e-9))
            rows[0].append(Panel(series, "", "events / deg²", y_range=(0.0, top), title=f"{low:.3g} to {high:.3g} TeV"))
            if stated is not None:
                error = stated[band] * np.sqrt(background)
                residual += [Series(edges, each, "steps", ALERT, "stated error") for each in (error, -error)]
            ends, places = np.array([-0.4, N_SECTORS - 0.6]), np.arange(N_SECTORS, dtype=float)
            around = over_background(ends, places, n, mu, DIRECTIONS)[1]
            for row, shown, label, names in ((1, residual, "offset (°)", ()), (2, around, "", DIRECTIONS)):
                limit = max(3.5, *(1.15 * float(np.nan_to_num(np.abs(each.y)).max(initial=0.0)) for each in shown))
                rows[row].append(Panel(shown, label, "residual (σ)", y_range=(-limit, limit), names=names))
        panels += itertools.chain(*rows)
    return draw_panels(panels, alt, columns=min(len(found), 2), height=150)
