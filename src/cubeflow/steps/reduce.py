"""The step ``reduce``: one observation becomes the maps that everything else is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.maps import Cube, Geometry, make_cutout, zeros
from cubeflow.observation import EventList, Gti, Observation, Pointing, RunRefused, RunSkipped
from cubeflow.products.acceptance import FieldRotation, fill_hadron_acceptance, make_field_rotation
from cubeflow.products.counts import make_map_counts
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.kernels import make_edisp_map, make_psf_map
from cubeflow.products.spectrum import make_spectrum
from cubeflow.steps.pieces import select_time
from cubeflow.steps.safe import make_run_mask
from cubeflow.steps.setup import ReduceSetup

KEPT = "f4"  # type of maps that are no whole numbers


@dataclass(frozen=True, eq=False)
class Reduced:
    """The maps of one observation, as they are kept.

    Parameters
    ----------
    maps : mapping of str to Cube
        ``counts``, ``acceptance``, ``exposure_reco``, ``mask_safe`` (energy, lat, lon), ``exposure``
        (energy_true, lat, lon) on the run's cutout; ``psf``, ``edisp``, ``irf_exposure`` on the
        cutout of the IRF grid. Maps for which the run has no response are absent. Floating-point
        maps are float32: what is computed from them is the same whether they were kept or just made.
    gti_s : array, shape (n, 2)
        Good time intervals, TT s since the time reference.
    livetime_s : float
        Livetime, s.
    row : mapping
        Plain numbers and strings for the run table.
    source : Observation or None
        What the maps were made from beside the counts, without its events; None for maps that were read.
    """

    maps: Mapping[str, Cube]
    gti_s: NDArray[np.float64]
    livetime_s: float
    row: Mapping[str, Any]
    source: Observation | None = None


def reduce_observation(observation: Observation, setup: ReduceSetup) -> Reduced:
    """Make all maps of one observation.

    Parameters
    ----------
    observation : Observation
        Events, responses, pointing and times.
    setup : ReduceSetup
        Geometry, axes and cuts.

    Returns
    -------
    Reduced
        Maps on the run's cutout of the final geometry.

    Raises
    ------
    NoOverlap
        If the observation does not touch the map.
    RunSkipped
        If no good time is selected.
    """
    geom = run_geometry(observation.pointing, setup)
    events = observation.events
    if setup.gti_filter:
        events = events.select(observation.gti.contains(events.time_s))
    counts = make_map_counts(events, geom, setup.energy, observation.pointing, setup.offset_max_deg)
    source = replace(observation, events=observation.events.select(np.zeros(len(observation.events), bool)))
    maps = make_maps(source, counts, setup)
    return Reduced(maps, gti_array(observation.gti), observation.livetime_s, _row(observation, events, maps), source)


def make_maps(
    observation: Observation, counts: Cube, setup: ReduceSetup, mask_safe: Cube | None = None
) -> dict[str, Cube]:
    """Make all maps of an observation whose counts are known.

    Parameters
    ----------
    observation : Observation
        Responses, pointing and times; its events are not looked at.
    counts : Cube, (energy, lat, lon)
        Counts on `run_geometry`.
    setup : ReduceSetup
        Geometry, axes and cuts.
    mask_safe : Cube of bool, (energy, lat, lon), optional
        Safe mask, where it is known.

    Returns
    -------
    dict of str to Cube
        As in `Reduced`.
    """
    maps = _sky_maps(observation, counts, setup) | _response_maps(observation, setup)
    maps["mask_safe"] = mask_safe or make_run_mask(observation, counts.geom, setup)
    return maps


def run_geometry(pointing: Pointing, setup: ReduceSetup) -> Geometry:
    """Cutout of the final geometry that a run can fill; raises NoOverlap."""
    return make_cutout(setup.geometry, pointing.ra_deg, pointing.dec_deg, setup.offset_max_deg, trim=setup.trim)


def gti_array(gti: Gti) -> NDArray[np.float64]:
    """Starts and stops, shape (n, 2)."""
    return np.stack([gti.start_s, gti.stop_s], axis=1)


def in_selected_time(observation: Observation, setup: ReduceSetup) -> Observation:
    """Observation with the events and good time intervals of the selected time; RunSkipped if none is left."""
    if setup.time_mjd is None:
        return observation
    selected = select_time(observation.gti, setup.time_mjd)
    if not selected.start_s.size:
        raise RunSkipped("no good time lies in observations.time")
    # Events between the good time intervals stay only where the time is selected, too.
    span = Gti(observation.gti.start_s[:1], observation.gti.stop_s[-1:])
    kept = observation.events.select(select_time(span, setup.time_mjd).contains(observation.events.time_s))
    return replace(observation, gti=selected, events=kept)


def _sky_maps(observation: Observation, counts: Cube, setup: ReduceSetup) -> dict[str, Cube]:
    """Maps on the fine grid, that of the counts; each is rounded at once, so that one is in memory twice."""
    pointing, offset_max, geom = observation.pointing, setup.offset_max_deg, counts.geom
    maps = {"counts": counts}
    if observation.background is not None:
        maps["acceptance"] = zeros("", geom, setup.energy, dtype=KEPT)
        background, rotation = observation.background.interpolated(setup.interpolation), _field_rotation(observation)
        fill_hadron_acceptance(maps["acceptance"], pointing, observation.ontime_s, background, offset_max, rotation)
    if observation.aeff is not None:
        exposure = make_map_exposure_true_energy(
            pointing, observation.livetime_s, observation.aeff, geom, setup.energy_true, offset_max, KEPT
        )
        if observation.edisp is not None:
            maps["exposure_reco"] = _exposure_reco(observation, observation.edisp, exposure, setup)
        maps["exposure"] = exposure
    return maps


def _exposure_reco(observation: Observation, edisp: EnergyDispersion, exposure: Cube, setup: ReduceSetup) -> Cube:
    """Exposure in reconstructed energy; RunRefused for a spectrum so steep that it is beyond any number."""
    with np.errstate(all="ignore"):
        spectrum = make_spectrum(setup.spectrum)
        reco = make_map_exposure_reco_energy(exposure, observation.pointing, edisp, setup.energy, spectrum, KEPT)
    wrong = np.flatnonzero(~np.isfinite(reco.data).all(axis=(1, 2)))
    if wrong.size:
        lower, upper = setup.energy.edges[wrong[0] : wrong[0] + 2]
        raise RunRefused(
            f"run {observation.obs_id}: spectrum: {dict(setup.spectrum)} has next to no flux at {lower:.3g} to "
            f"{upper:.3g} TeV, expected enough for an exposure there: a spectrum that falls less, or lower energies"
        )
    return reco


def _field_rotation(observation: Observation) -> FieldRotation | None:
    """How the field turns, for a background aligned with the horizon; RunRefused without a site."""
    if observation.background is None or observation.background.alignment != "ALTAZ":
        return None
    if observation.site is None:
        raise RunRefused(
            f"run {observation.obs_id}: FOVALIGN = 'ALTAZ' needs the position of the observatory: "
            "expected GEOLON and GEOLAT in the header of EVENTS"
        )
    return make_field_rotation(observation.gti, observation.site, observation.pointing)


def _response_maps(observation: Observation, setup: ReduceSetup) -> dict[str, Cube]:
    """Maps on the coarse grid of the responses."""
    pointing = observation.pointing
    # A coarse pixel counts if any part of it can lie within the largest offset.
    radius = setup.offset_max_deg + setup.irf_geometry.pixel_deg * np.sqrt(0.5)
    geom = make_cutout(setup.irf_geometry, pointing.ra_deg, pointing.dec_deg, radius, trim=setup.trim)
    maps: dict[str, Cube] = {}
    if observation.aeff is not None:
        maps["irf_exposure"] = make_map_exposure_true_energy(
            pointing, observation.livetime_s, observation.aeff, geom, setup.energy_true, radius
        ).to_float32()
    if observation.psf is not None:
        maps["psf"] = make_psf_map(pointing, observation.psf, geom, setup.energy_true, setup.rad).to_float32()
    if observation.edisp is not None:
        edisp = make_edisp_map(pointing, observation.edisp, geom, setup.energy_true, setup.energy)
        maps["edisp"] = edisp.to_float32()
    return maps


def _threshold(mask: Cube) -> float | None:
    """Lower edge of the first energy bin that is safe anywhere, TeV; None if none is."""
    safe = np.flatnonzero(mask.data.any(axis=(1, 2)))
    return mask.axis("energy").edges[safe[0]] if safe.size else None


def _row(observation: Observation, events: EventList, maps: Mapping[str, Cube]) -> dict[str, Any]:
    """What the run table says of a run that was reduced."""
    safe = maps["mask_safe"].data
    return {
        "obs_id": observation.obs_id,
        "ra_pnt_deg": observation.pointing.ra_deg,
        "dec_pnt_deg": observation.pointing.dec_deg,
        "ontime_s": observation.ontime_s,
        "livetime_s": observation.livetime_s,
        "energy_threshold_tev": _threshold(maps["mask_safe"]),
        "n_events": len(observation.events),
        "n_events_gti": len(events),
        "counts": int(maps["counts"].data.sum()),
        "counts_safe": int(maps["counts"].data.sum(where=safe)),
        "quirks": list(observation.quirks),
        "repairs": dict(observation.repairs),
        **{name: value for name, value in observation.meta.items() if isinstance(value, (int, float, str))},
    }
