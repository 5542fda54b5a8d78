"""Values of the configuration: quantities, times and names, parsed to plain numbers and strings."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([A-Za-zµ]{1,16})\s*", re.ASCII)
_VARIABLE = re.compile(r"\$\{([^}:]*)(?::-([^}]*))?\}")
_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,63}")
_EXAMPLES = {"deg": "0.5 deg", "TeV": "1 TeV", "s": "28 min", "MB": "16 GB"}
_ORDINAL_OF_MJD_0 = 678_576  # date(1858, 11, 17).toordinal()


def parse_quantity(text: object, unit: str) -> float:
    """Value in `unit` of a string such as ``0.02 deg``.

    Raises
    ------
    ValueError
        If it is not a string with a number and a unit, the unit is of another kind, or the value is not finite.
    """
    expected = f"expected a quantity with a unit such as '{_EXAMPLES.get(unit, f'1 {unit}')}', got {text!r:.60}"
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) and len(text) <= 64 else None
    if match is None:
        raise ValueError(expected)
    number, name = float(match[1]), match[2]
    value = number if name == unit else number * _factor(name, unit, expected)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite quantity, got {text!r}")
    return value


def _factor(name: str, unit: str, expected: str) -> float:
    """How many of `unit` one `name` is."""
    from astropy import units

    try:
        return float(units.Unit(name).to(unit))
    except (ValueError, TypeError) as error:
        raise ValueError(expected) from error


@dataclass(frozen=True)
class Quantity:
    """Annotation of a float that is written as a string with a unit.

    Parameters
    ----------
    unit : str
        Unit of the plain number.
    above, least, most : float or None
        Limits, in `unit`: exclusive lower, inclusive lower, inclusive upper.
    """

    unit: str
    above: float | None = None
    least: float | None = None
    most: float | None = None

    def parse(self, text: object) -> float:
        """Plain number of a quantity; ValueError outside the limits."""
        value = parse_quantity(text, self.unit)
        if self.above is not None and not value > self.above:
            raise ValueError(f"expected a quantity above {self.above:g} {self.unit}, got {text!r}")
        if self.least is not None and not value >= self.least:
            raise ValueError(f"expected at least {self.least:g} {self.unit}, got {text!r}")
        if self.most is not None and not value <= self.most:
            raise ValueError(f"expected at most {self.most:g} {self.unit}, got {text!r}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Schema for pydantic: any input, parsed here."""
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Schema for editors: a string with a number and a unit."""
        return {"type": "string", "pattern": r"^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*[A-Za-zµ]+\s*$", "unit": self.unit}


def parse_time(value: object) -> float:
    """MJD on the TT scale of an ISO string without time zone, or of a bare number, which is an MJD already.

    Raises
    ------
    ValueError
        For anything else.
    """
    expected = f"expected a TT time such as '2004-12-06T01:30:00' or an MJD such as 53345.0625, got {value!r:.60}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 < value < 200_000:
            raise ValueError(expected)
        return float(value)
    if not isinstance(value, str):
        raise ValueError(expected)
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(expected) from error
    if time.tzinfo is not None:
        raise ValueError(f"{expected}; times are TT, without a time zone")
    seconds = time.hour * 3600 + time.minute * 60 + time.second + time.microsecond * 1e-6
    return time.toordinal() - _ORDINAL_OF_MJD_0 + seconds / 86400.0


def expand_data_path(text: str) -> str:
    """Replace ``${CUBEFLOW_DATA}`` or ``${CUBEFLOW_DATA:-default}``; no other variable.

    Raises
    ------
    ValueError
        For another variable, or if it is not set and there is no default.
    """

    def value(match: re.Match[str]) -> str:
        """Text in place of a variable."""
        if match[1] != "CUBEFLOW_DATA":
            raise ValueError(f"expected no variable but ${{CUBEFLOW_DATA}}, got {match[0]}")
        found = os.environ.get("CUBEFLOW_DATA") or match[2]
        if not found:
            raise ValueError("CUBEFLOW_DATA is not set; set it to the folder of the data or write a path")
        return found

    return check_path(_VARIABLE.sub(value, text))


def check_path(text: str) -> str:
    """Return a path as it is; ValueError for an empty one or control characters."""
    if not text.strip() or any(ord(letter) < 32 for letter in text):
        raise ValueError(f"expected a path, got {text!r:.60}")
    return text


def check_name(text: str) -> str:
    """Return a name that is safe in file names as it is; ValueError for any other."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"expected a name of letters, digits and _ + . - that starts with none of . and -, got {text!r:.80}"
        )
    return text


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(_as_tuple)
Angle = Annotated[float, Quantity("deg", above=0.0, most=180.0)]
Longitude = Annotated[float, Quantity("deg", least=-360.0, most=360.0)]
Latitude = Annotated[float, Quantity("deg", least=-90.0, most=90.0)]
Energy = Annotated[float, Quantity("TeV", above=0.0, most=1e6)]
Memory = Annotated[float, Quantity("MB", least=1.0)]
Duration = Annotated[float, Quantity("s", above=0.0)]
Time = Annotated[float, BeforeValidator(parse_time, json_schema_input_type=str | float)]
FilePath = Annotated[str, AfterValidator(check_path)]
DataPath = Annotated[str, AfterValidator(expand_data_path)]
Name = Annotated[str, AfterValidator(check_name)]
Bins = Annotated[int, Field(ge=1, le=10_000)]
