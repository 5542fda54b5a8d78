"""Which HDU is which: its class by keys and columns, and the run of a file that it belongs to."""

from bisect import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from cubeflow.dl3.entries import HduRef, text, whole_number
from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import Hdu, Header

BY_HDUCLAS2 = {"EFF_AREA": "aeff", "EDISP": "edisp", "RPSF": "psf", "PSF": "psf", "BKG": "bkg", "RAD_MAX": "rad_max"}
# HDU_CLASS, columns that no other class has; in the order of preference where a run has several of a type
BY_COLUMN: tuple[tuple[str, ...], ...] = (
    ("events", "TIME", "RA", "DEC", "ENERGY"),
    ("gti", "START", "STOP"),
    ("aeff_2d", "EFFAREA", "THETA_LO"),
    ("edisp_2d", "MATRIX", "MIGRA_LO"),
    ("psf_table", "RPSF", "RAD_LO"),
    ("psf_3gauss", "SIGMA_1", "SCALE"),
    ("psf_king", "GAMMA", "SIGMA"),
    ("rad_max_2d", "RAD_MAX", "THETA_LO"),
    ("bkg_3d", "BKG", "DETX_LO"),
    ("bkg_3d", "BGD", "DETX_LO"),
    ("bkg_2d", "BKG", "THETA_LO"),
    ("bkg_2d", "BGD", "THETA_LO"),
)
HDU_TYPES = frozenset(("events", "gti", *BY_HDUCLAS2.values()))  # others of an index are never looked at
CLASSES = tuple(dict.fromkeys(hdu_class for hdu_class, *_ in BY_COLUMN))
# EXTNAMEs that are usual beside type and class: they decide between several HDUs
NAMES = {"aeff": "EFFECTIVE AREA", "edisp": "ENERGY DISPERSION", "psf": "POINT SPREAD FUNCTION", "bkg": "BACKGROUND"}


class Found(NamedTuple):
    """An HDU of a run, and whether its keys say which one it is."""

    hdu: Hdu
    hdu_class: str
    is_keyed: bool

    def __str__(self) -> str:
        return f"{self.hdu.name!r} (HDU {self.hdu.index})"

    def has_usual_name(self) -> bool:
        """Whether its name is that of its type or class."""
        hdu_type = type_of(self.hdu_class)
        usual = {hdu_type.upper(), self.hdu_class.upper(), NAMES.get(hdu_type)}
        return bool({self.hdu.name.upper(), self.hdu.name.upper().replace("_", " ")} & usual)


def type_of(hdu_class: str) -> str:
    """HDU_TYPE of a class: ``psf`` of ``psf_table``."""
    return hdu_class.rpartition("_")[0] or hdu_class


def class_by_columns(columns: Collection[str]) -> str:
    """HDU_CLASS of a table by the upper-case names of its columns; empty if it is none of ours."""
    return next((hdu_class for hdu_class, *needed in BY_COLUMN if set(needed) <= set(columns)), "")


def type_by_keys(header: Header) -> str:
    """HDU_TYPE that HDUCLAS1 and HDUCLAS2 say; empty if it is none of ours."""
    kind = text(header, "HDUCLAS1").upper()
    if kind == "RESPONSE":
        return BY_HDUCLAS2.get(text(header, "HDUCLAS2").upper(), "")
    return kind.lower() if kind in ("EVENTS", "GTI") else ""


def classify(hdu: Hdu) -> Found | None:
    """Class of an HDU by its columns, else by its keys or name, as far as they say; None if it is none of ours."""
    columns = {str(value).strip().upper() for key, value in hdu.header.items() if key.startswith("TTYPE")}
    name = hdu.name.lower()
    keyed = type_by_keys(hdu.header) or (name if name in ("events", "gti") else "")
    hdu_class = class_by_columns(columns)
    if not hdu_class and keyed:  # broken: whoever reads it says of what
        written = text(hdu.header, "HDUCLAS4").lower()
        of_type = [known for known in CLASSES if type_of(known) == keyed]
        hdu_class = written if written in of_type else of_type[0]
    return Found(hdu, hdu_class, keyed == type_of(hdu_class)) if hdu_class else None


def one_per_type(refs: Iterable[HduRef]) -> tuple[HduRef, ...]:
    """One reference for each type of HDU and events: a run may have its PSF or background in several formats."""
    rank = {hdu_class: place for place, hdu_class in enumerate(CLASSES)}
    chosen: dict[tuple[str, str], HduRef] = {}
    for ref in sorted(refs, key=lambda ref: rank.get(ref.hdu_class, len(rank))):
        chosen.setdefault((ref.hdu_type, ref.event_type), ref)
    return tuple(chosen.values())


def runs_of(hdus: Sequence[Hdu]) -> dict[int, list[Found]]:
    """HDUs of each run of a file, by id, EVENTS first.

    With EVENTS of several runs, an HDU is of the run that its OBS_ID names, else of the EVENTS that it follows, if each
    is followed by one; a single response is of all. Raises FileRefused for EVENTS without OBS_ID.
    """
    found = [each for each in map(classify, hdus) if each]
    named = {each: whole_number(each.hdu.header.get("OBS_ID")) for each in found}
    events = [each for each in found if each.hdu_class == "events"]
    runs: dict[int, list[Found]] = {}
    starts = {}
    for each in [each for each in events if each.is_keyed] or events:
        obs_id = starts[each.hdu.index] = named[each]
        if obs_id is None:
            raise FileRefused(f"{each.hdu}: OBS_ID = {each.hdu.header.get('OBS_ID')!r}, expected a whole number")
        runs.setdefault(obs_id, []).append(each)
    first, run_of = list(starts), [None, *starts.values()]
    for hdu_class in CLASSES[1:]:
        parts = [each for each in found if each.hdu_class == hdu_class]
        said = [named[each] if named[each] in runs else None for each in parts]
        if len(runs) == 1 or (said == [None] and hdu_class != "gti"):
            for run in runs.values():
                run += parts
            continue
        before = [run_of[bisect(first, each.hdu.index)] for each in parts]
        placed = [start if obs_id is None else obs_id for obs_id, start in zip(said, before, strict=True)]
        for each, obs_id in zip(parts, placed if runs.keys() <= set(placed) else said, strict=True):
            if obs_id is not None:
                runs[obs_id].append(each)
    return runs


def choose(found: Iterable[Found]) -> list[Found]:
    """One HDU of each class: of several that whose keys or else whose name say so; FileRefused if that leaves more."""
    chosen, by_class = list[Found](), defaultdict[str, list[Found]](list)
    for each in found:
        by_class[each.hdu_class].append(each)
    for hdu_class, several in by_class.items():
        for decides in (lambda each: each.is_keyed, Found.has_usual_name):
            several = [each for each in several if decides(each)] or several
        if len(several) > 1:
            names = " and ".join(map(str, several))
            raise FileRefused(f"{several[0].hdu.path}: {names} are both {hdu_class}; an index would say which counts")
        chosen += several
    return chosen
