"""Which runs of a store belong to a target, and why the others do not."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable
from typing import Any

from cubeflow.config.sections import Observations
from cubeflow.dl3.entries import RunEntry, Store, direction_of
from cubeflow.dl3.hdus import Header
from cubeflow.errors import MistakeError
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.pipeline.tasks import Refusal

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


def select_runs(
    store: Store, wanted: Observations, target_deg: tuple[float, float]
) -> tuple[list[RunEntry], list[Refusal], int]:
    """Runs that a target asks for, those of them that the index rules out, and how many it does not ask for.

    Raises
    ------
    MistakeError
        If an id asked for is not in the store, or the expression or a pointing cannot be had.
    """
    if wanted.ids is not None:
        absent = set(wanted.ids) - {entry.obs_id for entry in store.runs} - set(store.refused)
        if absent:
            ends = f", {store.runs[0].obs_id} to {store.runs[-1].obs_id}" if store.runs else ""
            raise MistakeError(
                f"observations.ids: not in the store: {sorted(absent)}; it has {len(store.runs)} runs{ends}"
            )
    test = parse_where(wanted.where) if wanted.where else None
    chosen = [
        entry
        for entry in store.runs
        if _is_named(entry.obs_id, wanted)
        and _is_near(entry, wanted.within_deg, target_deg)
        and (test is None or test(entry.obs_info))
    ]
    refused = [
        Refusal(obs_id, reason)
        for obs_id, reason in store.refused.items()
        if _is_named(obs_id, wanted)
        and _may_be_near(store.refused_infos.get(obs_id, {}), wanted.within_deg, target_deg)
    ]
    return chosen, refused, len(store.runs) - len(chosen)


def _is_named(obs_id: int, wanted: Observations) -> bool:
    """Whether the ids alone leave a run in."""
    return (wanted.ids is None or obs_id in wanted.ids) and obs_id not in wanted.exclude


def _is_near(entry: RunEntry, within_deg: float | None, target_deg: tuple[float, float]) -> bool:
    """Whether the pointing leaves a run in."""
    if within_deg is None:
        return True
    pointing = direction_of(entry.obs_info)
    if pointing is None:
        raise MistakeError(f"observations.within: run {entry.obs_id} has no RA_PNT, DEC_PNT in the observation index")
    return bool(angular_distance_deg(pointing, target_deg) <= within_deg)


def _may_be_near(info: Header, within_deg: float | None, target_deg: tuple[float, float]) -> bool:
    """Whether the pointing of a run that cannot be used leaves it in, as far as it is known."""
    pointing = direction_of(info)
    return within_deg is None or pointing is None or bool(angular_distance_deg(pointing, target_deg) <= within_deg)


def parse_where(expression: str) -> Callable[[Header], bool]:
    """Turn an expression such as ``ZEN_PNT < 60 and TARGET_NAME == 'Crab'`` into a test of the index values of a run.

    It holds columns of the observation index, numbers and strings, joined by comparisons, ``and``, ``or``, ``not``,
    ``+ - * /``. Nothing else is evaluated.

    Raises
    ------
    MistakeError
        If the expression holds anything else.
    """
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        expected = "expected an expression such as 'ZEN_PNT < 60'"
        raise MistakeError(f"observations.where: {expected}, got {expression!r}") from error
    _check(tree, expression)
    return lambda columns: bool(_evaluate(tree, columns, expression))


def _check(node: ast.AST, expression: str) -> None:
    """Refuse every kind of syntax that `_evaluate` does not know."""
    known = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.BinOp, ast.Name, ast.Load)
    allowed = (*known, ast.Constant, *_COMPARE, *_ARITHMETIC)
    for part in ast.walk(node):
        if not isinstance(part, allowed):
            raise MistakeError(f"observations.where: {type(part).__name__} is not allowed in {expression!r}")


def _evaluate(node: ast.AST, columns: Header, expression: str) -> Any:
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
        raise MistakeError(_no_column(str(error.args[0]), columns, expression)) from error
    except (TypeError, ZeroDivisionError) as error:
        raise MistakeError(f"observations.where: {expression!r} cannot be evaluated: {error}") from error
    raise MistakeError(f"observations.where: {expression!r} cannot be evaluated")


def _no_column(name: str, columns: Header, expression: str) -> str:
    """Message on a name that is no column, with what is alike or there."""
    alike = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.4)
    hint = f"did you mean {alike[0]!r}?" if alike else f"it has {', '.join(sorted(columns)[:MAX_NAMED])}"
    return f"observations.where: the observation index has no column {name!r} (of {expression!r}); {hint}"
