"""The report: one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

TEMPLATES = "cubeflow.report", "templates"
# What HTML would take for markup inside a script, and the line ends of JavaScript that JSON does not know.
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True)
class Figure:
    """A picture with its words.

    Parameters
    ----------
    name : str
        Unique on the page.
    title, caption : str
        What it is, and how to read it.
    svg : str
        From `cubeflow.report.figures.to_svg`: trusted markup.
    file : str or None
        The same picture as a file, relative to the page.
    wide : bool
        Takes the whole width of the page.
    """

    name: str
    title: str
    caption: str
    svg: str
    file: str | None = None
    wide: bool = False


@dataclass(frozen=True)
class LabelSection:
    """One background method of a target; `facts` are pairs of name and value, `links` of text and path."""

    label: str
    method: str
    facts: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class TargetSection:
    """One target.

    Parameters
    ----------
    name : str
        Its name, which is also that of its folder.
    facts : sequence of (name, value)
        Position and numbers of runs.
    table : mapping
        Run table, see `table_data`.
    labels : sequence of LabelSection
        Background methods.
    left_out : sequence of (run, status, reason)
        Runs that were not used, perhaps only the first of them.
    more_left_out : int
        How many are not listed.
    warnings : sequence of (name, number of runs, kind)
        Deviations from the format and repairs.
    links : sequence of (text, path)
        Files of the target.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    table: Mapping[str, Any]
    labels: Sequence[LabelSection]
    left_out: Sequence[tuple[int, str, str]] = ()
    more_left_out: int = 0
    warnings: Sequence[tuple[str, int, str]] = ()
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Page:
    """All of the report; tables are sequences of lines of cells.

    Parameters
    ----------
    title : str
        Name of the report.
    key : str
        Key of what it was made of; `read_key` finds it again.
    summary : sequence of mapping
        One line per target and label: ``target``, ``label``, ``method``, ``significance``, ``excess``, ``counts``,
        ``background``, ``hours``, ``used``, ``left_out``.
    targets : sequence of TargetSection
        In the order of the configuration.
    versions, keys : sequence of (name, value)
        Programs, and keys of the final cubes.
    timing : sequence of mapping
        Per rule: ``rule``, ``jobs``, ``seconds``, ``longest``, ``cpu``, ``memory``.
    """

    title: str
    key: str
    summary: Sequence[Mapping[str, str]]
    targets: Sequence[TargetSection]
    versions: Sequence[tuple[str, str]]
    keys: Sequence[tuple[str, str]] = ()
    timing: Sequence[Mapping[str, str]] = field(default=())


def read_key(path: Path) -> str | None:
    """Key inside the page at that path; None if there is no page or no key."""
    try:
        with path.open("rb") as file:
            head = file.read(2048).decode(errors="replace")
    except OSError:
        return None
    found = re.search(r'<meta name="cubeflow-key" content="([0-9a-f]+)">', head)
    return found[1] if found else None


def make_page(page: Page) -> str:
    """HTML of a page; every string but the SVGs is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader(*TEMPLATES), undefined=StrictUndefined, autoescape=True)
    environment.trim_blocks = environment.lstrip_blocks = True
    script, style = (_resource(name) for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        page=page,
        script=Markup(script),
        style=Markup(style),
        script_digest=digest,
        svg=Markup,
        json=lambda content: Markup(script_json(content)),
    )


def _resource(name: str) -> str:
    """Text of a file beside the template."""
    return files(TEMPLATES[0]).joinpath(TEMPLATES[1], name).read_text("utf-8")


def script_json(content: Any) -> str:
    """JSON that may stand inside a script element, whatever text it holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char, code in UNSAFE.items():
        text = text.replace(char, code)
    return text


def table_data(columns: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> dict[str, Any]:
    """Run table as the page's script takes it.

    Parameters
    ----------
    columns : sequence of mapping
        ``name``, ``unit``, ``description`` and ``values``, a list with None where a run has no value. All are of one
        length.
    shown : sequence of str
        Names of the columns that are shown at first.

    Returns
    -------
    dict
        ``rows``, the number of rows, and ``columns``: a column whose values are all the same holds that ``value``
        alone. Numbers are rounded to seven digits.
    """
    made = []
    for column in columns:
        values = [_short(value) for value in column["values"]]
        about = {name: column[name] for name in ("name", "unit", "description") if column[name]}
        is_same = len(values) > 1 and all(value == values[0] and type(value) is type(values[0]) for value in values)
        content = {"value": values[0]} if is_same else {"values": values}
        made.append({**about, "shown": column["name"] in shown, **content})
    return {"rows": len(columns[0]["values"]) if columns else 0, "columns": made}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
