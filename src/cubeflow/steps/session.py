"""From the first job of a workflow to the last: the lock, and telling how far it is."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cubeflow.plan.inventory import names_in
from cubeflow.plan.write import write_index
from cubeflow.steps.display import Display
from cubeflow.steps.lock import release_lock, take_lock
from cubeflow.steps.progress import clear_progress
from cubeflow.steps.workflow_plan import WorkflowPlan

Say = Callable[[str], None]


class Session:
    """What holds while jobs run.

    Parameters
    ----------
    plan : WorkflowPlan
        What is carried out.
    say : callable
        Takes one line.
    """

    def __init__(self, plan: WorkflowPlan, say: Say) -> None:
        self._plan = plan
        self._results = Path(plan.results)
        self._display = Display(self._results, plan.runs_to_reduce, say)

    def begin(self, is_quiet: bool = False) -> None:
        """Take the lock; LockedError if another workflow is at work in the results folder."""
        take_lock(self._results)
        atexit.register(self.end)
        clear_progress(self._results)
        write_index(self._results, self._plan.index, is_current=True)
        self._forget_other_plans()
        if not is_quiet:
            self._display.begin()

    def end(self) -> None:
        """Give the lock back."""
        self._display.end()
        release_lock(self._results)

    def _forget_other_plans(self) -> None:
        """Remove the plans of earlier workflows: nobody follows them any more."""
        plan = Path(self._plan.path)
        for name in names_in(plan.parent) - {plan.name}:
            with suppress(OSError):
                (plan.parent / name).unlink()
