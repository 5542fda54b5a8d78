"""One observation: its events, good time intervals, pointing and responses, all in memory.

Readers build these; products take their parts. Times are seconds on the TT scale since the
reference `TIME_REFERENCE_MJD`, whatever the file used, so that observations can be stacked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import BackgroundRate
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import PSF
from cubeflow.maps.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

DAY_S = 86400.0
BLOCK = 1 << 18  # events that are looked at together: directions take many times their memory
TIME_REFERENCE_MJD = 51910  # 2001-01-01T00:00:00 TT
TIME_KEYWORDS = {"MJDREFI": TIME_REFERENCE_MJD, "MJDREFF": 0.0, "TIMESYS": "TT", "TIMEUNIT": "s"}  # that, in FITS


def to_mjd(time_s: FloatArray) -> FloatArray:
    """MJD (TT) of TT seconds since `TIME_REFERENCE_MJD`."""
    return TIME_REFERENCE_MJD + time_s / DAY_S


class RunRefused(Exception):
    """A run cannot be used; the message is one line that says why, naming file and key."""


class RunSkipped(Exception):
    """A run is sound but has nothing to give here; the message says why."""


@dataclass(frozen=True, order=True)
class Unit:
    """What has one event list and one set of responses: a run, a piece of one, or an event type of either."""

    obs_id: int
    piece: int | None = None
    event_type: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder: ``23523``, ``23523-piece2``."""
        piece = None if self.piece is None else f"piece{self.piece}"
        return "-".join(part for part in (str(self.obs_id), piece, self.event_type) if part is not None)


@dataclass(frozen=True, eq=False)
class EventList:
    """Reconstructed events; all arrays have shape (n_events,)."""

    energy_tev: FloatArray  #: reconstructed energy
    ra_deg: FloatArray  #: reconstructed direction, ICRS, ``0 <= ra < 360``
    dec_deg: FloatArray
    time_s: FloatArray  #: TT seconds since `TIME_REFERENCE_MJD`
    mc_id: IntArray | None = None  #: identifier of the simulated component, where the file has one

    def __len__(self) -> int:
        return len(self.energy_tev)

    def blocks(self) -> "Iterator[EventList]":
        """Some events at a time, as views; one block without events if there are none."""
        for start in range(0, max(len(self), 1), BLOCK):
            yield self.select(slice(start, start + BLOCK))

    def select(self, keep: BoolArray | slice) -> "EventList":
        """Events where `keep`, shape (n_events,), is true."""
        mc_id = None if self.mc_id is None else self.mc_id[keep]
        return EventList(self.energy_tev[keep], self.ra_deg[keep], self.dec_deg[keep], self.time_s[keep], mc_id)


@dataclass(frozen=True, eq=False)
class Gti:
    """Good time intervals: sorted, disjoint, not empty; shape (n,), TT seconds since `TIME_REFERENCE_MJD`."""

    start_s: FloatArray
    stop_s: FloatArray

    @property
    def ontime_s(self) -> float:
        """Sum of the intervals in s."""
        return float(np.sum(self.stop_s - self.start_s))

    def contains(self, time_s: FloatArray) -> BoolArray:
        """Whether each time lies in an interval, both ends included."""
        index = np.searchsorted(self.start_s, time_s, side="right") - 1
        inside = (index >= 0) & np.isfinite(time_s)
        return inside & (time_s <= self.stop_s[np.maximum(index, 0)])

    @classmethod
    def merged(cls, start_s: FloatArray, stop_s: FloatArray, *, touching: bool) -> "Gti":
        """Intervals, shape (n,), in order; those that overlap (or only touch, if wanted) are one; none from none."""
        order = np.argsort(start_s, kind="stable")
        start, reach = start_s[order], np.maximum.accumulate(stop_s[order])
        is_apart = np.greater if touching else np.greater_equal
        begins = np.append(True, is_apart(start[1:], reach[:-1]))[: start.size]
        return cls(start[begins], reach[np.append(begins[1:], True)[: start.size]])


@dataclass(frozen=True)
class Pointing:
    """Direction of the telescopes, fixed on the sky: ICRS, deg."""

    ra_deg: float
    dec_deg: float

    @classmethod
    def of(cls, position: "SkyCoord") -> "Pointing":
        """Pointing at a position in any frame."""
        return cls(float(position.icrs.ra.deg), float(position.icrs.dec.deg))


@dataclass(frozen=True)
class Site:
    """Position of the observatory: geodetic longitude (east) and latitude in deg."""

    lon_deg: float
    lat_deg: float


@dataclass(frozen=True, eq=False)
class Observation:
    """Everything read from one run."""

    obs_id: int  #: identifier of the run
    events: EventList  #: as read, those outside the good time intervals too
    gti: Gti
    pointing: Pointing
    deadc: float  #: dead-time correction: livetime over ontime, in (0, 1]
    aeff: EffectiveArea | None
    edisp: EnergyDispersion | None
    psf: PSF | None  #: None for point-like data, as is the background
    background: BackgroundRate | None
    point_like: bool = False  #: whether the responses hold for events inside a directional cut
    site: Site | None = None  #: where the telescopes stand, if the file says so
    quirks: tuple[str, ...] = ()  #: names of the deviations from the format that were met
    repairs: dict[str, int] = field(default_factory=dict)  #: what was repaired or dropped while reading, how often
    meta: dict[str, Any] = field(default_factory=dict)  #: header values for the run table: object, telescope, zenith

    @property
    def ontime_s(self) -> float:
        """Sum of the good time intervals in s."""
        return self.gti.ontime_s

    @property
    def livetime_s(self) -> float:
        """Ontime times the dead-time correction in s; never the header's LIVETIME."""
        return self.gti.ontime_s * self.deadc
