"""Columns in few bytes: what comes out is what was put in, to the type and the bit."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.steps import cells
from cubeflow.steps.cells import Cells, Columns

VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=3)


def exact(values) -> list:
    """Values with their types; numbers as text, which tells -0.0 from 0.0."""
    return [(type(value), str(value)) for value in values]


@settings(deadline=None)
@given(
    st.lists(st.lists(VALUES, max_size=5) | st.lists(st.just(0.0) | st.just(-0.0), max_size=9), max_size=6), st.data()
)
def test_values_are_those_put_in(parts, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "BLOCK_ROWS", 4)
        column, plain = Cells(), []
        for part in parts:
            column.extend(part)
            plain += part
        start, stop = (data.draw(st.integers(0, len(plain) + 2)) for _ in range(2))
        assert len(column) == len(plain)
        assert exact(column) == exact(plain)
        assert exact(column[start:stop]) == exact(plain[start:stop])
        order = data.draw(st.permutations(range(len(plain))))
        assert exact(column.in_order(order)) == exact(plain[row] for row in order)


def test_numbers_that_have_no_place_are_an_error():
    column = Cells()
    with pytest.raises(OverflowError):
        column.extend([2**63] * cells.BLOCK_ROWS)


@pytest.mark.parametrize(("value", "most_bytes"), [(lambda row: "Crab Nebula", 1), (lambda row: row / 7, 10)])
def test_bytes_of_a_value(value, most_bytes):
    tracemalloc.start()
    column = Cells()
    for start in range(0, 100_000, 50):
        column.extend(value(row) for row in range(start, start + 50))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < most_bytes * 100_000


def test_columns_appear_late_and_rows_lack_values():
    columns = Columns()
    columns.add([{"obs_id": 5, "a": 1.5}, {"obs_id": 9, "piece": 1}, {"obs_id": 9, "piece": 0, "b": "x"}])
    columns.add([])
    columns.add([{"obs_id": 7, "b": ""}])
    found = {name: list(column) for name, column in columns.sorted_by("obs_id", "piece").items()}
    assert found == {
        "obs_id": [5, 7, 9, 9],
        "a": [1.5, None, None, None],
        "piece": [None, None, 0, 1],
        "b": [None, "", "x", None],
    }
    assert {name: list(column) for name, column in Columns().sorted_by("obs_id").items()} == {}
