"""The configuration of a step as objects, made from the plain numbers of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cubeflow.maps import Axis, Geometry, axis_from_plain, geometry_from_plain


@dataclass(frozen=True)
class ReduceSetup:
    """Geometry, axes and cuts of the step ``reduce``.

    Parameters
    ----------
    geometry : Geometry
        Final geometry of the target.
    irf_geometry : Geometry
        Coarse grid of the PSF and energy-dispersion maps.
    energy, energy_true, rad : Axis
        Reconstructed and true energy (TeV), radial axis of the PSF (deg).
    offset_max_deg : float
        Largest offset from the pointing that is used.
    gti_filter : bool
        Drop events outside the good time intervals.
    trim : bool
        Cut a run's maps at the border of the geometry; rings need them whole.
    duplicates : {"refuse", "drop"}
        What to do with event rows that appear twice.
    time_mjd : tuple of (float, float) or None
        Intervals of time that are used, MJD (TT); None for all.
    split : {"gti", "night"}, float or None
        Reduce a run in pieces: each interval, each night, or so many s; None for whole runs.
    interpolation : {"log", "linear"}
        How the background rate is interpolated between positions in the field of view.
    safe_mask : mapping
        Methods of the safe mask and their parameters.
    spectrum : mapping
        Spectrum assumed for the exposure in reconstructed energy.
    """

    geometry: Geometry
    irf_geometry: Geometry
    energy: Axis
    energy_true: Axis
    rad: Axis
    offset_max_deg: float
    gti_filter: bool
    trim: bool
    duplicates: str
    time_mjd: tuple[tuple[float, float], ...] | None
    split: str | float | None
    interpolation: Literal["log", "linear"]
    safe_mask: Mapping[str, Any]
    spectrum: Mapping[str, Any]

    def to_plain(self) -> dict[str, Any]:
        """Plain numbers and strings, for manifests and keys."""
        plain: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            plain[name] = value.to_plain() if isinstance(value, (Geometry, Axis)) else value
        plain["time_mjd"] = None if self.time_mjd is None else [list(interval) for interval in self.time_mjd]
        return plain


def reduce_setup_from_plain(plain: Mapping[str, Any]) -> ReduceSetup:
    """Undo `ReduceSetup.to_plain`."""
    made: dict[str, Any] = dict(plain)
    made |= {name: geometry_from_plain(plain[name]) for name in ("geometry", "irf_geometry")}
    made |= {name: axis_from_plain(plain[name]) for name in ("energy", "energy_true", "rad")}
    return ReduceSetup(**made)
