"""Runs that were left out before are left out again without being read."""

import json

import pytest

from cubeflow.observation import RunRefused, RunSkipped
from cubeflow.steps.kept import Keeper

KEY = "ab" * 32
RUN = {"obs_id": 7, "reduced_key": KEY, "inputs": {}}


class ReadAgain(Exception):
    """The run was read."""


def reduce_again(folder, verdict):
    """Ask for a run beside which a verdict lies."""
    path = folder / "obs" / "7" / "left-out.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(verdict))

    def make():
        raise ReadAgain

    Keeper(folder, "none", print, {}, None).reduced(RUN, make)


@pytest.mark.parametrize(("kind", "error"), [("refused", RunRefused), ("skipped", RunSkipped)])
def test_a_verdict_is_repeated_word_by_word(tmp_path, kind, error):
    with pytest.raises(error, match=r"^the reason$"):
        reduce_again(tmp_path, {"key": KEY, "kind": kind, "reason": "the reason"})


@pytest.mark.parametrize(
    "verdict",
    [
        {"key": "cd" * 32, "kind": "refused", "reason": "of another configuration"},
        {"key": KEY, "kind": "dropped", "reason": "no such verdict"},
        {"key": KEY, "kind": "refused"},
        [KEY],
    ],
)
def test_any_other_verdict_counts_for_nothing(tmp_path, verdict):
    with pytest.raises(ReadAgain):
        reduce_again(tmp_path, verdict)
