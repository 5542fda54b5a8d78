"""Whatever was added, removed and replaced before: the result is that of a build from nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

IDS = range(100001, 100013)
RUNS = st.dictionaries(st.sampled_from(IDS), st.integers(0, 1), min_size=1, max_size=6)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(states=st.lists(RUNS, min_size=2, max_size=4), batch=st.sampled_from([1, 2, 3]))
def test_random_sequences_equal_a_build_from_nothing(make_project, states, batch):
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project")
        project.write(stack={"batch": batch, "fanout": 2})
        for runs in states:
            project.put(runs)
            project.build()
        fresh = project.fresh(Path(folder) / "fresh")
        fresh.build()
        finals = project.finals()
        assert finals == fresh.finals()
        assert len(finals) == 9  # three of each of two labels, and the run table in three forms
