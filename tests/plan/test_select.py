"""Selection of runs by an expression over the observation index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.plan.select import SelectionError, angular_distance_deg, parse_where

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
    with pytest.raises(SelectionError, match="where"):
        parse_where(expression)


def test_an_unknown_column_is_named():
    with pytest.raises(SelectionError, match="no column 'ZENITH'"):
        parse_where("ZENITH < 60")(RUN)


def test_text_against_number_is_an_error_not_a_silent_no():
    with pytest.raises(SelectionError, match="cannot be evaluated"):
        parse_where("OBJECT < 3")(RUN)


@given(st.floats(0, 359), st.floats(-89, 89), st.floats(0, 1))
def test_distance_along_a_meridian(lon, lat, step):
    assert angular_distance_deg((lon, lat), (lon, lat + step)) == pytest.approx(step, abs=1e-9)
