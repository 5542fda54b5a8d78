"""The page docs/validation.md, from the figures that tests on real data recorded: `make validation`.

Tests keep figures with the fixture ``record`` of tests/conftest.py in the file that VALIDATION_RECORD names,
benchmarks/validation.json. The text around them is benchmarks/validation.md.jinja.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).resolve().parent
FIGURES, TEMPLATE = HERE / "validation.json", HERE / "validation.md.jinja"
PAGE = HERE.parent / "docs" / "validation.md"
SOURCES = {
    "crab": "Crab nebula",
    "pks2155": "PKS 2155-304",
    "msh1552": "MSH 15-52",
    "rxj1713": "RX J1713.7-3946",
}


def render(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Page in Markdown.

    Parameters
    ----------
    found : mapping
        Figures by name: `values`, `unit`, `text`, `test`.

    Raises
    ------
    KeyError
        If the text names a figure that was not recorded.
    """

    def value(name: str) -> float:
        (only,) = set(found[name]["values"])
        return only

    def top(name: str) -> float:
        return max(map(abs, found[name]["values"]))

    def pull(name: str, parameter: str) -> float:
        ours, theirs = (value(f"spectrum.{name}.{who}.{parameter}") for who in ("ours", "theirs"))
        return (ours - theirs) / value(f"spectrum.{name}.theirs.{parameter}_err")

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"percent": percent, "small": small}
    text = environment.from_string(TEMPLATE.read_text())
    return text.render(v=value, top=top, pull=pull, sources=SOURCES, figures=found, shown=shown)


def percent(value: float, digits: int = 1) -> str:
    """Ratio minus 1 as a signed percentage."""
    return f"{100 * value:+.{digits}f} %"


def small(value: float) -> str:
    """Size of a difference: two digits at most, or 0."""
    if value == 0:
        return "0"
    if value >= 1e-3:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def shown(figure: Mapping[str, Any]) -> str:
    """Figure as the table at the end has it: the value, or the one furthest from zero."""
    value = max(figure["values"], key=abs)
    return f"{value:.6g} {figure['unit']}".strip()


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(json.loads(FIGURES.read_text())))


if __name__ == "__main__":
    main()
