"""Rate of background events from counts and exposure in the cells of the field of view: options, forms and fit."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np

from cubeflow.errors import FailedError
from cubeflow.maps import Axis, FloatArray, Pair
from cubeflow.products.fov_background import merge_energy_groups
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.setting import Setting

FORMS: tuple[Literal["radial", "gradient", "smooth", "grid"], ...] = ("radial", "gradient", "smooth", "grid")
RADIAL, SMOOTH = 6, 8  # steps between splines: in the squared offset up to the rim, and across the field
MOST_ROUNDS, STEP = 30, 1e-6  # of norms and shape in turn
UNSETTLED = 1e-3  # relative change of the rate in the last round, above which a fit has not come to its end
WAY_OUT = "expected more of the field (offset_max, exclusion), smaller cells or another form of a named model"
LEAST_PENALTY, MOST_PENALTY = 1e-4, 1e7


@dataclass(frozen=True)
class OffOptions:
    """What decides the counts and the exposure that an OFF run gives."""

    energy: Axis
    offset_max_deg: float
    safe_mask: SafeMaskOptions
    cell_deg: float
    alignment: Literal["RADEC", "ALTAZ"]
    duplicates: Literal["refuse", "drop"] = "refuse"
    time_mjd: tuple[tuple[float, float], ...] | None = None
    events_where: tuple[tuple[str, str], ...] | None = None  # conditions on the columns of EVENTS, after their keys

    @property
    def edges_deg(self) -> FloatArray:
        """Edges of the cells in longitude and in latitude: one row of cells lies beyond the rim of the field."""
        n_cells = int(np.ceil(self.offset_max_deg / self.cell_deg - 1e-9)) + 1
        return self.cell_deg * np.arange(-n_cells, n_cells + 1.0)


@dataclass(frozen=True)
class FitOptions:
    """How a model is fitted, and for which runs it holds."""

    form: Literal["auto", "radial", "gradient", "grid", "smooth"] = "auto"
    """Shape at each energy: a function of the offset; that times exp(gx x + gy y); a free grid; a smooth surface; auto
    is the one that describes runs best that it was not fitted to."""
    zenith_deg: Annotated[tuple[Annotated[float, Setting("deg", least=0, below=90)], ...], Setting(alone=True)] = ()
    """Edges of bins in zenith angle, between whose nodes the logarithm of the rate is linear in the cosine; null for
    one shape and rate."""
    min_counts: Annotated[int, Setting(least=1)] = 1000
    """Energies with fewer counts share one shape with their neighbours."""
    azimuth: Literal["none", "east-west"] = "none"
    """Whether a run is described by those on its side of the meridian alone."""
    leave_out: Literal["run", "night", "target"] = "run"
    """What is taken out of the model for a run: itself, its night, or all runs on its object."""
    on_failure: Literal["drop", "keep", "error"] = "drop"
    """A run beyond the zenith angles of the model: leave it out, take the nearest node, or refuse it."""

    def __post_init__(self) -> None:
        if len(self.zenith_deg) == 1 or np.any(np.diff(self.zenith_deg) <= 0):
            raise ValueError(f"zenith_deg: expected two or more increasing angles, got {list(self.zenith_deg)} deg")


class _Basis(NamedTuple):
    """Functions of the cells whose sum is ln(rate), shape (cells, p), and what roughness costs, (p, p)."""

    design: FloatArray
    penalty: FloatArray
    rank: int
    start: FloatArray  # coefficients of the function that is 1 everywhere


@lru_cache(8)
def _basis(form: str, options: OffOptions) -> _Basis:
    """Cubic B-splines with a penalty on differences of their coefficients, which leaves a Gaussian acceptance free.

    They are functions of the squared offset, or, for ``smooth``, products of those of longitude and latitude (Eilers &
    Marx 1996, Stat. Sci. 11, 89).
    """
    centers = options.edges_deg[:-1] + 0.5 * options.cell_deg
    lon, lat = (axis.ravel() for axis in np.meshgrid(centers, centers, indexing="ij"))
    if form == "smooth":
        line, rough = _splines(centers, options.edges_deg[0], -2 * options.edges_deg[0] / SMOOTH, 3)
        n = len(rough)
        penalty = np.kron(rough, np.eye(n)) + np.kron(np.eye(n), rough)
        return _Basis(np.kron(line, line).astype(float), penalty, n * n - 9, np.ones(n * n))
    design, rough = _splines((lon**2 + lat**2) / options.offset_max_deg**2, 0.0, 1.0 / RADIAL, 2)
    n, n_more = len(rough), 2 if form == "gradient" else 0
    design = np.column_stack([design, lon, lat][: 1 + n_more])
    return _Basis(design, np.pad(rough, (0, n_more)), n - 2, np.repeat([1.0, 0.0], [n, n_more]))


def _splines(x: FloatArray, first: float, step: float, order: int) -> Pair:
    """Splines on knots from `first` on, shape (x, n), and the penalty on differences of an order, shape (n, n)."""
    from scipy.interpolate import BSpline

    n_steps = int(np.ceil((x.max() - first) / step))
    design = BSpline.design_matrix(x, first + step * np.arange(-3, n_steps + 4), 3).toarray()
    rough = np.diff(np.eye(design.shape[1]), order, axis=0)
    return design, rough.T @ rough


def _fit_surface(counts: FloatArray, exposure: FloatArray, basis: _Basis) -> Pair:
    """Most likely rate of cells, shape (cells,), and the variance of its logarithm, with the most likely penalty.

    Its strength is updated as in Wood & Fasiolo 2017, Biometrics 73, 1071.
    """
    used = exposure > 0
    if (n_used := np.count_nonzero(used)) < len(basis.start):
        raise FailedError(f"{n_used} cells with exposure for {len(basis.start)} coefficients; {WAY_OUT}")
    design, penalty, n, t = basis.design[used], basis.penalty, counts[used], exposure[used]
    theta, strength = basis.start * np.log(n.sum() / t.sum()), 1.0
    for _ in range(200):
        expected = t * np.exp(design @ theta)
        try:
            covariance = np.linalg.inv(design.T @ (expected[:, None] * design) + strength * penalty)
        except np.linalg.LinAlgError as error:
            raise FailedError(f"the cells with exposure do not decide the shape; {WAY_OUT}") from error
        step = covariance @ (design.T @ (n - expected) - strength * penalty @ theta)
        size = float(np.abs(design @ step).max())
        theta = theta + step * min(1.0, 2.0 / max(size, 1e-9))  # Newton, but no leaps
        free, cost = basis.rank - strength * float(np.sum(covariance * penalty)), float(theta @ penalty @ theta)
        previous, strength = strength, min(max(free / max(cost, 1e-9), LEAST_PENALTY), MOST_PENALTY)
        if size < 1e-7 and abs(strength / previous - 1.0) < 1e-4:
            break
    _require_settled(size)  # the strength alone may still drift where any is as good
    return np.exp(basis.design @ theta), np.einsum("cp,pq,cq->c", basis.design, covariance, basis.design)


def _require_settled(change: float) -> None:
    """FailedError if the last change of a fit was large, or no number."""
    if not change < UNSETTLED:
        raise FailedError(f"the fit does not settle: its last change is {change:.2g}, not below {UNSETTLED}; {WAY_OUT}")


def _fit_grid(counts: FloatArray, exposure: FloatArray) -> Pair:
    """As `_fit_surface`, each cell by itself; one without exposure is as the nearest that has some."""
    from scipy.ndimage import distance_transform_edt

    n_cells = int(np.sqrt(len(counts)))
    empty = (exposure <= 0).reshape(n_cells, n_cells)
    i, j = distance_transform_edt(empty, return_distances=False, return_indices=True)
    near = (i * n_cells + j).ravel()
    with np.errstate(divide="ignore"):
        return counts[near] / exposure[near], 1.0 / counts[near]


def fit_shape(counts: FloatArray, exposure: FloatArray, off: OffOptions, fit: FitOptions) -> Pair:
    """Rate and relative error, shape (energy, cells), of sums of that shape; energies with few counts share a shape."""
    total = counts.sum(axis=1)
    rate, variance = np.zeros(counts.shape), np.full(counts.shape, np.inf)
    seen = tuple((int(k),) for k in np.flatnonzero(total))
    for group in merge_energy_groups(seen, lambda some: total[list(some)].sum() >= fit.min_counts):
        bins = list(group)
        level = total[bins] / exposure[bins].sum(axis=1)
        for _ in range(MOST_ROUNDS):
            sums = counts[bins].sum(axis=0), level @ exposure[bins]
            shape, spread = _fit_grid(*sums) if fit.form == "grid" else _fit_surface(*sums, _basis(fit.form, off))
            previous, level = level, total[bins] / (exposure[bins] @ shape)
            if (change := np.abs(level / previous - 1.0).max()) < STEP:
                break
        _require_settled(change)
        rate[bins] = level[:, None] * shape
        variance[bins] = spread + (1.0 / total[bins] - 1.0 / total[bins].sum())[:, None]
    return rate, np.sqrt(variance)


def fit_norms(
    counts: FloatArray, exposure: FloatArray, off: OffOptions, fit: FitOptions
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Norms of runs with the shape, in turn, so that ln L only grows; counts and exposure (run, energy, cell).

    Norms, rate and relative error; rates are such that the runs have as many counts as they predict with norms of 1.
    """
    n_run, n_sum, norms = counts.sum(axis=(1, 2)), counts.sum(axis=0), np.ones(len(counts))
    for _ in range(MOST_ROUNDS):
        rate, error = fit_shape(n_sum, np.tensordot(norms, exposure, 1), off, fit)
        expected = np.tensordot(exposure, rate, 2)
        previous, norms = norms, n_run / expected
        if (change := np.abs(norms - previous).max()) < STEP:
            break
    _require_settled(change)
    level = n_run.sum() / expected.sum()
    return norms / level, rate * level, error
