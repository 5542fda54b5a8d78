"""Tables by the names of their columns: numbers in plain units, axes and arrays of responses, conditions on rows."""

import ast
import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from cubeflow.dl3.entries import text
from cubeflow.dl3.hdus import Header, Table, UnitError, factor
from cubeflow.dl3.quirks import Notes
from cubeflow.errors import MistakeError
from cubeflow.irf.table import Nodes, nodes_from_edges
from cubeflow.maps.arrays import BoolArray, FloatArray
from cubeflow.observation import RunRefused

# axis: (prefixes of its LO and HI columns, plain unit)
AXES = {
    "energy": (("ENERG", "ETRUE", "ENERGY"), "TeV"),
    "offset": (("THETA",), "deg"),
    "migra": (("MIGRA",), ""),
    "rad": (("RAD",), "deg"),
    "detx": (("DETX",), "deg"),
    "dety": (("DETY",), "deg"),
}


def number(header: Header, key: str, where: str, default: float | None = None) -> float:
    """Header value as a finite number, which may be written as text; raises RunRefused if it is none."""
    value = header.get(key, default)
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise RunRefused(f"{where}: {key} = {header.get(key)!r}, expected a number")
    return float(value)


def in_unit(table: Table, name: str, values: FloatArray, unit: str, notes: Notes, default: str = "") -> FloatArray:
    """Values of a column in a plain unit; where the file has none it is `default`, else the plain one, and counted."""
    written = table.columns[name].unit or default
    if unit and not written:
        notes.repair("unit_missing")
        return values
    try:
        scale = factor(written, unit)
    except UnitError as error:
        raise RunRefused(f"{table.hdu}: column {name}: {error}") from error
    return values if scale == 1.0 else values * scale


@dataclass(frozen=True, eq=False)
class TableAxis:
    """LO and HI columns of one axis, shape (n,), in plain unit and growing."""

    name: str  # of `AXES`
    lo: FloatArray
    hi: FloatArray
    column: str  # prefix of the columns
    number: int  # of the LO column in the table
    descending: bool  # the file has them the other way round
    where: str  # file, HDU and columns, for messages

    @property
    def is_nodes(self) -> bool:
        """LO and HI are the same: nodes, not bins."""
        return np.allclose(self.lo, self.hi)

    def nodes(self) -> Nodes:
        """Interpolation axis; logarithmic for energies."""
        if not self.is_nodes:
            self.edges()
        try:
            return nodes_from_edges(self.lo, self.hi, log=self.name == "energy")
        except ValueError as error:
            raise RunRefused(f"{self.where}: {' '.join(str(error).split())}") from error

    def edges(self) -> FloatArray:
        """Edges, shape (n + 1,), of bins that follow each other without gap or overlap.

        Neighbours may differ by a thousandth of the bin, as single precision and rounding make them.
        """
        lo, hi = self.lo, self.hi
        if np.any(hi <= lo):
            index = int(np.argmax(hi <= lo))
            raise RunRefused(f"{self.where}: bin {index} from {lo[index]:g} to {hi[index]:g}, expected LO < HI")
        gaps = np.abs(lo[1:] - hi[:-1]) > 1e-3 * np.minimum(hi - lo, np.inf)[1:]
        if np.any(gaps):
            index = int(np.argmax(gaps))
            raise RunRefused(f"{self.where}: bin {index} ends at {hi[index]:g}, the next begins at {lo[index + 1]:g}")
        return np.append(lo, hi[-1])


Conditions = tuple[tuple[str, str], ...]  # on the columns of EVENTS, each after its key in the configuration
Axes = dict[str, TableAxis]  # by name, in the order wanted


def read_axes(table: Table, names: tuple[str, ...], notes: Notes) -> Axes:
    """Axes of a response table; RunRefused if one is missing, not finite, not monotonic, or of a wrong unit."""
    axes = {name: _read_axis(table, name, notes) for name in names}
    if "offset" in axes and axes["offset"].is_nodes:
        notes.quirk("theta-nodes")
    return axes


def _read_axis(table: Table, name: str, notes: Notes) -> TableAxis:
    prefixes, unit = AXES[name]
    found = [p for p in prefixes if f"{p}_LO" in table.columns and f"{p}_HI" in table.columns]
    if not found:
        raise RunRefused(f"{table.hdu}: no columns {prefixes[0]}_LO, {prefixes[0]}_HI")
    where = f"{table.hdu}: {found[0]}_LO, {found[0]}_HI"
    lo, hi = (_cell(table, f"{found[0]}_{side}", unit, notes).ravel() for side in ("LO", "HI"))
    if lo.shape != hi.shape:
        raise RunRefused(f"{where}: {lo.size} and {hi.size} values, expected as many")
    descending = bool(lo.size > 1 and lo[0] > lo[-1])
    if descending:
        notes.quirk("axis-descending")
        lo, hi = lo[::-1], hi[::-1]
    for check in (require_finite, require_increasing):
        for values in (lo, hi):
            check(values, where)
    if name == "energy" and np.any(lo <= 0):
        raise RunRefused(f"{where}: lowest value {lo.min():g}, expected above 0")
    return TableAxis(name, lo, hi, found[0], table.columns[f"{found[0]}_LO"].number, descending, where)


def _cell(table: Table, column: str, unit: str | None, notes: Notes) -> FloatArray:
    """Array of a column of a one-row table in a plain unit, or as written if none is wanted."""
    values = table.cell(column).astype(float)
    return values if unit is None else in_unit(table, column, values, unit, notes)


def read_array(
    table: Table, column: str, unit: str | None, axes: Axes, notes: Notes, file_order: tuple[str, ...] = ()
) -> FloatArray:
    """Array of a response in a plain unit (None: as written), contiguous, its axes in the order of `axes` and growing.

    `file_order` is the numpy order of the axes in the file; by default that of the axis columns (or of CREFn),
    reversed. Where the shape has another order of their lengths, the axes are taken the other way round, else in the
    one order that fits. Raises RunRefused if none does, or more than one, or a value is not finite.
    """
    where = f"{table.hdu}: column {column}"
    values = _cell(table, column, unit, notes)
    order = file_order or _file_order(table, column, axes, notes)
    shape = tuple(len(axes[name].lo) for name in order)
    tdim = table.header.get(f"TDIM{table.columns[column].number}")
    is_flat = values.shape == (int(np.prod(shape)),)
    if is_flat and values.shape != shape:
        # Flat values are shaped by the axes only where the file says nothing of their shape.
        if tdim is not None and len([n for n in shape if n > 1]) > 1:
            raise RunRefused(f"{where}: TDIM = {tdim!r}, but its axes have {shape}")
        if tdim is None:
            notes.quirk("tdim-missing")
    # Axes of length 1 and TDIM may be left out in the file.
    long = [n for n in values.shape if n > 1]
    if not is_flat and long != [n for n in shape if n > 1]:
        lengths = {name: len(axes[name].lo) for name in order if len(axes[name].lo) > 1}
        fitting = [names for names in permutations(lengths) if [lengths[name] for name in names] == long]
        turned = tuple(lengths)[::-1]  # all columns named in the order of numpy: what gammapy reads, too
        fitting = [turned] if turned in fitting else fitting
        if len(fitting) != 1:
            how = f"in {len(fitting)} ways: which of them is not said" if fitting else "in no order"
            raise RunRefused(f"{where}: shape {values.shape}, but its axes have {shape}; they fit {how}")
        notes.quirk("axis-order-by-lengths")
        order = (*(name for name in order if name not in lengths), *fitting[0])
    values = values.reshape([len(axes[name].lo) for name in order])
    require_finite(values, where)
    values = values[tuple(slice(None, None, -1 if axes[name].descending else 1) for name in order)]
    return np.ascontiguousarray(values.transpose([order.index(name) for name in axes]))


def _file_order(table: Table, column: str, axes: Axes, notes: Notes) -> tuple[str, ...]:
    """Numpy order of the axes: first axis column fastest, so reversed."""
    by_column = sorted(axes, key=lambda name: axes[name].number)
    cref = text(table.header, f"CREF{table.columns[column].number}")
    prefixes = {axis.column: name for name, axis in axes.items()}
    by_cref = [prefixes[prefix] for prefix in re.findall(r"(\w+)_LO", cref) if prefix in prefixes]
    if sorted(by_cref) == sorted(by_column) and by_cref != by_column:
        notes.quirk("axis-order-by-cref")
        return tuple(by_cref[::-1])
    return tuple(by_column[::-1])


def require_finite(values: FloatArray, where: str) -> None:
    """Refuse NaN and infinity anywhere in `values`; `where` names file, HDU and column."""
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise RunRefused(f"{where}: {bad} of {values.size} values are NaN or infinite, expected none")


def require_increasing(values: FloatArray, where: str) -> None:
    """Refuse values of shape (n,) that do not grow strictly."""
    if values.size == 0:
        raise RunRefused(f"{where}: empty axis")
    steps = np.diff(values)
    if np.any(steps <= 0):
        index = int(np.argmax(steps <= 0))
        raise RunRefused(f"{where}: {values[index]:g} is followed by {values[index + 1]:g}, expected growing values")


def clip_negative(values: FloatArray, name: str, notes: Notes) -> FloatArray:
    """Values with the negative ones set to zero, which are counted by a name."""
    count = int(np.count_nonzero(values < 0))
    notes.repair(name, count)
    return np.maximum(values, 0.0) if count else values


MAX_NAMED, MAX_DEPTH = 12, 50
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt}
_OPERATORS |= {ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne}
_OPERATORS |= {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class NoColumn(MistakeError):
    """A name is no column of what is looked at."""


def parse_where(expression: str, key: str = "observations.where") -> Callable[[Mapping[str, object]], Any]:
    """Turn an expression such as ``ZEN_PNT < 60 and TARGET_NAME == 'Crab'`` into a test of the index values of a run.

    It holds columns of the observation index, numbers and strings, joined by comparisons, ``and``, ``or``, ``not``,
    ``+ - * /``. Nothing else is evaluated. Columns of numbers, shape (n,), give a test of each row, in which nothing
    holds of NaN. `key` is that of the configuration, which errors name: MistakeError if it holds anything else.
    """
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        expected = "expected an expression such as 'ZEN_PNT < 60'"
        raise MistakeError(f"{key}: {expected}, got {expression!r:.80}") from error
    _check(tree, expression, key)

    def test(columns: Mapping[str, object]) -> Any:
        try:
            found = _evaluate(tree, columns)
        except KeyError as error:
            name, holder = str(error.args[0]), "EVENTS" if key.startswith("event") else "the observation index"
            alike = difflib.get_close_matches(name.upper(), list(columns), n=1, cutoff=0.5)
            hint = f"did you mean {alike[0]!r}?" if alike else f"it has {', '.join(sorted(columns)[:MAX_NAMED])}"
            raise NoColumn(f"{key}: {holder} has no column {name!r:.40} (of {expression!r:.80}); {hint}") from error
        except (TypeError, ValueError, ArithmeticError) as error:
            raise MistakeError(f"{key}: {expression!r:.80} cannot be evaluated: {error}") from error
        return found if isinstance(found, np.ndarray) else bool(found)

    return test


def select_rows(table: Table, where: Conditions) -> BoolArray:
    """Rows for which conditions hold, shape (n_rows,); MistakeError if one does not fit the columns, FileRefused."""
    selected = np.ones(len(table.rows), bool)
    for key, condition in where:
        columns = {name: table.column(name) if name in condition else None for name in table.columns}
        selected &= np.broadcast_to(parse_where(condition, key)(columns), len(selected)).astype(bool)
    return selected


def _check(node: ast.AST, expression: str, key: str, depth: int = 0) -> None:
    """Refuse every kind of syntax that `_evaluate` does not know, and expressions too deep for it."""
    known = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.BinOp, ast.Name, ast.Load)
    allowed = (*known, ast.Constant, *_OPERATORS)
    is_odd = isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float | str)
    if is_odd or not isinstance(node, allowed):
        raise MistakeError(f"{key}: {type(node).__name__} is not allowed in {expression!r:.80}")
    if depth > MAX_DEPTH:
        raise MistakeError(f"{key}: expected at most {MAX_DEPTH} levels, got {expression!r:.80}")
    for part in ast.iter_child_nodes(node):
        _check(part, expression, key, depth + 1)


def _evaluate(node: ast.AST, columns: Mapping[str, object]) -> Any:
    """Value of a checked expression for one run, or of each row, shape (n,)."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return columns[node.id]
        case ast.BoolOp():
            return _joined((_evaluate(part, columns) for part in node.values), isinstance(node.op, ast.And))
        case ast.UnaryOp():
            operand = _evaluate(node.operand, columns)
            if isinstance(node.op, ast.USub):
                return -operand
            return np.logical_not(operand) if isinstance(operand, np.ndarray) else not operand
        case ast.BinOp():
            left, right = _evaluate(node.left, columns), _evaluate(node.right, columns)
            if isinstance(left, str) or isinstance(right, str):
                raise TypeError(f"{left!r:.40} and {right!r:.40}: expected numbers")
            return _OPERATORS[type(node.op)](left, right)
        case ast.Compare():
            parts = [_evaluate(part, columns) for part in (node.left, *node.comparators)]
            pairs = zip(node.ops, parts, parts[1:], strict=False)
            return _joined((_compared(_OPERATORS[type(op)], left, right) for op, left, right in pairs), True)


def _joined(conditions: Iterable[Any], is_all: bool) -> Any:
    """Whether all, or any, of some conditions hold; what need not be looked at is not."""
    joined: Any = is_all
    for condition in conditions:
        if isinstance(condition, np.ndarray) or isinstance(joined, np.ndarray):
            joined = (np.logical_and if is_all else np.logical_or)(joined, condition)
        elif bool(condition) is not is_all:
            return not is_all
    return joined


def _compared(compare: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """Outcome of a comparison, as numbers if one is; false for rows of NaN, ValueError for one NaN or for odd text."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        known = ~np.isnan(np.asarray(left, float)) & ~np.isnan(np.asarray(right, float))
        return compare(left, right) & known
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = (float(value) if isinstance(value, str) else value for value in (left, right))
        if left != left or right != right:
            raise ValueError("a value is NaN")
    return compare(left, right)
