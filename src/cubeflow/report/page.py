"""The report: one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

TEMPLATES = "cubeflow.report", "templates"
BLOCK_BYTES = 1 << 18
# What HTML would take for markup inside a script, and the line ends of JavaScript that JSON does not know.
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class TableColumn(Protocol):
    """A column of a table: values are asked for once, one by one; None where a row has none."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def unit(self) -> str | None:
        """FITS unit."""

    @property
    def description(self) -> str:
        """What it is."""

    @property
    def values(self) -> Iterable[bool | int | float | str | None]:
        """One value per row."""


@dataclass(frozen=True, eq=False)
class TableData:
    """A table that the page's script shows: number of rows, columns, and the names of those shown at first."""

    n_rows: int
    columns: Sequence[TableColumn]
    shown: Sequence[str]


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
    table : TableData
        Run table.
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
    table: TableData
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


def make_page(page: Page) -> Iterator[bytes]:
    """HTML of a page, part by part; every string but the SVGs is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader(*TEMPLATES), undefined=StrictUndefined, autoescape=True)
    environment.trim_blocks = environment.lstrip_blocks = True
    script, style = (_resource(name) for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = environment.get_template("report.html").generate(
        page=page,
        script=Markup(script),
        style=Markup(style),
        script_digest=digest,
        svg=Markup,
        table_parts=lambda table: map(Markup, table_parts(table)),
    )
    return _in_blocks(parts)


def _in_blocks(parts: Iterable[str]) -> Iterator[bytes]:
    """Text of many short parts as blocks of some size."""
    block = bytearray()
    for part in parts:
        block += part.encode()
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _resource(name: str) -> str:
    """Text of a file beside the template."""
    return files(TEMPLATES[0]).joinpath(TEMPLATES[1], name).read_text("utf-8")


def script_json(content: Any) -> str:
    """JSON that may stand inside a script element, whatever text it holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char, code in UNSAFE.items():
        text = text.replace(char, code)
    return text


def table_parts(table: TableData) -> Iterator[str]:
    """Run table as the page's script takes it: JSON, column by column.

    A column whose values are all the same holds that ``value`` alone. Numbers are rounded to seven digits.
    """
    yield f'{{"rows":{table.n_rows},"columns":['
    for number, column in enumerate(table.columns):
        yield "," * (number > 0) + script_json(_column_data(column, table.shown))
    yield "]}"


def _column_data(column: TableColumn, shown: Sequence[str]) -> dict[str, Any]:
    """Column as plain content."""
    values = [_short(value) for value in column.values]
    about = {"name": column.name, "unit": column.unit, "description": column.description}
    is_same = len(values) > 1 and all(value == values[0] and type(value) is type(values[0]) for value in values)
    content = {"value": values[0]} if is_same else {"values": values}
    return {**{name: text for name, text in about.items() if text}, "shown": column.name in shown, **content}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
