"""The page as text."""

import html.parser
import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest

from cubeflow.report.page import TableData, make_page, read_key, script_json, table_parts


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


def test_ten_thousand_runs_are_small_and_quick(page, text):
    start = time.process_time()
    assert b"".join(make_page(page)).decode() == text
    assert time.process_time() - start < 5.0
    assert len(text.encode()) < 5e6


def test_markup_in_files_stays_text(text, rows):
    elements = Elements(text)
    assert elements.tags.count("script") == 2
    assert "img" not in elements.tags
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


def table_of(columns, shown):
    """What the script of the page gets of columns with name, unit, description and values."""
    names = "name", "unit", "description", "values"
    made = [SimpleNamespace(**dict(zip(names, column, strict=True))) for column in columns]
    return json.loads("".join(table_parts(TableData(len(columns[0][3]) if columns else 0, made, shown))))


def test_table_holds_all_values(rows):
    values = [1.23456789012, None, float("nan"), 3]
    made = table_of([("a", "s", "", values), ("b", "", "same", ["x"] * 4)], ["b"])
    assert made["rows"] == 4
    assert made["columns"][0] == {"name": "a", "unit": "s", "shown": False, "values": [1.234568, None, None, 3]}
    assert made["columns"][1] == {"name": "b", "description": "same", "shown": True, "value": "x"}
    assert table_of([], []) == {"rows": 0, "columns": []}


def test_true_is_not_one():
    values = table_of([("a", None, "", [1, True])], [])["columns"][0]["values"]
    assert [type(value) for value in values] == [int, bool]


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "\u2028\u2029", "&amp;", "naïve σ"])
def test_json_in_a_script(text):
    made = script_json({"key": text})
    assert not set("<>&\u2028\u2029") & set(made)
    assert json.loads(made) == {"key": text}


def test_json_refuses_what_is_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(np.inf)


def test_key_of_a_page(page_path, tmp_path):
    assert read_key(page_path) == "ab12"
    assert read_key(tmp_path / "absent.html") is None
    (tmp_path / "other.html").write_bytes(b"\xff<html>")
    assert read_key(tmp_path / "other.html") is None
