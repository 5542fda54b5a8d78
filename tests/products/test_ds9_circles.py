"""Circles read by a regular expression are those of the regions package, or are left to it."""

import warnings

import numpy as np
import pytest

from cubeflow.products.ds9_circles import read_circles

PLAIN = """# Region file format: DS9 version 4.1
global color=green dashlist=8 3 width=1 font="helvetica 10 normal roman" select=1 highlite=1
icrs
circle(83.633, 22.014, 0.35) # color=red text={Crab}
circle(228.529,-59.157,36') ; -circle(10.5, 1e1, 90")
"""


def test_plain_circles():
    assert read_circles(PLAIN) == [
        (83.633, 22.014, 0.35, True),
        (228.529, -59.157, 0.6, True),
        (10.5, 10.0, 0.025, False),
    ]


def test_plain_circles_are_those_of_the_package():
    regions = pytest.importorskip("regions")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parsed = regions.Regions.parse(PLAIN.replace("-circle", "circle"), format="ds9")
    expected = [(each.center.ra.deg, each.center.dec.deg, each.radius.to_value("deg")) for each in parsed]
    np.testing.assert_allclose([circle[:3] for circle in read_circles(PLAIN)], expected, rtol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "icrs\n",
        "circle(83.633, 22.014, 0.35)",  # pixels
        "fk5\ncircle(83.633, 22.014, 0.35)",
        "icrs\ncircle(05:34:32, +22:00:52, 0.35)",
        "icrs\ncircle(83.633, 22.014, 0.35)\ngalactic\ncircle(1, 2, 3)",
        "icrs\ncircle(83.633, 22.014, 0.35)\nellipse(83.6, 22.0, 0.1, 0.2, 10)",
        "icrs\ncircle(83.633d, 22.014d, 0.35d)",
        "icrs\ncircle(83.633, 22.014, 0.35) # background",
        "icrs\ncircle(83.633, 22.014, 0.35) || # composite=1",
        "global include=0\nicrs\ncircle(83.633, 22.014, 0.35)",
        "icrs\ncircle(83.633, 122.014, 0.35)",
        "icrs\ncircle(83.633, 22.014, 0)",
        "icrs\ncircle(83.633, 22.014, 0.35i)",
        "icrs\ncircle(83.633, 22.014)",
        "SIMPLE  = T",
    ],
)
def test_anything_else_is_left_to_the_package(text):
    assert read_circles(text) is None
