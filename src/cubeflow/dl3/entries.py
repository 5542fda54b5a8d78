"""What a store of DL3 files consists of: runs, where their HDUs may lie, and which kind of table each is."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, Self

from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import Hdu, Header
from cubeflow.errors import MistakeError
from cubeflow.observation import RunRefused

PRODUCTS = {  # product: HDU types it needs besides events and gti
    "counts": (),
    "exposure": ("aeff",),
    "acceptance": ("bkg",),
    "psf": ("aeff", "psf"),
    "edisp": ("aeff", "edisp"),
}
MAX_NAMED = 12


class StoreError(MistakeError):
    """Nothing in a store can be used; the message is one line naming file and key."""


class HduRef(NamedTuple):
    """Where one HDU of a run lies."""

    hdu_type: str  # as in the index, lower case: aeff, aeff_2d
    hdu_class: str
    path: Path  # resolved
    hdu_name: str  # EXTNAME, compared without regard to case
    size: int | None = None  # as in the index
    md5: str | None = None
    row: int | None = None  # of the index, for messages
    number: int | None = None  # of the HDU in its file, where no index gives its name alone
    event_type: str = ""  # of the events for which it holds, as in the index; empty for all

    @property
    def part(self) -> str:
        """Type and class in one word."""
        return self.hdu_type if self.hdu_class in ("", self.hdu_type) else f"{self.hdu_type}:{self.hdu_class}"


@dataclass(frozen=True)
class RunEntry:
    """One run of a store."""

    obs_id: int
    hdus: tuple[HduRef, ...]
    obs_info: Header = field(default_factory=dict)  # of the observation index, or of EVENTS where there is no index
    quirks: tuple[str, ...] = ()  # deviations of the index from the format

    @property
    def event_types(self) -> list[str]:
        """Types of events for which the index has HDUs of their own."""
        return sorted({ref.event_type for ref in self.hdus} - {""})

    def of_event_type(self, event_type: str | None) -> Self:
        """Run with the HDUs of a type of events, and where it has none of its own with those of all; None for no type.

        RunRefused if the index has HDUs of types, and none of this one.
        """
        if not (types := self.event_types):
            return self
        if event_type not in types:
            line = f"expected one of them, such as by {event_types_line(types)}; got {event_type or 'none'}"
            raise RunRefused(f"HDU index: EVENT_TYPE is {', '.join(types)}: {line}")
        known = {ref.hdu_type: ref for kind in ("", event_type) for ref in self.hdus if ref.event_type == kind}
        return replace(self, hdus=tuple(ref._replace(event_type="") for ref in known.values()))


@dataclass(frozen=True)
class Store:
    """Runs of a store."""

    path: str  #: folder or pattern it was opened with
    runs: tuple[RunEntry, ...]  #: in order of their ids
    refused: Mapping[int, str] = field(default_factory=dict)  #: runs that index or files rule out, with the reason
    problems: tuple[str, ...] = ()  #: files below the folder that nobody reads, with the reason
    # Those of them that ought to be read: files without an index that hold a run, or may, but cannot be read, and a
    # second file of one run. The others are no FITS files, have no EVENTS, or are not in the index.
    left_out: tuple[str, ...] = ()
    refused_infos: Mapping[int, Header] = field(default_factory=dict)  #: of the observation index, as far as it has any


def event_types_line(types: Iterable[str]) -> str:
    """Line of a configuration that chooses types of events; what tells those that are no numbers is left open."""
    tests = ((name, f"EVENT_TYPE == {name}" if name.isdigit() else "...") for name in types)
    return f"event_types: {{{', '.join(f'{name}: {{where: {test}}}' for name, test in tests)}}}"


def direction_of(info: Header, kind: Literal["PNT", "OBJ"] = "PNT") -> tuple[float, float] | None:
    """Right ascension and declination of pointing or object in a row of the index, deg; None unless in range."""
    try:
        ra_deg, dec_deg = (float(str(info.get(f"{axis}_{kind}"))) for axis in ("RA", "DEC"))
    except ValueError:
        return None
    return (ra_deg, dec_deg) if -180 <= ra_deg < 540 and -90 <= dec_deg <= 90 else None


def by_name(hdus: Sequence[Hdu]) -> dict[str, list[Hdu]]:
    """HDUs of a file by upper-case name."""
    named: dict[str, list[Hdu]] = {}
    for hdu in hdus:
        named.setdefault(hdu.name.upper(), []).append(hdu)
    return named


def find_hdu(hdus: Mapping[str, Sequence[Hdu]], ref: HduRef) -> Hdu:
    """HDU, of those `by_name`, that a reference names, without regard to case; FileRefused unless there is just one."""
    found = [hdu for hdu in hdus.get(ref.hdu_name.strip().upper(), ()) if ref.number in (None, hdu.index)]
    if len(found) == 1:
        return found[0]
    row = "" if ref.row is None else f" (row {ref.row} of the index)"
    if found:
        numbers = " and ".join(str(hdu.index) for hdu in found)
        raise FileRefused(f"{ref.path}: HDUs {numbers} are both {ref.hdu_name!r}{row}, expected one")
    names = [name or "(unnamed)" for name in hdus]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    raise FileRefused(f"{ref.path}: no HDU {ref.hdu_name!r}{row}, only {', '.join(names[:MAX_NAMED])}{more}")


def whole_number(value: object) -> int | None:
    """Whole number of 64 bits, which may be written as text or, below 2**53, as a float; None if it is none."""
    if isinstance(value, str | bytes):
        written = value.decode("latin-1") if isinstance(value, bytes) else value
        match = re.fullmatch(r"\s*([+-]?[0-9]{1,100})(?:\.0*)?\s*", written)
        value = int(match[1]) if match else None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def text(header: Header, key: str) -> str:
    """Text of a header value without blanks around it; empty if there is none."""
    value = header.get(key)
    return "" if value is None else str(value).strip()


def missing_types(found: Collection[str], required: Collection[str]) -> str:
    """Say which HDU types a run lacks, and what could be made without them; empty if it lacks none."""
    missing = [hdu_type for hdu_type in required if hdu_type not in found]
    if not missing:
        return ""
    possible = {"events", "gti"} <= set(found)
    rest = [name for name, needs in PRODUCTS.items() if possible and set(needs) <= set(found)]
    return f"no HDU of type {', '.join(missing)}; without it could be made: {', '.join(rest) or 'nothing'}"


def require_types(found: Collection[str], required: Collection[str]) -> None:
    """Refuse a run that lacks HDU types."""
    if missing := missing_types(found, required):
        raise RunRefused(missing)
