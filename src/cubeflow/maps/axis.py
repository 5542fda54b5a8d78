"""Binned axes: energy, true energy and the radial axis of the PSF."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.maps.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from astropy.units import Quantity


@dataclass(frozen=True)
class Axis:
    """A contiguous binned axis, held as plain numbers.

    Edges are a part of keys, and the last digit of a logarithm or of a conversion of units depends on the processor:
    they are rounded to 12 significant digits here, whatever they were made from. ValueError if there are fewer than
    two edges, not finite and strictly increasing to 12 digits, or logarithmic and not above zero.
    """

    name: str  #: ``energy`` (reconstructed), ``energy_true`` or ``rad``
    edges: tuple[float, ...]  #: The ``n_bins + 1`` strictly increasing bin edges, in `unit`
    unit: str  #: Unit of the edges: ``TeV`` for energies, ``deg`` for ``rad``
    interp: Literal["log", "lin"] = "log"  #: Spacing; it decides what the centre of a bin is

    def __post_init__(self) -> None:
        edges = np.array([float(f"{edge:.11e}") for edge in self.edges])
        if edges.size < 2:
            raise ValueError(f"axis {self.name}: at least two edges are needed, got {edges.size}")
        if not np.all(np.isfinite(edges)) or not np.all(np.diff(edges) > 0):
            raise ValueError(f"axis {self.name}: edges must be finite and strictly increasing, got {self.edges}")
        if self.interp == "log" and edges[0] <= 0:
            raise ValueError(f"axis {self.name}: a logarithmic axis starts above zero, got {edges[0]}")
        object.__setattr__(self, "edges", tuple(edges.tolist()))

    @classmethod
    def of(cls, edges: "Quantity", name: str = "energy") -> "Axis":
        """Axis from its edges, shape (n_bins + 1,): ``energy`` and ``energy_true`` logarithmic, ``rad`` linear."""
        unit, interp = ("deg", "lin") if name == "rad" else ("TeV", "log")
        return cls(name, tuple(edges.to_value(unit).tolist()), unit, interp)  # type: ignore[arg-type]

    @cached_property
    def edges_array(self) -> FloatArray:
        """Bin edges, shape (n_bins + 1,), in `unit`."""
        return np.array(self.edges)

    @cached_property
    def centers(self) -> FloatArray:
        """Bin centres, shape (n_bins,): geometric mean of the edges if ``log``, arithmetic if ``lin``."""
        lower, upper = self.edges_array[:-1], self.edges_array[1:]
        return np.sqrt(lower * upper) if self.interp == "log" else 0.5 * (lower + upper)

    @cached_property
    def widths(self) -> FloatArray:
        """Bin widths, shape (n_bins,), in `unit`."""
        return np.diff(self.edges_array)

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1

    def index(self, values: ArrayLike) -> IntArray:
        """Bin of each value, half-open ``[lo, hi)``; -1 outside the axis and for NaN."""
        values = np.asarray(values, dtype=float)
        index = np.searchsorted(self.edges_array, values, side="right") - 1
        outside = ~((values >= self.edges[0]) & (values < self.edges[-1]))
        return np.where(outside, -1, index)

    def edge_index(self, edge: float) -> int:
        """Index of an edge, to 1e-6 of its value; ValueError if it is none."""
        near = np.abs(self.edges_array - edge)
        if self.interp == "log" and edge > 0:
            near = np.abs(np.log(self.edges_array / edge))
        index = int(np.argmin(near))
        if not abs(self.edges[index] - edge) <= 1e-6 * abs(self.edges[index]):
            nearest = f"{self.edges[index]:g} {self.unit}"
            raise ValueError(f"{edge:g} {self.unit} is no edge of the {self.name} axis; {nearest} is")
        return index

    def in_one_bin(self) -> "Axis":
        """Axis of one bin over the whole range."""
        return Axis(self.name, (self.edges[0], self.edges[-1]), self.unit, self.interp)


def energy_axis(edges_tev: ArrayLike, name: str = "energy") -> Axis:
    """Energy axis from its edges in TeV; `name` is ``energy`` or ``energy_true``."""
    return Axis(name, tuple(np.asarray(edges_tev, dtype=float).tolist()), "TeV", "log")


def log_edges(lower: float, upper: float, n_bins: int) -> FloatArray:
    """Return ``n_bins + 1`` logarithmically spaced edges from `lower` to `upper`."""
    return np.geomspace(lower, upper, n_bins + 1)


def rad_axis(rad_max_deg: float, n_bins: int) -> Axis:
    """Radial axis of the PSF: `n_bins` equal bins from 0 to `rad_max_deg`, in deg."""
    return Axis("rad", tuple(np.linspace(0.0, rad_max_deg, n_bins + 1).tolist()), "deg", "lin")
