"""Read one run from its DL3 files: everything in it, checked, in plain units and one orientation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cubeflow.dl3 import events as tables
from cubeflow.dl3.classes import missing_types, one_per_type
from cubeflow.dl3.entries import HduRef, RunEntry
from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.index import whole_number
from cubeflow.dl3.meta import run_meta
from cubeflow.dl3.opened import OpenedFiles, facts_of
from cubeflow.dl3.quirks import Notes, is_ctobssim, is_hess_dr1
from cubeflow.dl3.response_cache import Response, read_response
from cubeflow.irf.background import Background2D, Background3D, BackgroundRate
from cubeflow.observation import EventList, Gti, Observation, Pointing, RunRefused

ALWAYS = ("events", "gti", "aeff")
RESPONSE_TYPES = ("aeff", "edisp", "psf", "bkg", "rad_max")
ONLY_FULL_ENCLOSURE = ("psf", "bkg")


@dataclass(frozen=True)
class ReadOptions:
    """How a run is read.

    Parameters
    ----------
    require : tuple of str
        HDU types without which a run is refused, besides events, gti and aeff. Of point-like data psf
        and bkg are never required: there are none.
    duplicates : str
        ``refuse`` a run with events that are there twice, or ``drop`` the second of each.
    digests : mapping of str to str, optional
        Content digests (`digest_hdus`) that the HDUs must have, by HDU type: those the run was planned with.
    """

    require: tuple[str, ...] = ("edisp", "psf", "bkg")
    duplicates: str = "refuse"
    digests: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class _Run:
    """EVENTS and GTI of a run, read; `where` names file and HDU of the events."""

    events: EventList
    gti: Gti
    pointing: Pointing
    deadc: float
    header: dict[str, Any]
    where: str
    hess_dr1: bool
    ctobssim: bool
    n_rows: int


def read_observation(entry: RunEntry, options: ReadOptions | None = None) -> Observation:
    """Read a run.

    Every file is read once, whole and into memory. Times become TT seconds since
    `TIME_REFERENCE_MJD`; the background is turned east and north.

    Parameters
    ----------
    entry : RunEntry
        Where its HDUs lie.
    options : ReadOptions, optional
        What is required and how duplicates are dealt with.

    Returns
    -------
    Observation
        With the names of the quirks met and the counts of repairs made.

    Raises
    ------
    RunRefused
        If the run cannot be used: one line that names the run, file, HDU and key, value and what was expected.
    """
    options = options or ReadOptions()
    notes = Notes()
    notes.quirk(*entry.quirks)
    refs = {ref.hdu_type: ref for ref in one_per_type(entry.hdus)}
    try:
        with np.errstate(all="ignore"):  # damaged numbers are found by the checks
            _require(refs, ALWAYS)
            files = OpenedFiles(options.digests or {})
            run = _read_run(entry.obs_id, refs, files, options, notes)
            responses = _read_responses(refs, files, run, options)
    except (FileRefused, RunRefused) as error:
        raise RunRefused(f"run {entry.obs_id}: {error}") from error
    return _assemble(entry.obs_id, run, responses, notes)


def _require(found: dict[str, Any], required: tuple[str, ...]) -> None:
    """Refuse a run that lacks an HDU, and say what could be made without it."""
    missing = missing_types(found, required)
    if missing:
        raise RunRefused(missing)


def _read_run(obs_id: int, refs: dict[str, HduRef], files: OpenedFiles, options: ReadOptions, notes: Notes) -> _Run:
    """EVENTS and GTI, and what their headers say of the run."""
    table = files.table(refs["events"], notes)
    header, where = table.header, str(table.hdu)
    _check_obs_id(header, obs_id, where, notes)
    pointing, deadc = tables.read_pointing(header, where, notes), tables.read_deadc(header, where)
    events = tables.read_events(table, notes, options.duplicates)
    gti = tables.read_gti(files.table(refs["gti"], notes), notes)
    outside = len(events) - int(np.count_nonzero(gti.contains(events.time_s)))
    if outside == len(events) > 0:
        raise RunRefused(f"{where}: none of the {outside} events lies in a good time interval")
    notes.repair("events_outside_gti", outside)
    tables.note_far_events(events, pointing, notes)
    facts = facts_of("events", table)
    return _Run(events, gti, pointing, deadc, header, where, is_hess_dr1(facts), is_ctobssim(facts), table.n_rows)


def _per_ontime(background: BackgroundRate | None, run: _Run) -> BackgroundRate | None:
    """Background rate per ontime; that of ctobssim is per livetime."""
    if not run.ctobssim or not isinstance(background, Background2D | Background3D):
        return background
    return replace(background, rate=background.rate * run.deadc)


def _check_obs_id(header: dict[str, Any], obs_id: int, where: str, notes: Notes) -> None:
    """Refuse events of another run than the index says."""
    if header.get("OBS_ID") is None:
        notes.quirk("obs-id-missing")
    elif whole_number(header["OBS_ID"]) != obs_id:
        raise RunRefused(f"{where}: OBS_ID = {header['OBS_ID']!r}, expected {obs_id} as in the index")


def _read_responses(
    refs: dict[str, HduRef], files: OpenedFiles, run: _Run, options: ReadOptions
) -> dict[str, Response]:
    """Responses by HDU type; of point-like data without PSF and background."""
    path = refs["events"].path
    responses = {"aeff": read_response(refs["aeff"], files, path, run.hess_dr1)}
    left_out = ONLY_FULL_ENCLOSURE if responses["aeff"].point_like else ()
    _require(refs, tuple(hdu_type for hdu_type in options.require if hdu_type not in left_out))
    for hdu_type in RESPONSE_TYPES[1:]:
        if hdu_type in refs and hdu_type not in left_out:
            responses[hdu_type] = read_response(refs[hdu_type], files, path, run.hess_dr1)
    return responses


def _assemble(obs_id: int, run: _Run, responses: dict[str, Response], notes: Notes) -> Observation:
    """Put the parts together, with all that was noted."""
    for response in responses.values():
        notes.add(response.notes.quirks, response.notes.repairs)
    aeff = responses["aeff"]
    values = {hdu_type: response.value for hdu_type, response in responses.items()}
    rad_max = values.get("rad_max", aeff.rad_max)
    notes.quirk(*(["rad-max-missing"] if aeff.point_like and rad_max is None else []))
    meta = {**run_meta(run.header, run.where, run.gti, notes), "deadc": run.deadc, "event_count": run.n_rows}
    meta |= {"lo_thres_tev": aeff.value.lo_thres_tev, "hi_thres_tev": aeff.value.hi_thres_tev}
    return Observation(
        obs_id=obs_id,
        events=run.events,
        gti=run.gti,
        pointing=run.pointing,
        deadc=run.deadc,
        aeff=aeff.value,
        edisp=values.get("edisp"),
        psf=values.get("psf"),
        background=_per_ontime(values.get("bkg"), run),
        rad_max=rad_max,
        point_like=aeff.point_like,
        site=tables.read_site(run.header, run.where),
        quirks=tuple(sorted(notes.quirks)),
        repairs=dict(sorted(notes.repairs.items())),
        meta=meta,
    )
