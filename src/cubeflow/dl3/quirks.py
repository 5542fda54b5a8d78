"""Every known deviation of real files from the format, by name: the one place to add another.

A quirk with a condition on headers is found by `header_quirks`; the others are noted by the reader
where it meets them in the numbers. Each one met is named in `Observation.quirks`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from cubeflow.dl3.classes import CLASSES, class_by_columns, type_by_keys, type_of
from cubeflow.dl3.entries import text
from cubeflow.dl3.hdus import Header

RESPONSES = ("aeff", "edisp", "psf", "bkg", "rad_max")
TABLES = ("events", "gti")
EVENTS, GTI, BKG = ("events",), ("gti",), ("bkg",)


@dataclass(frozen=True)
class Facts:
    """What a condition may look at: type and header of an HDU, and the unit of each column by upper-case name."""

    kind: str
    header: Header
    columns: dict[str, str]

    def text(self, key: str) -> str:
        """Header value as text without surrounding blanks; empty if there is none."""
        return text(self.header, key)


@dataclass(frozen=True)
class Quirk:
    """A deviation from the format that is understood."""

    name: str  # in run tables and reports
    description: str  # what files do, and how it is read
    kinds: tuple[str, ...]  # types of HDU it may be met in
    applies: Callable[[Facts], bool] | None = None  # condition on the header; None where only the numbers show it
    is_suspect: bool = False  # better looked at; others are harmless


def is_hess_dr1(events: Facts) -> bool:
    """Whether an EVENTS header is of the H.E.S.S. public data release 1."""
    return events.text("CREATOR") == "SASH FITS::EventListWriter" and events.text("HDUVERS") == "0.2"


def is_ctobssim(events: Facts) -> bool:
    """Whether events are of ctobssim, which lists its models, as gammapy does; CREATOR may be of a later tool."""
    is_gammapy = events.text("CREATOR").startswith("Gammapy")  # it draws the background for the ontime
    return not is_gammapy and {"NMCIDS", "MID00001", "MMN00001"} <= events.header.keys()


def _is_misnamed(facts: Facts) -> bool:
    found, written = class_by_columns(facts.columns), facts.text("HDUCLAS4").lower()
    is_other_type = type_by_keys(facts.header) not in ("", type_of(found))
    return bool(found) and (is_other_type or (written in CLASSES and written != found))


def _is_odd(facts: Facts, *keys: str) -> bool:
    return any(isinstance(facts.header.get(key), float | str) for key in keys)


def _is_fk5(facts: Facts) -> bool:
    return (facts.text("RADESYS") or facts.text("RADECSYS")).upper() == "FK5"


def _has_altitude_in_km(facts: Facts) -> bool:
    value = facts.header.get("ALTITUDE")
    return isinstance(value, int | float) and 0 < value < 10


CUT_CLASSES = ("2D", "3D", "3GAUSS", "KING", "TABLE")
ODD_UNIT = re.compile(r"\^\(|/.*/|\*\*\(|m\*\*2|^1/")  # 1/s/MeV/sr, m**2, sr^(-1)
ANY = (*TABLES, *RESPONSES)
_TABLE = (
    Quirk("hess-dr1-background-mirrored", "BKG_3D array is (energy, lon, lat), longitude growing east", BKG),
    Quirk("aeff-negative-below-threshold", "negative areas below LO_THRES, set to 0", ("aeff",)),
    Quirk("theta-nodes", "THETA_LO = THETA_HI: offsets are nodes, not bins", RESPONSES),
    Quirk("axis-descending", "an axis runs downwards; turned round", RESPONSES),
    Quirk("axis-order-by-cref", "CREFn orders the axes otherwise than the columns; CREFn holds", RESPONSES),
    Quirk("axis-order-by-lengths", "array in another order than its axis columns: the one that fits", RESPONSES),
    Quirk("tdim-missing", "array without TDIM, shaped by the order of its axis columns", RESPONSES),
    Quirk("edisp-not-normalised", "EDISP columns do not integrate to 1; normalised", ("edisp",)),
    Quirk("edisp-per-bin", "EDISP is a probability per migra bin; divided by the bin width", ("edisp",)),
    Quirk("sigma1-zero", "PSF_3GAUSS with SIGMA_1 = 0: no PSF in these cells", ("psf",)),
    Quirk("background-empty-energies", "background is zero in whole energy bins", BKG),
    Quirk("point-like-by-rad-max", "no HDUCLAS3, but RAD_MAX: point-like", ("aeff",)),
    Quirk("rad-max-missing", "point-like, but neither RAD_MAX nor a RAD_MAX_2D table", ("aeff",), is_suspect=True),
    Quirk("ra-wrapped", "right ascension outside 0 to 360 deg; wrapped", EVENTS),
    Quirk("events-not-sorted", "events are not in order of time", EVENTS),
    Quirk("events-far-from-pointing", "events more than 20 deg from the pointing", EVENTS),
    Quirk("event-ids-repeated", "equal EVENT_IDs on different events", EVENTS, is_suspect=True),
    Quirk("obs-id-missing", "no OBS_ID in EVENTS; the index says which run it is", EVENTS, is_suspect=True),
    Quirk("hdu-name-case", "HDU_NAME of the index differs from EXTNAME in case", ANY),
    Quirk("index-size-disagrees", "SIZE of the index is neither that of the file nor of the HDU", ANY),
    Quirk("index-hdu-type-cut", "HDU_TYPE cut short (rad_ma)", RESPONSES),
    Quirk("hdus-of-one-class", "several HDUs of one class in a file; keys or names say which one counts", ANY),
    Quirk("hdu-class-by-columns", "HDU_CLASS or HDUCLASn against the columns, which hold", ANY, _is_misnamed),
    Quirk("odd-whole-number", "OBS_ID or N_TELS as text or float", EVENTS, lambda f: _is_odd(f, "OBS_ID", "N_TELS")),
    Quirk("index-rows-repeated", "the index lists the same HDU more than once", ANY),
    Quirk("index-file-dir-masked", "FILE_DIR empty or masked: the folder of the index", ANY),
    Quirk("index-base-dir-elsewhere", "BASE_DIR leads to no file; FILE_DIR is taken from the folder of the index", ANY),
    Quirk("tdb-as-tt", "TIMESYS TDB read as TT (differs by 2 ms at most)", TABLES),
    Quirk("float-mjdrefi", "MJDREFI as float or text", TABLES, lambda f: _is_odd(f, "MJDREFI")),
    Quirk("timesys-lower-case", "TIMESYS in lower case", TABLES, lambda f: any(map(str.islower, f.text("TIMESYS")))),
    Quirk("timeref-lower-case", "TIMEREF in lower case", TABLES, lambda f: any(map(str.islower, f.text("TIMEREF")))),
    Quirk(
        "gti-without-unit", "no unit: TIMEUNIT, else s", GTI, lambda f: not all(map(f.columns.get, ("START", "STOP")))
    ),
    Quirk("telapse-zero", "TELAPSE = 0", EVENTS, lambda f: f.header.get("TELAPSE") == 0),
    Quirk("radecsys-key", "RADECSYS instead of RADESYS", EVENTS, lambda f: "RADECSYS" in f.header),
    Quirk("ctobssim-background-per-livetime", "a rate of the livetime: multiplied by DEADC", EVENTS, is_ctobssim),
    Quirk("fk5-as-icrs", "FK5 J2000 read as ICRS (0.02 arcsec)", EVENTS, _is_fk5),
    Quirk("obs-mode-wobble", "OBS_MODE is WOBBLE", EVENTS, lambda f: f.text("OBS_MODE").upper() == "WOBBLE"),
    Quirk("altitude-in-km", "ALTITUDE in km", EVENTS, _has_altitude_in_km),
    Quirk("alt-pnt-90", "ALT_PNT = 90: no zenith angle", EVENTS, lambda f: f.header.get("ALT_PNT") == 90),
    Quirk("date-underscore", "DATE_OBS for DATE-OBS", EVENTS, lambda f: "DATE_OBS" in f.header),
    Quirk("hduclass-missing", "no HDUCLASS keys", ANY, lambda f: not f.text("HDUCLAS1")),
    Quirk("ogip-hduclass", "HDUCLASS is OGIP", RESPONSES, lambda f: f.text("HDUCLASS") == "OGIP"),
    Quirk("hduclas4-cut", "HDUCLAS4 is 2D, 3D or 3GAUSS", RESPONSES, lambda f: f.text("HDUCLAS4") in CUT_CLASSES),
    Quirk(
        "unit-not-fits", "unit not as FITS has it", RESPONSES, lambda f: any(map(ODD_UNIT.search, f.columns.values()))
    ),
    Quirk("bkg-column-bgd", "background column is BGD", BKG, lambda f: "BGD" in f.columns),
    Quirk("edisp-etrue-columns", "energy axis is ETRUE_LO, ETRUE_HI", RESPONSES, lambda f: "ETRUE_LO" in f.columns),
    Quirk("fovalign-missing", "no FOVALIGN: RADEC", BKG, lambda f: "DETX_LO" in f.columns and not f.text("FOVALIGN")),
    Quirk(
        "fovalign-reversed",
        "FOVALIGN is REVERSE_LON_RADEC: longitude grows east",
        BKG,
        lambda f: f.text("FOVALIGN").upper() == "REVERSE_LON_RADEC",
    ),
    Quirk("beyond-model-zenith", "outside the zenith angles of the model: the nearest", BKG, is_suspect=True),
    Quirk("no-matching-off-run", "like no OFF run of the acceptance model: all of them", BKG, is_suspect=True),
    Quirk("thresholds-missing", "no energy thresholds LO_THRES above 0", ("aeff",)),
    Quirk("thresholds-as-text", "LO_THRES or HI_THRES as text", ("aeff",)),
)
QUIRKS = {quirk.name: quirk for quirk in _TABLE}
# What is repaired or dropped, by the name under which it is counted; and whether that is better looked at.
REPAIRS = {
    "aeff_negative": ("negative effective areas, set to 0", False),
    "background_empty_energies": ("energy bins without background", False),
    "background_negative": ("negative background rates, set to 0", True),
    "deadc_disagrees": ("DEADC is not LIVETIME over ONTIME; DEADC holds", True),
    "edisp_negative": ("negative values of the energy dispersion, set to 0", False),
    "edisp_renormalised": ("cells of the energy dispersion that did not integrate to 1", False),
    "edisp_without_norm": ("cells without an energy dispersion", False),
    "event_ids_repeated": ("events whose EVENT_ID others have, too", True),
    "events_duplicated": ("events that are there twice, of which one is kept", True),
    "events_not_selected": ("events that events.where leaves out, as was asked", False),
    "events_outside_gti": ("events outside the good time intervals", False),
    "events_unusable": ("events without a time, an energy or a direction, dropped", True),
    "gti_merged": ("good time intervals that overlapped", False),
    "gti_unsorted": ("good time intervals not in order", False),
    "ontime_disagrees": ("ONTIME is not the sum of the good time intervals, which hold", True),
    "psf_negative": ("negative values of the PSF, set to 0", False),
    "psf_off_norm": ("cells of the PSF that did not integrate to 1", False),
    "psf_without_norm": ("cells without a PSF", False),
    "ra_wrapped": ("right ascensions outside 0 to 360 deg", False),
    "region_not_read": ("a region of the file that could not be read", True),
    "unit_missing": ("columns without a unit", False),
}


def header_quirks(facts: Facts) -> list[str]:
    """Names of the quirks that the header of an HDU shows."""
    return [q.name for q in QUIRKS.values() if facts.kind in q.kinds and q.applies is not None and q.applies(facts)]


@dataclass
class Notes:
    """Quirks met and repairs made while one run is read."""

    quirks: dict[str, None] = field(default_factory=dict)
    repairs: dict[str, int] = field(default_factory=dict)

    def quirk(self, *names: str) -> None:
        """Note quirks; raises KeyError for a name that is not in `QUIRKS`."""
        for name in names:
            self.quirks[QUIRKS[name].name] = None

    def repair(self, name: str, count: int = 1, *quirks: str) -> None:
        """Count repairs, and note quirks that they show; none of them leaves no trace."""
        if count:
            self.repairs[name] = self.repairs.get(name, 0) + int(count)
            self.quirk(*quirks)

    def add(self, other: Self) -> None:
        """Take over what was noted elsewhere."""
        self.quirk(*other.quirks)
        for name, count in other.repairs.items():
            self.repair(name, count)
