"""The one interpolation policy of all response tables: hat functions of the nodes of an axis.

A response on a map is a product of small matrices: (energy weights) x (table) x (offset weights).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps.arrays import BoolArray, FloatArray, IntArray

# Fraction of the table's span by which a coordinate may lie beyond the edge: rounding, not physics.
EDGE_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Nodes:
    """One axis of a response table.

    Raises ValueError unless the nodes are finite and strictly increasing inside the edges, which for a logarithmic axis
    begin above zero.
    """

    values: FloatArray  #: shape (n,), in a plain unit (TeV, deg or 1), increasing: bin centres, or the nodes themselves
    lower: float  #: edge of the table, outside which the response is zero
    upper: float
    log: bool  #: whether to interpolate in the logarithm of the coordinate

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=float)
        if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)) or np.any(np.diff(values) <= 0):
            raise ValueError(f"table axis: nodes must be finite and strictly increasing, got {self.values}")
        if not self.lower <= values[0] <= values[-1] <= self.upper:
            raise ValueError(f"table axis: nodes {values} lie outside the edges {self.lower}, {self.upper}")
        if self.log and self.lower <= 0:
            raise ValueError(f"table axis: a logarithmic axis starts above zero, got {self.lower}")
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        return len(self.values)

    def scaled(self, x: ArrayLike) -> FloatArray:
        """Coordinate in which the interpolation is linear; same shape as `x`, NaN for ``log`` of x <= 0."""
        x = np.asarray(x, dtype=float)
        return np.log(np.where(x > 0, x, np.nan)) if self.log else x

    def inside(self, x: ArrayLike) -> BoolArray:
        """Whether each `x` lies within the edges of the table, both included; False for NaN."""
        u = self.scaled(x)
        lower, upper = self.scaled([self.lower, self.upper])
        slack = EDGE_TOLERANCE * (upper - lower)
        return (u >= lower - slack) & (u <= upper + slack)

    def bracket(self, x: ArrayLike) -> tuple[IntArray, FloatArray]:
        """Lower node and fraction towards the next one, each of shape (...), as `x`.

        ``value = (1 - fraction) * v[index] + fraction * v[index + 1]``; fractions leave [0, 1] in the outermost half
        bins, and for a single node both are 0.
        """
        nodes, u = self.scaled(self.values), self.scaled(x)
        if len(nodes) == 1:
            return np.zeros(u.shape, dtype=np.int64), np.zeros(u.shape)
        index = np.clip(np.searchsorted(nodes, u, side="right") - 1, 0, len(nodes) - 2)
        return index, (u - nodes[index]) / np.diff(nodes)[index]

    def weights(self, x: ArrayLike) -> FloatArray:
        """Hat functions of the nodes, shape (..., n), at `x`, shape (...).

        Rows sum to 1, linear beyond the outermost nodes; rows are 0 outside the edges and for NaN.
        """
        index, fraction = self.bracket(x)
        inside = self.inside(x)
        weights = np.zeros((inside.size, len(self)))
        rows, columns, fraction = np.flatnonzero(inside), index[inside], fraction[inside]
        weights[rows, columns] = 1.0 - fraction
        if len(self) > 1:
            weights[rows, columns + 1] = fraction
        return weights.reshape(*inside.shape, len(self))


def nodes_from_edges(lo: ArrayLike, hi: ArrayLike, log: bool) -> Nodes:
    """Axis of a table from its LO and HI columns, shape (n,).

    A centre is the geometric mean of the edges if `log`, else their mean. Columns with LO equal to HI give the nodes
    themselves; the table then reaches half a node spacing beyond the outermost ones, and of a single one everywhere.
    Raises ValueError if the columns differ in length, do not increase, or the bins are not contiguous.
    """
    lo, hi = np.atleast_1d(np.asarray(lo, dtype=float)), np.atleast_1d(np.asarray(hi, dtype=float))
    if lo.shape != hi.shape or lo.ndim != 1:
        raise ValueError(f"table axis: LO and HI have shapes {lo.shape} and {hi.shape}")
    if np.allclose(lo, hi):
        if len(hi) == 1:
            return Nodes(hi, 1e-300 if log else -np.inf, np.inf, log)
        u = np.log(hi) if log else hi
        ends = np.array([u[0] - 0.5 * (u[1] - u[0]), u[-1] + 0.5 * (u[-1] - u[-2])])  # as gammapy's MapAxis.from_nodes
        lower, upper = (np.exp(ends) if log else ends).tolist()
        return Nodes(hi, lower, upper, log)
    if not np.allclose(hi[:-1], lo[1:], rtol=1e-4):
        raise ValueError(f"table axis: bins are not contiguous, LO {lo}, HI {hi}")
    centers = np.sqrt(lo * hi) if log else 0.5 * (lo + hi)
    return Nodes(centers, float(lo[0]), float(hi[-1]), log)


def check_shape(name: str, table: FloatArray, *lengths: int) -> None:
    """Refuse, with a ValueError, a table that has not the shape of its axes."""
    if table.shape != lengths:
        raise ValueError(f"{name} of shape {table.shape}, axes of shape {lengths}")
