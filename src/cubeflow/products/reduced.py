"""One observation becomes the maps that everything else is made from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from cubeflow.irf.background import BackgroundRate
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.maps import Axis, Cube, FloatArray, Geometry, Maps, make_cutout
from cubeflow.observation import EventList, Observation, Pointing, RunRefused, to_mjd
from cubeflow.products.acceptance import AcceptanceOptions, make_field_rotation, make_map_hadron_acceptance
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.kernels import make_edisp_map, make_psf_map
from cubeflow.products.safe_mask import SafeMaskOptions, count_cut, is_of_source, make_mask_safe
from cubeflow.products.spectrum import Spectrum, share_beyond
from cubeflow.products.tiles import Tile

KEPT = "f4"  # type of maps that are no whole numbers
Cell = None | bool | int | float | str | Sequence["Cell"] | Mapping[str, "Cell"]


@dataclass(frozen=True)
class ReduceOptions:
    """Everything that decides what the maps of an observation are."""

    geometry: Geometry
    irf_geometry: Geometry  # coarse grid of PSF and energy dispersion, which covers `geometry`
    energy: Axis
    energy_true: Axis
    rad: Axis  # separation from the source, of the PSF
    offset_max_deg: float  # largest offset from the pointing that is used
    gti_filter: bool  # drop events outside the good time intervals
    duplicates: Literal["refuse", "drop"]  # what to do with event rows that appear twice in a run
    time_mjd: tuple[tuple[float, float], ...] | None  # intervals [start, stop] that are used, TT; None for all
    split_s: Literal["gti", "night"] | float | None  # how a run is cut into pieces; a number is their duration
    acceptance: AcceptanceOptions
    safe_mask: SafeMaskOptions
    spectrum: Spectrum  # assumed for the exposure in reconstructed energy
    events_where: tuple[tuple[str, str], ...] | None = None  # conditions on the columns of EVENTS, after their keys
    tile: Tile | None = None  # of which the map is; None for a target with a position


@dataclass(frozen=True, eq=False)
class Reduced:
    """The maps of one observation, as they are kept."""

    maps: Maps
    """``counts``, ``acceptance``, ``exposure_reco``, ``mask_safe`` (energy, lat, lon), ``exposure`` (energy_true, lat,
    lon) on the run's cutout; ``psf``, ``edisp``, ``irf_exposure`` on the cutout of the IRF grid. Maps for which the run
    has no response are absent. Floating-point maps are float32: what is computed from them is the same whether they
    were kept or just made."""
    gti_s: FloatArray  #: good time intervals, shape (n, 2), TT s since the time reference
    row: Mapping[str, Cell]  #: what the run table says of it

    @property
    def pointing(self) -> Pointing:
        """Direction of the telescopes."""
        return Pointing(cast("float", self.row["ra_pnt_deg"]), cast("float", self.row["dec_pnt_deg"]))


def reduce_observation(observation: Observation, options: ReduceOptions) -> Reduced:
    """Make all maps of one observation, a run in its selected time or a piece of one, on its cutout of the geometry.

    Raises
    ------
    NoOverlap
        If the observation does not touch the map.
    RunRefused
        If a response that is needed is missing, or the assumed spectrum has next to no flux at some energy.
    """
    pointing, offset_max, spectrum = observation.pointing, options.offset_max_deg, options.spectrum
    geom = make_cutout(options.geometry, pointing.ra_deg, pointing.dec_deg, offset_max)
    events = observation.events
    if options.gti_filter:
        events = events.select(observation.gti.contains(events.time_s))
    maps = {"counts": make_map_counts(events, geom, options.energy, pointing, offset_max)}
    if observation.background is not None:
        maps["acceptance"] = _acceptance(observation, observation.background, geom, options)
    if observation.aeff is not None:
        exposure = make_map_exposure_true_energy(
            pointing, observation.livetime_s, observation.aeff, geom, options.energy_true, offset_max, KEPT, spectrum
        )
        if observation.edisp is not None:
            maps["exposure_reco"] = _exposure_reco(observation, observation.edisp, exposure, options)
        maps["exposure"] = exposure
    maps |= _response_maps(observation, options)
    target_deg = options.geometry.center_deg
    mask = make_mask_safe(observation, geom, options.energy, offset_max, options.safe_mask, target_deg)
    # Where no response reaches, counts mean nothing: the tables end in energy as they do in offset.
    is_reached = maps["exposure_reco"].data > 0 if "exposure_reco" in maps else mask.data
    if is_of_source(observation):
        is_reached = np.any(is_reached, axis=(1, 2), keepdims=True)
    maps["mask_safe"] = Cube(mask.data & is_reached, "", geom, (options.energy,))
    gti_s = np.stack([observation.gti.start_s, observation.gti.stop_s], axis=1)
    row = _row(observation, events, maps, options)
    if (tile := options.tile) is not None:
        inside = events.select(tile.holds(events.ra_deg, events.dec_deg))
        own = make_map_counts(inside, geom, options.energy, pointing, offset_max)
        row = {**row, "counts_own": int(own.data.sum())}
    return Reduced(maps, gti_s, row)


def limits_of(observation: Observation, options: ReduceOptions) -> Iterator[str]:
    """Where counts or exposure of an observation end before its largest offset, in words."""
    if observation.point_like:
        yield "point-like: the exposure holds inside the cut on direction only"
    if observation.aeff is not None:
        offset = observation.aeff.offset
        if len(offset) == 1 or offset.lower > 0 or offset.upper < options.offset_max_deg:
            bins = "in one bin " if len(offset) == 1 else ""
            yield f"effective area {bins}from {offset.lower:g} to {offset.upper:g} deg only"
    reach = observation.meta.get("events_offset_max_deg")
    if reach is not None and reach < options.offset_max_deg:
        yield f"events up to {reach:g} deg from the pointing only"


def _acceptance(observation: Observation, rate: BackgroundRate, geom: Geometry, options: ReduceOptions) -> Cube:
    """Acceptance; RunRefused for a background that is aligned with the horizon of an unknown site."""
    how, rotation = options.acceptance.interpolation, None
    background = rate if rate.interpolation == how else replace(rate, interpolation=how)
    if background.alignment == "ALTAZ":
        if observation.site is None:
            needs = "FOVALIGN = 'ALTAZ' needs the position of the observatory"
            raise RunRefused(f"run {observation.obs_id}: {needs}: expected GEOLON and GEOLAT in the header of EVENTS")
        rotation = make_field_rotation(observation.gti, observation.site, observation.pointing)
    pointing, ontime_s, offset_max = observation.pointing, observation.ontime_s, options.offset_max_deg
    return make_map_hadron_acceptance(pointing, ontime_s, background, geom, options.energy, offset_max, rotation, KEPT)


def _exposure_reco(observation: Observation, edisp: EnergyDispersion, exposure: Cube, options: ReduceOptions) -> Cube:
    """Exposure in reconstructed energy; RunRefused for a spectrum so steep that it is beyond any number."""
    with np.errstate(all="ignore"):
        reco = make_map_exposure_reco_energy(
            exposure, observation.pointing, edisp, options.energy, options.spectrum, KEPT, observation.aeff
        )
    wrong = np.flatnonzero(~np.isfinite(reco.data).all(axis=(1, 2)))
    if wrong.size:
        lower, upper = options.energy.edges[wrong[0] : wrong[0] + 2]
        found = f"{options.spectrum} has next to no flux at {lower:.3g} to {upper:.3g} TeV"
        expected = "expected enough for an exposure there: a spectrum that falls less, or lower energies"
        raise RunRefused(f"run {observation.obs_id}: spectrum: {found}, {expected}")
    return reco


def _response_maps(observation: Observation, options: ReduceOptions) -> dict[str, Cube]:
    """Maps on the coarse grid of the responses."""
    pointing, energy_true, weights = observation.pointing, options.energy_true, (observation.aeff, options.spectrum)
    # A coarse pixel counts if any part of it can lie within the largest offset.
    radius = options.offset_max_deg + options.irf_geometry.pixel_deg * np.sqrt(0.5)
    geom = make_cutout(options.irf_geometry, pointing.ra_deg, pointing.dec_deg, radius)
    maps: dict[str, Cube] = {}
    if observation.aeff is not None:
        maps["irf_exposure"] = make_map_exposure_true_energy(
            pointing, observation.livetime_s, observation.aeff, geom, energy_true, radius, spectrum=options.spectrum
        )
    if observation.psf is not None:
        maps["psf"] = make_psf_map(pointing, observation.psf, geom, energy_true, options.rad, *weights, KEPT)
    if observation.edisp is not None:
        maps["edisp"] = make_edisp_map(pointing, observation.edisp, geom, energy_true, options.energy, *weights)
    return {name: cube.to_float32() for name, cube in maps.items()}


def _row(observation: Observation, events: EventList, maps: Maps, options: ReduceOptions) -> dict[str, Cell]:
    """What the run table says of a run that was reduced."""
    mask, offset_max = maps["mask_safe"], options.offset_max_deg
    filled = np.flatnonzero(maps["counts"].data)  # few bins
    counts, is_safe = maps["counts"].data.ravel()[filled], mask.data.ravel()[filled]
    is_unknown = is_safe & (maps["acceptance"].data.ravel()[filled] <= 0) if "acceptance" in maps else [False]
    safe = np.flatnonzero(mask.data.any(axis=(1, 2)))
    aeff, edisp, beyond = observation.aeff, observation.edisp, None
    if aeff is not None and edisp is not None and safe.size:
        with np.errstate(all="ignore"):
            share = share_beyond(aeff, edisp, options.energy_true, options.energy, options.spectrum, offset_max)
        beyond = float(share[safe].max())
    return {
        "obs_id": observation.obs_id,
        "ra_pnt_deg": observation.pointing.ra_deg,
        "dec_pnt_deg": observation.pointing.dec_deg,
        "tstart_mjd": float(to_mjd(observation.gti.start_s)[0]),
        "tstop_mjd": float(to_mjd(observation.gti.stop_s)[-1]),
        "ontime_s": observation.ontime_s,
        "livetime_s": observation.livetime_s,
        # lower edge of the first bin that is safe anywhere
        "energy_threshold_tev": mask.axis("energy").edges[safe[0]] if safe.size else None,
        "n_events": len(observation.events),
        "n_events_gti": len(events),
        "counts": int(counts.sum()),
        "counts_safe": int(counts.sum(where=is_safe)),
        "counts_without_acceptance": int(counts.sum(where=is_unknown)),
        "is_pointlike": observation.point_like,
        "limits": "; ".join(limits_of(observation, options)),
        "quirks": list(observation.quirks),
        "repairs": dict(observation.repairs),
        **{name: value for name, value in observation.meta.items() if isinstance(value, (int, float, str))},
        "counts_cut": count_cut(observation, events, mask, offset_max, options.safe_mask, options.geometry.center_deg),
        "beyond_energy_true": beyond,
    }
