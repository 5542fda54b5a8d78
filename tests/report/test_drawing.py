"""Charts: what is drawn where, and SVG that fits a page."""

import html
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cubeflow.report.drawing import (
    ALERT,
    Panel,
    Scale,
    Series,
    draw_panels,
    line_d,
    power_of_ten,
    round_step,
    superscript,
    svg_file,
    tick_name,
)

X, Y = np.array([1.0, 2.0, np.nan, 4.0]), np.array([0.0, 10.0, 5.0, 20.0])


def points_of(svg: str) -> list[tuple[list[tuple[float, float]], list[str]]]:
    """Places and words of each series of points."""
    found = []
    for tag in re.findall(r'<path [^>]*class="points"[^>]*>', svg):
        places = [(float(x), float(y)) for x, y in re.findall(r"M([\d.-]+),([\d.-]+)h0", tag)]
        found.append((places, html.unescape(re.search(r'data-words="([^"]*)"', tag)[1]).split("|")))
    return found


def inner_size(svg: str) -> tuple[float, float]:
    inner = re.search(r'<svg x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)">', svg)
    return float(inner[1]), float(inner[2])


def test_points_lie_where_their_values_are_and_keep_their_words():
    words = ["first", "second", "none", "<last>"]
    series = Series(X, Y, error=np.array([1.0, 2.0, 0.0, 3.0]), words=words)
    svg = draw_panels([Panel([series], "x", "y", x_range=(0.0, 4.0), y_range=(0.0, 20.0))], "alt")
    ((places, said),) = points_of(svg)
    width, height = inner_size(svg)
    wanted = [(width * x / 4.0, height * (1 - y / 20.0)) for x, y in ((1, 0), (2, 10), (4, 20))]
    np.testing.assert_allclose(places, wanted, atol=0.06)
    assert said == ["first: 0 ± 1", "second: 10 ± 2", "<last>: 20 ± 3"]
    ElementTree.fromstring(svg)


def test_on_a_logarithmic_axis_what_is_not_positive_has_no_point():
    panel = Panel([Series(X, Y, words="abcd")], "x", "y", y_log=True, x_range=(1.0, 4.0), y_range=(1.0, 100.0))
    ((places, said),) = points_of(svg := draw_panels([panel], "alt"))
    assert [words[0] for words in said] == ["b", "d"]
    _, height = inner_size(svg)
    np.testing.assert_allclose([y for _, y in places], [height / 2, height * (1 - np.log10(20) / 2)], atol=0.06)


def test_steps_and_lines_break_where_nothing_is_known():
    steps = Series(np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, np.nan, 2.0]), "steps", ALERT)
    svg = draw_panels([Panel([steps], "x", "y", x_range=(0.0, 3.0), y_range=(0.0, 2.0))], "alt")
    d = re.search(rf'<path d="([^"]*)" stroke="{ALERT}"', svg)[1]
    assert re.sub(r"[\d.,-]+", "", d) == "MhMh"


def test_a_path_is_where_its_places_are():
    """However many steps there are, none is off by more than half a hundredth."""
    x, y = np.random.default_rng(2).uniform(-3000.0, 3000.0, (2, 500)).round(4)
    x[7], y[100], x[499] = np.nan, np.nan, 0.00499
    y[20], x[40] = y[19], x[39] + 0.004
    starts = [re.split("(?=[lhv])", part) for part in line_d(x, y).split("M")[1:]]
    full = {"l": "{}", "h": "{},0", "v": "0,{}"}
    pairs = [[first, *(full[step[0]].format(step[1:]) for step in steps)] for first, *steps in starts]
    found = [np.cumsum([np.array(pair.split(","), float) for pair in part], axis=0) for part in pairs]
    wanted = [np.stack([x[part], y[part]], axis=1) for part in (slice(0, 7), slice(8, 100), slice(101, 500))]
    for places, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(places, expected, atol=0.00501)
    stairs = np.array([0.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0]), np.array([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0])
    assert line_d(*stairs) == "M0,0h3v2h1"
    assert line_d(np.array([1.0]), np.array([0.5])) == "M1,.5"
    assert line_d(np.array([np.nan]), np.array([0.5])) == ""
    assert line_d(np.array([0.0, 1.0, np.nan, 3.0, 4.0]), np.zeros(5)) == "M0,0h1M3,0h1"


def test_without_values_there_are_axes():
    svg = draw_panels([Panel([Series(np.zeros(0), np.zeros(0))], "x", "y", x_log=True)], "alt")
    assert ">x</text>" in svg
    assert points_of(svg) == []


@pytest.mark.parametrize(
    ("scale", "number", "ticks"),
    [
        (Scale(0.0, 10.0), 5, [0, 2, 4, 6, 8, 10]),
        (Scale(-0.3, 0.3), 4, [-0.2, 0.0, 0.2]),
        (Scale(1.0, 20.0, True), 4, [1, 2, 5, 10, 20]),
        (Scale(-18.0, 18.0), 2, [-10.0, 0.0, 10.0]),
        (Scale(1.1, 1.9), 2, [1.2, 1.4, 1.6, 1.8]),
        (Scale(0.5, 2e4, True), 4, [1, 10, 100, 1000, 10000]),
        (Scale(100.0, 120.0, True), 4, [100, 105, 110, 115, 120]),
    ],
)
def test_ticks_are_round(scale, number, ticks):
    np.testing.assert_allclose(scale.ticks(number), ticks, atol=1e-12)
    assert np.all(np.diff(scale.place(np.array(scale.ticks(number)))) > 0)


def test_steps_are_round():
    assert [round_step(least) for least in (0.7, 1.0, 1.01, 3.0, 5.1, 0.02)] == [1.0, 1.0, 2.0, 5.0, 10.0, 0.02]


def test_numbers_on_an_axis():
    assert [tick_name(tick, [0.0, 0.05, 0.1]) for tick in (0.0, 0.05, 0.1)] == ["0.00", "0.05", "0.10"]
    assert [tick_name(tick, [-5.0, 0.0, 5.0]) for tick in (-5.0, 0.0)] == ["−5", "0"]
    assert tick_name(53299.5, [53299.0, 53299.5]) == "53299.5"
    assert [tick_name(tick, [1.25, 1.5]) for tick in (1.25, 1.5)] == ["1.25", "1.50"]
    assert tick_name(1.5, [1.5]) == "1.5"
    assert tick_name(2e-7, [1e-7, 2e-7]) == "2e−07"


def test_an_axis_of_whole_numbers_has_no_others():
    panel = Panel(
        [Series(np.arange(1.0, 5.0), np.arange(4.0), words="abcd")], "run", "y", y_range=(0.0, 3.0), whole=True
    )
    ticks = re.search('<g text-anchor="middle">(.*?)</g>', draw_panels([panel], "alt"))[1]
    assert re.findall(r">([\d.]+)</text>", ticks) == ["1", "2", "3", "4"]


def test_words_are_escaped():
    svg = draw_panels([Panel([], 'a <b> "c" & d', "y")], 'a <b> "c" & d')
    assert 'aria-label="a &lt;b&gt; &quot;c&quot; &amp; d"' in svg
    assert ElementTree.fromstring(svg).get("aria-label") == 'a <b> "c" & d'


def test_each_name_is_once_in_the_legend():
    panels = [Panel([Series(X, Y, "line", label="counts")], "x", "y") for _ in range(2)]
    assert draw_panels(panels, "alt", columns=2).count(">counts</text>") == 1


def test_a_long_legend_has_rows():
    """The chart below moves down by as much, and no name ends beyond the figure."""
    names = [f"0.{k}81–0.{k}99 TeV" for k in range(6)]
    few, many = (
        draw_panels([Panel([Series(X, Y, "line", label=name) for name in names[:n]], "x", "y")], "alt") for n in (2, 6)
    )
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)">0\.\d81–', many)
    assert [float(y) for _, y in places] == [11, 11, 11, 27, 27, 27]
    assert all(float(x) + 5.8 * len(name) <= 420 for (x, _), name in zip(places, names, strict=True))
    heights = [float(re.search(r'viewBox="0 0 420 ([\d.]+)"', svg)[1]) for svg in (few, many)]
    assert heights[1] - heights[0] == 16


def test_long_numbers_on_an_axis_do_not_touch():
    panels = [Panel([Series(56569.182 + 0.007 * np.arange(3.0), np.arange(3.0), "line")], "start (MJD)", "y")] * 2
    ticks = re.search('<g text-anchor="middle">(.*?)</g>', draw_panels(panels, "alt", columns=2))[1]
    places, names = zip(*re.findall(r'x="([\d.]+)"[^>]*>([\d.]+)</text>', ticks), strict=True)
    assert np.all(np.diff(np.array(places, float)) > 5.8 * len(names[0]))


def test_a_file_has_the_colours_of_paper_and_what_is_seen():
    svg = (
        '<svg a="1"><text fill="var(--ink,#15181d)">a</text><image b="1" display="none" href="x"/><image b="2"/></svg>'
    )
    text = svg_file(svg).decode()
    assert text == (
        '<svg a="1"><style>text{fill:#15181d}path{vector-effect:non-scaling-stroke}</style>'
        '<rect width="100%" height="100%" fill="white"/>'
        '<text fill="#15181d">a</text><image b="2"/></svg>\n'
    )


def test_powers_of_ten():
    assert [power_of_ten(np.array(values)) for values in ([2.5e9, 1.0], [0.02], [0.0], [])] == [9, -2, 0, 0]
    assert superscript(-12) == "⁻¹²"
