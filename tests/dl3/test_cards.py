"""Header cards against astropy."""

import numpy as np
import pytest
from astropy.io import fits

from cubeflow.dl3.cards import parse_header, parse_value


def test_agrees_with_astropy():
    header = fits.Header()
    values = {"A": 1, "B": -2.5e-7, "C": "it's / a 'string'", "D": True, "E": False, "F": "", "LONGKEYWORDNAME": 3}
    values |= {"LONGTEXT": "x" * 100 + "'" + "y" * 90, "BLANKS": "  a  ", "BIG": 2**60}
    for key, value in values.items():
        header["HIERARCH " + key if len(key) > 8 else key] = value
    header["COMMENT"] = "A = 5"
    header["HISTORY"] = "B = 6"
    found = parse_header(header.tostring().encode())
    assert found == {card.keyword: card.value for card in header.cards if card.keyword not in ("COMMENT", "HISTORY")}
    assert type(found["A"]) is int
    assert type(found["D"]) is bool


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 1.5D+03 / x", 1500.0),
        (" 1.", 1.0),
        (" .5", 0.5),
        (" +7", 7),
        ("'a''b' / c", "a'b"),
        (" T", True),
        (" nan", None),
        ("", None),
        (" 'open", None),
        (" 1 2", None),
    ],
)
def test_value(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_first_of_equal_keys_counts_and_bytes_are_cleaned():
    cards = b"".join(card.ljust(80) for card in (b"K       = 1", b"K       = 2", b"T       = 'a\xe9\x00\x1b'", b"END"))
    assert parse_header(cards) == {"K": 1, "T": "aé??"}


def test_any_bytes_give_a_dictionary():
    rng = np.random.default_rng(3)
    for _ in range(200):
        assert isinstance(parse_header(rng.integers(0, 256, 400, dtype=np.uint8).tobytes()), dict)
