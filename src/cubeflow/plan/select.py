"""Which runs of a store belong to a target, and why the others do not."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from typing import Any

from cubeflow.errors import MistakeError
from cubeflow.maps import sphere

MAX_NAMED = 12
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


class SelectionError(MistakeError):
    """The expression of `observations.where` is wrong; the message names the part."""


def parse_where(expression: str) -> Callable[[Mapping[str, Any]], bool]:
    """Turn an expression such as ``ZEN_PNT < 60 and TARGET_NAME == 'Crab'`` into a test of one run.

    Parameters
    ----------
    expression : str
        Columns of the observation index, numbers and strings, joined by comparisons,
        ``and``, ``or``, ``not``, ``+ - * /``. Nothing else is evaluated.

    Returns
    -------
    callable
        From the index values of a run to whether it is selected.

    Raises
    ------
    SelectionError
        If the expression holds anything else.
    """
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        expected = "expected an expression such as 'ZEN_PNT < 60'"
        raise SelectionError(f"observations.where: {expected}, got {expression!r}") from error
    _check(tree, expression)
    return lambda columns: bool(_evaluate(tree, columns, expression))


def _check(node: ast.AST, expression: str) -> None:
    """Refuse every kind of syntax that `_evaluate` does not know."""
    known = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.BinOp, ast.Name, ast.Load)
    allowed = (*known, ast.Constant, *_COMPARE, *_ARITHMETIC)
    for part in ast.walk(node):
        if not isinstance(part, allowed):
            raise SelectionError(f"observations.where: {type(part).__name__} is not allowed in {expression!r}")


def _evaluate(node: ast.AST, columns: Mapping[str, Any], expression: str) -> Any:
    """Value of a checked expression for one run."""

    def value(part: ast.AST) -> Any:
        return _evaluate(part, columns, expression)

    try:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return columns[node.id]
            case ast.BoolOp():
                results = (bool(value(part)) for part in node.values)
                return all(results) if isinstance(node.op, ast.And) else any(results)
            case ast.UnaryOp():
                return not value(node.operand) if isinstance(node.op, ast.Not) else -value(node.operand)
            case ast.BinOp():
                return _ARITHMETIC[type(node.op)](value(node.left), value(node.right))
            case ast.Compare():
                parts = [value(part) for part in (node.left, *node.comparators)]
                pairs = zip(node.ops, parts, parts[1:], strict=False)
                return all(_COMPARE[type(op)](left, right) for op, left, right in pairs)
    except KeyError as error:
        raise SelectionError(_no_column(str(error.args[0]), columns, expression)) from error
    except (TypeError, ZeroDivisionError) as error:
        raise SelectionError(f"observations.where: {expression!r} cannot be evaluated: {error}") from error
    raise SelectionError(f"observations.where: {expression!r} cannot be evaluated")


def _no_column(name: str, columns: Mapping[str, Any], expression: str) -> str:
    """Message on a name that is no column, with what is alike or there."""
    alike = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.4)
    hint = f"did you mean {alike[0]!r}?" if alike else f"it has {', '.join(sorted(columns)[:MAX_NAMED])}"
    return f"observations.where: the observation index has no column {name!r} (of {expression!r}); {hint}"


def angular_distance_deg(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Separation of two ICRS positions (ra, dec) in deg."""
    return float(sphere.separation_deg(sphere.unit_vectors(*first), sphere.unit_vectors(*second)))
