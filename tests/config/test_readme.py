"""config/README.md has one row per key, with the unit and default of the sections."""

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from cubeflow.config import Config, TargetConfig
from cubeflow.config.build import ABSENT, alternatives, keys_of
from cubeflow.config.sections import EventType, ModelConfig
from cubeflow.products.background import BackgroundOptions
from cubeflow.products.spectrum import Spectrum

README = Path(__file__).parents[2] / "config" / "README.md"
UNITS = {"_deg": "deg", "_tev": "TeV", "_s": "s", "_mjd": "MJD (TT)", "_mb": "MB"}
REQUIRED = "required"


def unit_of(name: str) -> str:
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def shown(value: Any, unit: str) -> str:
    """Default as the file would write it."""
    match value:
        case None | ():
            return "null" if value is None else "[]"
        case bool():
            return str(value).lower()
        case (float() as alone,):
            return shown(alone, unit)
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case float() if unit:
            return f"{value:g} {unit}"
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


def rows(section: type, path: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Unit and default of every key of a section, by heading and key; sections within have headings of their own."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for key, about in keys_of(section).items():
        inner = [kind for kind, _ in alternatives(about.kind, about.setting) if dataclasses.is_dataclass(kind)]
        if len(inner) == 1:
            found |= rows(inner[0], key)
        elif not inner and key not in ("targets", "backgrounds", "models", "event_types"):
            unit = unit_of(about.name)
            found[path, key] = unit, REQUIRED if about.default is ABSENT else shown(about.default, unit)
    return found


def expected_rows() -> dict[tuple[str, str], tuple[str, str]]:
    found = rows(Config, "") | rows(EventType, "event_types")
    for (path, key), value in rows(TargetConfig, "").items():
        found[f"targets.<name>.{path}" if path in ("position", "tiles", "geometry") else path, key] = value
    for (path, key), value in rows(ModelConfig, "").items():
        if path in ("", "fit", "match"):  # the other sections are those of targets
            found[f"models.<name>.{path}".removesuffix("."), key] = value
    for parent, sections in (("backgrounds.<label>", BackgroundOptions), ("spectrum", Spectrum)):
        for section in get_args(sections):
            tag = next(field.default for field in dataclasses.fields(section))
            found |= {(f"{parent}: {tag}", key): value for (_, key), value in rows(section, "").items()}
    return found


def written_rows() -> dict[tuple[str, str], tuple[str, str]]:
    """Unit and default of every row of the README by heading and key."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    headings: list[str] = []
    for line in README.read_text().splitlines():
        if line.startswith("## "):
            names = re.findall(r"`([^`]*)`", line)
            headings = names if " and " in line else [": ".join(names)]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 5:
            key, _, unit, default, _ = cells
            found |= {(heading, key.strip("`")): (unit, default.strip("`")) for heading in headings}
    return found


def test_every_key_has_a_row_and_every_row_a_key() -> None:
    assert set(written_rows()) == set(expected_rows())


@pytest.mark.parametrize("row", expected_rows(), ids=".".join)
def test_unit_and_default_are_those_of_the_model(row: tuple[str, str]) -> None:
    assert written_rows()[row] == expected_rows()[row]
