"""Figures: the same bytes for the same numbers, and SVG that fits a page."""

import re

import numpy as np
import pytest

from cubeflow.report.drawing import drawing, plain_text, to_png, to_svg


def draw(name: str = "one", alt: str = "An alt text") -> tuple[bytes, str]:
    with drawing(3.0, 2.0) as figure:
        axes = figure.add_subplot()
        axes.imshow(np.arange(6.0).reshape(2, 3))
        axes.plot([0, 1], [0, 1], label="line")
        axes.legend()
        return to_png(figure, 50), to_svg(figure, name, alt)


def test_same_bytes_every_time():
    assert draw() == draw()


def test_png_says_nothing_of_time_and_programs():
    png = draw()[0]
    assert png.startswith(b"\x89PNG")
    assert b"tEXt" not in png
    assert b"tIME" not in png


def test_svg_is_an_element_of_a_page():
    svg = draw()[1]
    assert svg.startswith('<svg role="img" aria-label="An alt text"')
    assert "<metadata" not in svg
    assert "var(--ink)" in svg
    assert not re.search(r"<svg[^>]* (width|height)=", svg)


def test_identifiers_of_two_figures_differ():
    first, second = (set(re.findall(r'\bid="([^"]+)"', draw(name)[1])) for name in ("one", "two"))
    assert first
    assert not first & second
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', draw("one")[1]))
    assert used
    assert used <= first


def test_words_are_escaped():
    assert 'aria-label="a &lt;b&gt; &quot;c&quot; &amp; d"' in draw(alt='a <b> "c" & d')[1]


@pytest.mark.parametrize(
    ("text", "shown"), [("$x$", r"\$x\$"), ("a\nb\x00", "a b "), ("x" * 99, "x" * 59 + "…"), ("σ", "σ")]
)
def test_text_of_a_file_is_no_formula(text, shown):
    assert plain_text(text) == shown


def test_settings_of_others_stay():
    import matplotlib

    before = matplotlib.rcParams["svg.hashsalt"], matplotlib.rcParams["text.color"]
    draw()
    assert (matplotlib.rcParams["svg.hashsalt"], matplotlib.rcParams["text.color"]) == before
