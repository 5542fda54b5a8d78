"""Selection of runs by an expression over the observation index."""

import pytest

from cubeflow.config.sections import Observations
from cubeflow.dl3.entries import RunEntry, Store
from cubeflow.errors import MistakeError
from cubeflow.plan.select import parse_where, select_runs

RUN = {"ZEN_PNT": 45.0, "OBJECT": "Crab Nebula", "N_TELS": 4, "MUONEFF": 0.9}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ZEN_PNT < 60", True),
        ("ZEN_PNT < 60 and N_TELS == 3", False),
        ("OBJECT == 'Crab Nebula' or N_TELS == 3", True),
        ("not (ZEN_PNT >= 45)", False),
        ("30 <= ZEN_PNT <= 45", True),
        ("MUONEFF * 2 - 1 > -ZEN_PNT / 9", True),
    ],
)
def test_expressions(expression, expected):
    assert parse_where(expression)(RUN) is expected


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "ZEN_PNT.real < 3", "(lambda: 1)()", "[1][0]", "ZEN_PNT <", "OBJECT ** 9", "a if b else c"],
)
def test_nothing_else_is_evaluated(expression):
    with pytest.raises(MistakeError, match="where"):
        parse_where(expression)


def test_an_unknown_column_is_named():
    with pytest.raises(MistakeError, match="no column 'ZENITH'"):
        parse_where("ZENITH < 60")(RUN)


def test_text_against_number_is_an_error_not_a_silent_no():
    with pytest.raises(MistakeError, match="cannot be evaluated"):
        parse_where("OBJECT < 3")(RUN)


def test_a_pointing_that_is_no_number_is_told_and_not_passed_over():
    store = Store("store", (RunEntry(7, (), {"RA_PNT": float("nan"), "DEC_PNT": 22.0}),))
    with pytest.raises(MistakeError, match=r"observations.within: run 7 has no RA_PNT"):
        select_runs(store, Observations(within_deg=2.0), (83.6, 22.0))
