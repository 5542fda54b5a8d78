"""The page as text."""

import html.parser
import json
import re

import numpy as np
import pytest

from cubeflow.report.page import make_page, side_by_side
from cubeflow.report.runs import Runs, script_json, table_parts


class Elements(html.parser.HTMLParser):
    """Collects elements, the content of scripts, and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.scripts, self.addresses, self._in_script = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def text(page_path):
    return page_path.read_text(encoding="utf-8")


def test_ten_thousand_runs_are_a_small_page(page, text):
    assert b"".join(make_page(page)).decode() == text
    assert len(text.encode()) < 5e6


def test_markup_in_files_stays_text(text, rows):
    elements = Elements(text)
    assert elements.tags.count("script") == 2
    assert "img" not in elements.tags
    assert text.count("window.stolen=1&lt;/script&gt;") >= 4
    table = json.loads(elements.scripts[0])
    names = {column["name"]: column for column in table["columns"]}
    assert names["object"]["values"][3] == rows[3]["object"]
    assert "&lt;/script&gt;" in text


def test_nothing_is_loaded_from_anywhere(text):
    elements = Elements(text)
    outside = [each for each in elements.addresses if not each.startswith(("#", "data:", "crab/"))]
    assert outside == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in styles.replace("url(#", "")
    assert "@import" not in styles


def plain_table(runs: Runs, shown=()):
    """What the script of the page gets of a run table."""
    return json.loads("".join(table_parts(runs, shown)))


def test_table_holds_all_values(table_of):
    runs = table_of(
        [{"none": None, "a": 1.23456789012, "b": "x"}, {"b": "x"}, {"a": np.nan, "b": "x"}, {"a": 3.0, "b": "x"}]
    )
    runs = Runs(runs.columns, runs.about | {"a": ("s", "a of a run")})
    made = plain_table(runs, ["b"])
    assert made["rows"] == 4
    first, second = made["columns"]
    assert first == {
        "name": "a",
        "unit": "s",
        "description": "a of a run",
        "values": [1.234568, None, None, 3],
    }
    about = {"name": "b", "description": "b of a run"}
    assert second == {**about, "shown": True, "value": "x"}
    assert plain_table(Runs({}, {})) == {"rows": 0, "columns": []}


def test_runs_that_were_left_out_are_told_of(text):
    assert "100 are" not in text
    assert text.count("</td><td>refused</td><td>") == 100
    assert "20050: EVENTS: no TIME column" in text


def test_hot_spots_are_those_above_four_sigma(text):
    assert text.count(" σ</td>") == 1
    assert ">6.5 σ</td>" in text


def test_rows_that_are_the_same_are_one():
    pairs = [(("a", "1"), ("b", "2"), ("c", "3")), (("a", "1"), ("b", "4"), ("d", "5"))]
    assert side_by_side(pairs) == [("a", ["1"]), ("b", ["2", "4"]), ("c", ["3", "–"]), ("d", ["–", "5"])]


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "\u2028\u2029", "&amp;", "naïve σ"])
def test_json_in_a_script(text):
    made = script_json({"key": text})
    assert not set("<>&\u2028\u2029") & set(made)
    assert json.loads(made) == {"key": text}


def test_json_refuses_what_is_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(np.inf)
