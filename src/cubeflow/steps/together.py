"""The rule ``together``: several small targets in one process, each from its runs to its final products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cubeflow.errors import FailedError, MistakeError
from cubeflow.plan.inventory import names_in
from cubeflow.plan.write import read_json
from cubeflow.steps.chain import Failure, make_target
from cubeflow.steps.workflow_plan import WorkflowPlan


def make_together(plan: Path, targets: Sequence[str], say: Callable[[str], None], accept_refusals: bool) -> bool:
    """Make what is missing of some targets of a plan; what is wrong with one does not stop the others.

    Parameters
    ----------
    plan : Path
        ``<results>/.cubeflow/plans/<digest>.json``.
    targets : sequence of str
        Targets of the plan. One at which the process was ended before comes last.
    say : callable
        Takes one line for the log.
    accept_refusals : bool
        Go on without the runs that are refused.

    Returns
    -------
    bool
        False if a target was not made because runs of it were refused.

    Raises
    ------
    FailedError
        With a line for each error, when all else is made.
    MistakeError
        If the plan has no such target.
    """
    index, results = read_json(plan)["targets"], plan.absolute().parents[2]
    if unknown := sorted(set(targets) - set(index)):
        raise MistakeError(f"{plan}: expected targets of this plan ({', '.join(index)}), got {', '.join(unknown)}")
    workflow = WorkflowPlan(str(results), accept_refusals, index, str(plan))
    begun = results / ".cubeflow" / "begun"
    failed: list[Failure] = []
    for target in sorted(targets, key=names_in(begun).__contains__):
        with _noted(begun / target):
            failed += make_target(workflow, target, say, accept_refusals)
    if not all(failure.is_refusal for failure in failed):
        raise FailedError("\n".join(failure.line for failure in failed))
    for failure in failed:
        say(failure.line)
    return not failed


@contextmanager
def _noted(note: Path) -> Iterator[None]:
    """Leave a note of what is being done; it stays if the process ends meanwhile, by whatever it is."""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.touch()
    yield
    note.unlink(missing_ok=True)
