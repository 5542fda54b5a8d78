"""Where a target is: a position as people write it, or one of some well-known sources."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cubeflow.errors import MistakeError
from cubeflow.maps import sphere

POINT = 0.3  # deg: what is excluded about a source without extent
EXAMPLES = '"83.633 22.014", "05h34m31.9s +22d00m52s" or "galactic 184.56 -5.78"'


class TargetError(MistakeError):
    """A target is neither a position nor a known name; the message says what is."""


@dataclass(frozen=True)
class Place:
    """A direction with a name.

    Parameters
    ----------
    name : str
        As people write it.
    lon_deg, lat_deg : float
        Position in `frame`, deg.
    frame : {"icrs", "galactic"}
        Frame of the position.
    radius_deg : float
        What should be excluded about it, deg.
    """

    name: str
    lon_deg: float
    lat_deg: float
    radius_deg: float = POINT
    frame: str = "icrs"

    @property
    def icrs_deg(self) -> tuple[float, float]:
        """Right ascension in [0, 360) and declination, deg."""
        lon, lat = sphere.lon_lat(sphere.frame_to_icrs(sphere.unit_vectors(self.lon_deg, self.lat_deg), self.frame))
        return float(lon), float(lat)

    @property
    def slug(self) -> str:
        """Name that is safe in file names: ``pks-2155-304``."""
        return re.sub(r"[^a-z0-9+.]+", "-", self.name.lower()).strip("-.+") or "target"


# Positions and extents as in TeVCat and the papers it names; deg, ICRS.
KNOWN = (
    Place("Crab", 83.6333, 22.0144, 0.35),
    Place("Geminga", 98.4756, 17.7703, 2.0),
    Place("IC 443", 94.213, 22.53, 0.4),
    Place("Vela X", 128.75, -45.6, 1.2),
    Place("Vela Junior", 133.0, -46.37, 1.2),
    Place("RCW 86", 220.12, -62.65, 0.6),
    Place("SN 1006", 225.7083, -41.93, 0.45),
    Place("MSH 15-52", 228.529, -59.157, 0.4),
    Place("RX J1713.7-3946", 258.3879, -39.7622, 0.8),
    Place("Galactic Centre", 266.4168, -29.0078, 0.4),
    Place("W 28", 270.426, -23.335, 0.5),
    Place("HESS J1825-137", 276.421, -13.839, 1.2),
    Place("LS 5039", 276.5627, -14.8484),
    Place("W 51", 290.96, 14.1, 0.5),
    Place("Cassiopeia A", 350.85, 58.815),
    Place("Tycho", 6.34, 64.13),
    Place("LS I +61 303", 40.1319, 61.2293),
    Place("PSR B1259-63", 195.6986, -63.8357),
    Place("N 157B", 84.4475, -69.1658),
    Place("NGC 253", 11.888, -25.2883),
    Place("NGC 1275", 49.9507, 41.5117),
    Place("M 87", 187.7059, 12.3911),
    Place("Centaurus A", 201.3651, -43.0191),
    Place("Markarian 421", 166.1138, 38.2088),
    Place("Markarian 501", 253.4676, 39.7602),
    Place("PKS 2155-304", 329.7169, -30.2256),
    Place("1ES 1959+650", 299.9994, 65.1485),
    Place("1ES 0229+200", 38.2026, 20.2882),
    Place("1ES 1101-232", 165.9065, -23.4917),
    Place("PG 1553+113", 238.9294, 11.1901),
    Place("H 2356-309", 359.783, -30.6278),
    Place("3C 279", 194.0465, -5.7893),
    Place("BL Lacertae", 330.6804, 42.2778),
)
ALIASES = {
    "crabnebula": "Crab",
    "m1": "Crab",
    "rxj1713": "RX J1713.7-3946",
    "rxj17133946": "RX J1713.7-3946",
    "rxj0852.04622": "Vela Junior",
    "velajr": "Vela Junior",
    "sgra*": "Galactic Centre",
    "galacticcenter": "Galactic Centre",
    "gc": "Galactic Centre",
    "casa": "Cassiopeia A",
    "cena": "Centaurus A",
    "mrk421": "Markarian 421",
    "mkn421": "Markarian 421",
    "mrk501": "Markarian 501",
    "mkn501": "Markarian 501",
    "pks2155": "PKS 2155-304",
    "bllac": "BL Lacertae",
    "perseusa": "NGC 1275",
}

_NUMBER = r"[-+]?\d+(?:\.\d*)?"
_DECIMAL = re.compile(rf"({_NUMBER})\s*(?:d|deg)?[\s,]+({_NUMBER})\s*(?:d|deg)?")
_HOURS = r"(\d+)(?:\s*h\s*|\s*:\s*|\s+)(\d+)(?:\s*m\s*|\s*:\s*|\s+)(\d+(?:\.\d*)?)\s*s?"
_DEGREES = r"([-+]?)(\d+)(?:\s*d\s*|\s*:\s*|\s+)(\d+)(?:\s*[m']\s*|\s*:\s*|\s+)(\d+(?:\.\d*)?)\s*(?:s|\")?"
_SEXAGESIMAL = re.compile(rf"{_HOURS}(?:[\s,]+|(?=[-+])){_DEGREES}")
_GALACTIC = re.compile(rf"(?:gal(?:actic)?\s+)?l\s*=?\s*({_NUMBER})[\s,]+b\s*=?\s*({_NUMBER})")


def parse_target(text: str, objects: Iterable[Place] = ()) -> Place:
    """Position, or place of a known name.

    Parameters
    ----------
    text : str
        ``83.633 22.014``, ``05h34m31.9s +22d00m52s``, ``galactic 184.56 -5.78``, or a name.
    objects : iterable of Place
        Further names: the objects that a store itself names.

    Returns
    -------
    Place
        A known source within 0.1 deg of a position lends it its name and extent.

    Raises
    ------
    TargetError
        If it is neither; the message names what is alike.
    """
    position = parse_position(text)
    if position is not None:
        return _named(position)
    found = {plain_name(place.name): place for place in (*objects, *KNOWN)}
    name = ALIASES.get(plain_name(text), text)
    if plain_name(name) in found:
        return found[plain_name(name)]
    alike = difflib.get_close_matches(plain_name(text), [*found, *ALIASES], n=1)
    hint = f"; did you mean {found[plain_name(ALIASES.get(alike[0], alike[0]))].name!r}?" if alike else ""
    raise TargetError(f"--target: expected a position such as {EXAMPLES}, or a known name, got {text!r}{hint}")


def plain_name(name: str) -> str:
    """Name in lower case without blanks, hyphens and underscores: one spelling of many."""
    return re.sub(r"[\s_-]+", "", name.lower())


def parse_position(text: str) -> Place | None:
    """Place of a position in any of the forms; None if it is none; TargetError outside the sky."""
    text = text.strip().lower()
    galactic = _GALACTIC.fullmatch(text)
    prefix, _, rest = text.partition(" ")
    if galactic is None and prefix in ("galactic", "gal"):
        galactic = _DECIMAL.fullmatch(rest.strip())
    if galactic is not None:
        return _checked(text, "galactic", float(galactic[1]), float(galactic[2]))
    decimal = _DECIMAL.fullmatch(text)
    if decimal is not None:
        return _checked(text, "icrs", float(decimal[1]), float(decimal[2]))
    parts = _SEXAGESIMAL.fullmatch(text)
    if parts is None:
        return None
    hours, degrees = (_of_sixty(text, parts.groups()[k : k + 3]) for k in (0, 4))
    return _checked(text, "icrs", 15.0 * hours, -degrees if parts[4] == "-" else degrees)


def _of_sixty(text: str, parts: tuple[str, ...]) -> float:
    """Value of whole, minutes and seconds."""
    whole, minutes, seconds = (float(part) for part in parts)
    if minutes >= 60 or seconds >= 60:
        raise TargetError(f"--target: {text!r}: expected minutes and seconds below 60")
    return whole + minutes / 60 + seconds / 3600


def _checked(text: str, frame: str, lon_deg: float, lat_deg: float) -> Place:
    if not (-360 <= lon_deg <= 360 and -90 <= lat_deg <= 90):
        raise TargetError(f"--target: {text!r}: expected a longitude up to 360 deg and a latitude of -90 to 90 deg")
    return Place("", round(lon_deg % 360.0, 6), round(lat_deg, 6), frame=frame)


def _named(position: Place) -> Place:
    """Position with the name of the known source that lies there, or one made of its coordinates."""
    for place in KNOWN:
        if separation_deg(place, position) < 0.1:
            return Place(place.name, position.lon_deg, position.lat_deg, place.radius_deg, position.frame)
    if position.frame == "galactic":
        name = f"g{position.lon_deg:.2f}{position.lat_deg:+.2f}"
    else:
        minutes = round(abs(position.lat_deg) * 60)
        hour, minute = divmod(int(position.lon_deg * 4), 60)
        sign = "-" if position.lat_deg < 0 else "+"
        name = f"j{hour:02d}{minute:02d}{sign}{minutes // 60:02d}{minutes % 60:02d}"
    return Place(name, position.lon_deg, position.lat_deg, POINT, position.frame)


def separation_deg(first: Place, second: Place) -> float:
    """Angle between two places, deg."""
    return float(sphere.separation_deg(*(sphere.unit_vectors(*place.icrs_deg) for place in (first, second))))
