"""Axes and arrays of response tables: found by column name, brought into a wanted order and plain units."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3 import checks
from cubeflow.dl3.bintable import Table
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.units import factor
from cubeflow.irf.table import Nodes, are_close, nodes_from_edges
from cubeflow.observation import RunRefused

FloatArray = NDArray[np.float64]

# axis: (prefixes of its LO and HI columns, plain unit)
AXES = {
    "energy": (("ENERG", "ETRUE", "ENERGY"), "TeV"),
    "offset": (("THETA",), "deg"),
    "migra": (("MIGRA",), ""),
    "rad": (("RAD",), "deg"),
    "detx": (("DETX",), "deg"),
    "dety": (("DETY",), "deg"),
}


@dataclass(frozen=True, eq=False)
class Axis:
    """LO and HI columns of one axis.

    Parameters
    ----------
    name : str
        ``energy``, ``offset``, ``migra``, ``rad``, ``detx`` or ``dety``.
    lo, hi : array, shape (n,)
        In plain unit, growing.
    column : str
        Prefix of the columns.
    number : int
        Number of the LO column in the table.
    descending : bool
        The file has them the other way round.
    where : str
        File, HDU and columns, for messages.
    """

    name: str
    lo: FloatArray
    hi: FloatArray
    column: str
    number: int
    descending: bool
    where: str

    @property
    def is_nodes(self) -> bool:
        """LO and HI are the same: nodes, not bins."""
        return are_close(self.lo, self.hi, 1e-5)

    def nodes(self) -> Nodes:
        """Interpolation axis; logarithmic for energies."""
        if not self.is_nodes:
            self.edges()
        try:
            return nodes_from_edges(self.lo, self.hi, log=self.name == "energy")
        except ValueError as error:
            raise RunRefused(f"{self.where}: {' '.join(str(error).split())}") from error

    def edges(self) -> FloatArray:
        """Edges of contiguous bins, shape (n + 1,)."""
        return checks.contiguous_edges(self.lo, self.hi, self.where)


def read_axes(table: Table, names: tuple[str, ...], notes: Notes) -> dict[str, Axis]:
    """Axes of a response table by name.

    Raises
    ------
    RunRefused
        If one is missing, not finite, not monotonic, or of the wrong kind of unit.
    """
    axes = {name: _read_axis(table, name, notes) for name in names}
    if any(axis.descending for axis in axes.values()):
        notes.quirk("axis-descending")
    if "offset" in axes and axes["offset"].is_nodes:
        notes.quirk("theta-nodes")
    return axes


def _read_axis(table: Table, name: str, notes: Notes) -> Axis:
    prefixes, unit = AXES[name]
    found = [p for p in prefixes if f"{p}_LO" in table.fields and f"{p}_HI" in table.fields]
    if not found:
        raise RunRefused(f"{table.hdu}: no columns {prefixes[0]}_LO, {prefixes[0]}_HI")
    where = f"{table.hdu}: {found[0]}_LO, {found[0]}_HI"
    lo, hi = (read_cell(table, f"{found[0]}_{side}", unit, notes).ravel() for side in ("LO", "HI"))
    if lo.shape != hi.shape:
        raise RunRefused(f"{where}: {lo.size} and {hi.size} values, expected as many")
    checks.require_finite(lo, where)
    checks.require_finite(hi, where)
    descending = bool(lo.size > 1 and lo[0] > lo[-1])
    if descending:
        lo, hi = lo[::-1], hi[::-1]
    checks.require_increasing(lo, where)
    checks.require_increasing(hi, where)
    if name == "energy":
        checks.require_positive(lo, where)
    return Axis(name, lo, hi, found[0], table.fields[f"{found[0]}_LO"].number, descending, where)


def read_cell(table: Table, column: str, unit: str, notes: Notes) -> FloatArray:
    """Array of a column of a one-row table in a plain unit; a missing unit is the plain one, and counted."""
    values = np.asarray(table.cell(column), dtype=float)
    written = table.fields[column].unit
    if unit and not written:
        notes.repair("unit_missing")
        return values
    try:
        scale = factor(written, unit)
    except ValueError as error:
        raise RunRefused(f"{table.hdu}: column {column}: {error}") from error
    return values if scale == 1.0 else values * scale


def read_array(
    table: Table, column: str, unit: str, axes: dict[str, Axis], notes: Notes, file_order: tuple[str, ...] = ()
) -> FloatArray:
    """Array of a response with its axes in the order of `axes`, each growing.

    Parameters
    ----------
    table : Table
        Response table of one row.
    column, unit : str
        Column of the array, and the plain unit wanted.
    axes : dict of str to Axis
        Axes in the order wanted.
    notes : Notes
        Takes what was assumed.
    file_order : tuple of str
        Numpy order of the axes in the file; by default that of the axis columns (or of CREFn), reversed.

    Returns
    -------
    array
        Contiguous, shape as the lengths of `axes`.

    Raises
    ------
    RunRefused
        If the shape disagrees with the axes or a value is not finite.
    """
    where = f"{table.hdu}: column {column}"
    values = read_cell(table, column, unit, notes)
    order = file_order or _file_order(table, column, axes, notes)
    shape = tuple(len(axes[name].lo) for name in order)
    if values.shape != shape and values.shape == (int(np.prod(shape)),):
        _require_no_tdim(table, column, shape, notes)
    values = _with_shape(values, shape, where)
    checks.require_finite(values, where)
    values = values[tuple(slice(None, None, -1 if axes[name].descending else 1) for name in order)]
    return np.ascontiguousarray(values.transpose([order.index(name) for name in axes]))


def _file_order(table: Table, column: str, axes: dict[str, Axis], notes: Notes) -> tuple[str, ...]:
    """Numpy order of the axes: first axis column fastest, so reversed."""
    by_column = sorted(axes, key=lambda name: axes[name].number)
    cref = str(table.header.get(f"CREF{table.fields[column].number}") or "")
    prefixes = {axis.column: name for name, axis in axes.items()}
    named = [prefixes.get(prefix) for prefix in re.findall(r"(\w+)_LO", cref)]
    by_cref = [name for name in named if name is not None]
    if sorted(by_cref) == sorted(by_column) and by_cref != by_column:
        notes.quirk("axis-order-by-cref")
        return tuple(by_cref[::-1])
    return tuple(by_column[::-1])


def _require_no_tdim(table: Table, column: str, shape: tuple[int, ...], notes: Notes) -> None:
    """Flat values are shaped by the axes only where the file says nothing of their shape."""
    tdim = table.header.get(f"TDIM{table.fields[column].number}")
    if tdim is not None and len([n for n in shape if n > 1]) > 1:
        raise RunRefused(f"{table.hdu}: column {column}: TDIM = {tdim!r}, but its axes have {shape}")
    if tdim is None:
        notes.quirk("tdim-missing")


def _with_shape(values: FloatArray, shape: tuple[int, ...], where: str) -> FloatArray:
    """Values in the shape of the axes; axes of length 1 and TDIM may be left out in the file."""
    if values.ndim == 1 and values.size == int(np.prod(shape)):
        return values.reshape(shape)
    if [n for n in values.shape if n > 1] == [n for n in shape if n > 1]:
        return values.reshape(shape)
    raise RunRefused(f"{where}: shape {values.shape}, but its axes have {shape}")
