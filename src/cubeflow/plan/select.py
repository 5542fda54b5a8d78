"""Which runs of a store belong to a target, and why the others do not."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cubeflow.config.sections import Observations
from cubeflow.dl3.entries import RunEntry, Store, direction_of
from cubeflow.dl3.hdus import Header
from cubeflow.dl3.index import read_infos
from cubeflow.errors import MistakeError
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.pipeline.tasks import Refusal

MAX_NAMED, MAX_DEPTH = 12, 50
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


class _NoColumn(MistakeError):
    """A name is no column of the index, nor a key of EVENTS."""


def select_runs(
    store: Store, wanted: Observations, target_deg: tuple[float, float]
) -> tuple[list[RunEntry], list[Refusal], int]:
    """Runs that a target asks for, those of them that the index rules out, and how many it does not ask for.

    Raises
    ------
    MistakeError
        If an id asked for is not in the store, or the expression, or a pointing, can be had of no run.
    """
    if wanted.ids is not None:
        absent = set(wanted.ids) - {entry.obs_id for entry in store.runs} - set(store.refused)
        if absent:
            ends = f", {store.runs[0].obs_id} to {store.runs[-1].obs_id}" if store.runs else ""
            raise MistakeError(
                f"observations.ids: not in the store: {sorted(absent)}; it has {len(store.runs)} runs{ends}"
            )
    test = None if wanted.where is None else parse_where(wanted.where)
    named = [entry for entry in store.runs if _is_named(entry.obs_id, wanted)]
    chosen, odd = _choose(
        named, lambda info: _is_near(info, wanted.within_deg, target_deg) and (not test or test(info))
    )
    refused = [
        Refusal(obs_id, reason)
        for obs_id, reason in store.refused.items()
        if _is_named(obs_id, wanted)
        and _may_be_near(store.refused_infos.get(obs_id, {}), wanted.within_deg, target_deg)
    ]
    return chosen, refused + odd, len(named) - len(chosen) - len(odd) + len(store.runs) - len(named)


def _choose(named: Sequence[RunEntry], is_wanted: Callable[[Header], bool]) -> tuple[list[RunEntry], list[Refusal]]:
    """Runs that are wanted, and those of which it cannot be said: what the index lacks is looked for in EVENTS.

    Raises MistakeError if it can be said of none.
    """
    chosen: list[RunEntry] = []
    odd: dict[int, RunEntry] = {}
    errors: dict[int, MistakeError] = {}
    for entry in named:
        try:
            chosen += [entry] if is_wanted(entry.obs_info) else []
        except MistakeError as error:
            odd[entry.obs_id], errors[entry.obs_id] = entry, error
    if odd and len(odd) == len(named) and all(isinstance(error, _NoColumn) for error in errors.values()):
        raise next(iter(errors.values()))
    found, _ = read_infos(odd.values())
    for obs_id, entry in odd.items():
        known = {key: value for key, value in entry.obs_info.items() if value not in (None, "") and value == value}
        info = {**found.get(obs_id, {}), **known}
        try:
            chosen += [replace(entry, obs_info=info)] if is_wanted(info) else []
            del errors[obs_id]
        except MistakeError as error:
            errors[obs_id] = error
    if errors and len(errors) == len(named):
        raise next(iter(errors.values()))
    return sorted(chosen, key=lambda entry: entry.obs_id), [Refusal(obs_id, str(why)) for obs_id, why in errors.items()]


def _is_named(obs_id: int, wanted: Observations) -> bool:
    """Whether the ids alone leave a run in."""
    return (wanted.ids is None or obs_id in wanted.ids) and obs_id not in wanted.exclude


def _is_near(info: Header, within_deg: float | None, target_deg: tuple[float, float]) -> bool:
    """Whether the pointing leaves a run in; MistakeError if there is none."""
    if within_deg is not None and direction_of(info) is None:
        got = ", ".join(f"{key} = {info.get(key)!r:.40}" for key in ("RA_PNT", "DEC_PNT"))
        raise MistakeError(f"observations.within: expected a pointing in the observation index or in EVENTS, got {got}")
    return _may_be_near(info, within_deg, target_deg)


def _may_be_near(info: Header, within_deg: float | None, target_deg: tuple[float, float]) -> bool:
    """Whether the pointing leaves a run in, as far as it is known."""
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
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        expected = "expected an expression such as 'ZEN_PNT < 60'"
        raise MistakeError(f"observations.where: {expected}, got {expression!r:.80}") from error
    _check(tree, expression)
    return lambda columns: bool(_evaluate(tree, columns, expression))


def _check(node: ast.AST, expression: str, depth: int = 0) -> None:
    """Refuse every kind of syntax that `_evaluate` does not know, and expressions too deep for it."""
    known = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.BinOp, ast.Name, ast.Load)
    allowed = (*known, ast.Constant, *_COMPARE, *_ARITHMETIC)
    is_odd = isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float | str)
    if is_odd or not isinstance(node, allowed):
        raise MistakeError(f"observations.where: {type(node).__name__} is not allowed in {expression!r:.80}")
    if depth > MAX_DEPTH:
        raise MistakeError(f"observations.where: expected at most {MAX_DEPTH} levels, got {expression!r:.80}")
    for part in ast.iter_child_nodes(node):
        _check(part, expression, depth + 1)


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
                left, right = value(node.left), value(node.right)
                if isinstance(left, str) or isinstance(right, str):
                    raise TypeError(f"{left!r:.40} and {right!r:.40}: expected numbers")
                return _ARITHMETIC[type(node.op)](left, right)
            case ast.Compare():
                parts = [value(part) for part in (node.left, *node.comparators)]
                pairs = zip(node.ops, parts, parts[1:], strict=False)
                return all(_COMPARE[type(op)](*_alike(left, right)) for op, left, right in pairs)
    except MistakeError:
        raise
    except KeyError as error:
        raise _NoColumn(_no_column(str(error.args[0]), columns, expression)) from error
    except (TypeError, ValueError, ArithmeticError) as error:
        raise MistakeError(f"observations.where: {expression!r:.80} cannot be evaluated: {error}") from error
    raise MistakeError(f"observations.where: {expression!r:.80} cannot be evaluated")


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Two values to be compared: as numbers if one is a number; ValueError for text that is none, and for NaN."""
    if isinstance(left, str) and isinstance(right, str):
        return left, right
    left, right = (float(value) if isinstance(value, str) else value for value in (left, right))
    if left != left or right != right:
        raise ValueError("a value is NaN")
    return left, right


def _no_column(name: str, columns: Header, expression: str) -> str:
    """Message on a name that is no column, with what is alike or there."""
    alike = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.4)
    hint = f"did you mean {alike[0]!r}?" if alike else f"it has {', '.join(sorted(columns)[:MAX_NAMED])}"
    return f"observations.where: the observation index has no column {name!r:.40} (of {expression!r:.80}); {hint}"
