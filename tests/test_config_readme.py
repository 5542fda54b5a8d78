"""config/README.md has one row per key, with the unit and default of the models."""

import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cubeflow.config import Config, TargetConfig
from cubeflow.config.backgrounds import AdaptiveRingSection, FovSection, NoBackground, RingSection
from cubeflow.config.spectrum import ExponentialCutoff, LogParabola, PowerLaw, TableSpectrum

README = Path(__file__).parents[1] / "config" / "README.md"
UNITS = {"_deg": "deg", "_tev": "TeV", "_s": "s", "_mjd": "MJD (TT)", "_mb": "MB"}
KINDS = {
    "fov": FovSection,
    "ring": RingSection,
    "adaptive-ring": AdaptiveRingSection,
    "none": NoBackground,
    "power-law": PowerLaw,
    "log-parabola": LogParabola,
    "exp-cutoff": ExponentialCutoff,
    "table": TableSpectrum,
}
REQUIRED = "required"


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def section_of(info: FieldInfo) -> Any:
    """The section that a field holds, if it holds exactly one kind."""
    found = [part for part in [info.annotation, *get_args(info.annotation)] if is_section(part)]
    return found[0] if len(found) == 1 and get_origin(info.annotation) in (None, Annotated, Union, UnionType) else None


def unit_of(name: str) -> str:
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def shown(value: Any, unit: str) -> str:
    """Default as the file would write it."""
    match value:
        case None | ():
            return "null" if value is None else "[]"
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case float() if unit:
            return f"{value:g} {unit}"
        case _:
            return f"{value:g}" if isinstance(value, float) else str(value)


def rows(section: type[BaseModel], path: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Unit and default of every key of a section, by heading and key; sections within have headings of their own."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for name, info in section.model_fields.items():
        key, inner = info.alias or name, section_of(info)
        if inner is not None:
            prefix = f"{path}." if path in ("targets.<name>",) else ""
            found |= rows(inner, f"{prefix}{key}")
        elif key not in ("targets", "backgrounds", "spectrum"):
            unit = unit_of(name)
            found[path, key] = unit, REQUIRED if info.is_required() else shown(info.default, unit)
    return found


def expected_rows() -> dict[tuple[str, str], tuple[str, str]]:
    found = rows(Config, "")
    for (path, key), value in rows(TargetConfig, "").items():
        found[f"targets.<name>.{path}" if path in ("position", "geometry") else path, key] = value
    for kind, section in KINDS.items():
        parent = "backgrounds.<label>" if hasattr(section, "reach_deg") else "spectrum"
        found |= {(f"{parent}: {kind}", key): value for (_, key), value in rows(section, "").items()}
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
