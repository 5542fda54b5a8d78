"""DS9 region files that hold nothing but circles in ICRS degrees, without the package that reads all of them.

That package takes longer to import than a run takes to be reduced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?"
_CIRCLE = re.compile(rf"(-?)circle\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})([\"']?)\s*\)")
_SKIPPED = re.compile(r"(?:|global(?:(?!include|delete|source|background)[^;])*)")
_DEGREES = {"": 1.0, "'": 1.0 / 60.0, '"': 1.0 / 3600.0}
Circle = tuple[float, float, float, bool]


def read_circles(text: str) -> list[Circle] | None:
    """Circles of a DS9 region file.

    Parameters
    ----------
    text : str
        Content of the file.

    Returns
    -------
    list of (ra, dec, radius, include) or None
        ICRS, deg; `include` is False behind a minus sign. None for a file that holds anything else: other
        shapes, frames or units, sexagesimal positions, properties that change the meaning, or nothing.
    """
    circles: list[Circle] = []
    frame = ""
    for line in _lines(text):
        match = _CIRCLE.fullmatch(line)
        if line == "icrs":
            frame = line
        elif match and frame:
            ra, dec, radius = (float(match[k]) for k in (2, 3, 4))
            radius *= _DEGREES[match[5]]
            if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0 and 0.0 < radius < 180.0):
                return None
            circles.append((ra, dec, radius, match[1] == ""))
        elif not _SKIPPED.fullmatch(line):
            return None
    return circles or None


def _lines(text: str) -> Iterator[str]:
    """Commands of the file in lower case; what stands behind ``#`` describes how a region is drawn."""
    for line in text.splitlines():
        command, _, properties = line.partition("#")
        known = "" if not re.search(r"include|background|delete|\|\|", properties) else "unknown"
        yield from (part.strip().lower() + known for part in command.split(";"))
