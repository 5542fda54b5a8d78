"""From the first job of a workflow to the last: the lock, and telling how far it is."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from pathlib import Path

from cubeflow.plan.write import write_index
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
        self._plan, self._say = plan, say
        self._results = Path(plan.results)

    def begin(self) -> None:
        """Take the lock; LockedError if another workflow is at work in the results folder."""
        take_lock(self._results)
        atexit.register(release_lock, self._results)
        clear_progress(self._results)
        write_index(self._results, self._plan.index, is_current=True)

    def end(self) -> None:
        """Give the lock back."""
        release_lock(self._results)
