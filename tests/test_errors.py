"""How numbers of things are said."""

import pytest

from cubeflow.errors import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "run", "1 run"), (0, "run", "0 runs"), (2, "batch", "2 batches"), (1, "batch", "1 batch")],
)
def test_one_is_no_plural(number, noun, text):
    assert counted(number, noun) == text
