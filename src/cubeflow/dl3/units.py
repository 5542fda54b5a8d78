"""Unit strings of FITS columns as factors to plain units, without loading astropy.

What real files write is wider than the standard: ``m**2``, ``sr^(-1)``, ``1/s/MeV/sr``. Strings this
small parser does not know are passed to astropy.units.
"""

from __future__ import annotations

import re
from functools import cache
from math import pi

_DEG = pi / 180.0
_TOKEN = re.compile(r"\s*(?:(?P<op>[*./])|(?P<name>[A-Za-z]+)|(?P<one>1(?![0-9])))")
_POWER = re.compile(r"\s*(?:\^|\*\*)?\s*\(?\s*([+-]?\d+)\s*\)?")
# name: (factor to TeV, m, s, rad; dimension)
_UNITS = {
    "eV": (1e-12, "energy"),
    "keV": (1e-9, "energy"),
    "MeV": (1e-6, "energy"),
    "GeV": (1e-3, "energy"),
    "TeV": (1.0, "energy"),
    "PeV": (1e3, "energy"),
    "erg": (0.6241509074460763, "energy"),
    "mm": (1e-3, "length"),
    "cm": (1e-2, "length"),
    "m": (1.0, "length"),
    "km": (1e3, "length"),
    "ms": (1e-3, "time"),
    "s": (1.0, "time"),
    "sec": (1.0, "time"),
    "min": (60.0, "time"),
    "h": (3600.0, "time"),
    "d": (86400.0, "time"),
    "rad": (1.0, "angle"),
    "deg": (_DEG, "angle"),
    "arcmin": (_DEG / 60.0, "angle"),
    "arcsec": (_DEG / 3600.0, "angle"),
    "hourangle": (15.0 * _DEG, "angle"),
}
_DIMENSIONS = ("energy", "length", "time", "angle")
Parsed = tuple[float, tuple[int, ...]]


class UnitError(ValueError):
    """A unit is of the wrong kind or cannot be read."""


@cache
def factor(unit: str, target: str) -> float:
    """Factor from one unit to another.

    Parameters
    ----------
    unit : str
        As written in a file; without blanks only it is a pure number.
    target : str
        Plain unit wanted, such as ``TeV`` or ``s-1 TeV-1 sr-1``.

    Returns
    -------
    float
        ``value in target = factor * value in unit``.

    Raises
    ------
    UnitError
        If `unit` cannot be read or is of another kind than `target`.
    """
    given, wanted = _parse(unit), _parse(target)
    if given is None or wanted is None:
        return _factor_by_astropy(unit, target)
    if given[1] != wanted[1]:
        raise UnitError(f"unit {unit!r}, expected one like {target!r}")
    return given[0] / wanted[0]


def is_standard(unit: str) -> bool:
    """Whether a unit string is written as the FITS standard asks (no ``1/s/MeV/sr``, ``m**2``, ``sr^(-1)``)."""
    return re.search(r"\^\(|/.*/|\*\*\(|m\*\*2|^1/", unit) is None


def _parse(text: str) -> Parsed | None:
    """Factor and powers of the dimensions; None if this parser does not know the string."""
    total, powers = 1.0, dict.fromkeys(_DIMENSIONS, 0)
    position, sign = 0, 1
    text = text.strip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        if token["name"] is None:
            position = token.end()
            sign = -1 if token["op"] == "/" else 1
            continue
        value, dimension, multiple = _single(token["name"])
        power = _POWER.match(text, token.end())
        exponent = sign * (int(power[1]) if power else 1)
        position, sign = (power or token).end(), 1
        if dimension not in powers:
            return None
        total *= value**exponent
        powers[dimension] += multiple * exponent
    return total, tuple(powers.values())


def _single(name: str) -> tuple[float, str, int]:
    """Factor, dimension and its power of one unit name; no dimension if it is unknown."""
    return (1.0, "angle", 2) if name == "sr" else (*_UNITS.get(name, (1.0, "")), 1)


def _factor_by_astropy(unit: str, target: str) -> float:
    """Leave to astropy.units what is not in the table above."""
    import warnings

    from astropy import units

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", units.UnitsWarning)
            return float(units.Unit(unit).to(units.Unit(target)))
    except (ValueError, TypeError) as error:
        raise UnitError(f"unit {unit!r}, expected one like {target!r}") from error
