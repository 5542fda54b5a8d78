"""Where a target is: a position as people write it, or one of some well-known sources."""

import csv
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Literal

from cubeflow.errors import MistakeError
from cubeflow.maps.sphere import Position, angular_distance_deg

POINT = 0.3  # deg: what is excluded about a source without extent
SAME = 0.1  # deg: a position this close to a known source is that source
EXAMPLES = '"83.633 22.014", "05h34m31.9s +22d00m52s" or "galactic 184.56 -5.78"'


@dataclass(frozen=True)
class Place:
    """A direction with a name."""

    name: str  # as people write it
    position: Position
    radius_deg: float = POINT  # what should be excluded about it

    @property
    def slug(self) -> str:
        """Name that is safe in file names: ``pks-2155-304``."""
        return re.sub(r"[^a-z0-9+.]+", "-", self.name.lower()).strip("-.+") or "target"


def plain_name(name: str) -> str:
    """Name in lower case without blanks, hyphens and underscores: one spelling of many."""
    return re.sub(r"[\s_-]+", "", name.lower())


def _read_sources() -> tuple[tuple[Place, ...], dict[str, Place]]:
    """Known sources, and the same by their further names; positions and extents are those of TeVCat."""
    known: list[Place] = []
    aliases: dict[str, Place] = {}
    with files("cubeflow.tools").joinpath("sources.csv").open(encoding="utf-8") as lines:
        for name, ra_deg, dec_deg, radius_deg, others in list(csv.reader(lines))[1:]:
            known.append(Place(name, Position(lon_deg=float(ra_deg), lat_deg=float(dec_deg)), float(radius_deg)))
            aliases |= dict.fromkeys(others.split(), known[-1])
    return tuple(known), aliases


KNOWN, ALIASES = _read_sources()


def parse_target(text: str, objects: Iterable[Place] = ()) -> Place:
    """Place of a position (``83.633 22.014``, ``05h34m31.9s +22d00m52s``, ``galactic 184.56 -5.78``) or of a name.

    A known source within 0.1 deg of a position lends it its name and extent. `objects` are further names, those that a
    store itself has. MistakeError if it is neither; the message names what is alike.
    """
    if (position := parse_position(text)) is not None:
        return _named(position)
    found = ALIASES | {plain_name(place.name): place for place in (*objects, *KNOWN)}
    name = plain_name(text)
    if name in found:
        return found[name]
    alike = difflib.get_close_matches(name, found, n=1)
    hint = f"; did you mean {found[alike[0]].name!r}?" if alike else ""
    raise MistakeError(f"--target: expected a position such as {EXAMPLES}, or a known name, got {text!r:.80}{hint}")


def parse_position(text: str) -> Position | None:
    """Position in any form that astropy reads; None if it is none; MistakeError outside the sky."""
    from astropy.coordinates import Angle, Latitude

    plain = " ".join(text.lower().replace(",", " ").split())  # the patterns below take long over many blanks
    frame: Literal["icrs", "galactic"] = "galactic" if re.match(r"gal(actic)?\b|l\s*=?\s*[-+\d]", plain) else "icrs"
    plain = re.sub(r"gal(actic)?\b|\b[lb]\s*=?\s*(?=[-+\d])", "", plain) if frame == "galactic" else plain
    words = re.sub(r"(?<=[\ds])(?=[-+])", " ", plain).split()  # 13h02m47s-63d50m08s
    if len(words) not in (2, 6) or not all(re.fullmatch(r"[-+]?\d(deg|[\d.:dhms'\"])*", word) for word in words):
        return None
    lon, lat = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    try:
        lon_deg = Angle(lon, "hourangle" if re.search(r"[h: ]", lon) else "deg").deg
        lat_deg = Latitude(lat, "deg").deg
        if abs(lon_deg) > 360:
            raise ValueError(f"{lon_deg:g} deg")
    except ValueError as error:
        expected = "a longitude up to 360 deg, a latitude of -90 to 90 deg, and minutes and seconds below 60"
        raise MistakeError(f"--target: {text!r:.80}: expected {expected} ({error!s:.80})") from error
    return Position(frame=frame, lon_deg=round(lon_deg % 360.0, 6), lat_deg=round(lat_deg, 6))


def _named(position: Position) -> Place:
    """Position with the name of the known source that lies there, or one made of its coordinates."""
    for place in KNOWN:
        if angular_distance_deg(place.position.icrs_deg, position.icrs_deg) < SAME:
            return replace(place, position=position)
    if position.frame == "galactic":
        return Place(f"g{position.lon_deg:.2f}{position.lat_deg:+.2f}", position)
    hour, minute = divmod(int(position.lon_deg * 4), 60)
    degree, arcminute = divmod(round(abs(position.lat_deg) * 60), 60)
    return Place(f"j{hour:02d}{minute:02d}{'-' if position.lat_deg < 0 else '+'}{degree:02d}{arcminute:02d}", position)
