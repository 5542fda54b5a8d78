"""Read one run from its DL3 files: everything in it, checked, in plain units and one orientation."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cubeflow.dl3.classes import class_by_columns, classify, one_per_type, type_of
from cubeflow.dl3.entries import HduRef, RunEntry, by_name, find_hdu, require_types, text, whole_number
from cubeflow.dl3.events import note_odd_events, read_events, read_gti, read_pointing, read_site, run_meta
from cubeflow.dl3.files import CHANGED, FileRefused, InputChanged
from cubeflow.dl3.hdus import Hdu, Header, Table, open_table, read_hdus
from cubeflow.dl3.quirks import RESPONSES, Facts, Notes, header_quirks, is_ctobssim, is_hess_dr1
from cubeflow.dl3.responses import READERS, rad_max_from_key, read_bkg_3d
from cubeflow.dl3.tables import Conditions, number, select_rows
from cubeflow.errors import MistakeError
from cubeflow.observation import Gti, Observation, RunRefused, Site

ALWAYS = ("events", "gti", "aeff")
ONLY_FULL_ENCLOSURE = ("psf", "bkg")


@dataclass(frozen=True)
class ReadOptions:
    """How a run is read."""

    # HDU types without which a run is refused, besides events, gti and aeff; of point-like data never psf and bkg
    require: tuple[str, ...] = ("edisp", "psf", "bkg")
    duplicates: str = "refuse"  #: ``refuse`` a run with events that are there twice, or ``drop`` the second of each
    digests: Mapping[str, str] | None = None  #: of all files of the run by path, as it was planned (`digest_file`)
    where: Conditions | None = None  #: on the columns of EVENTS: only events for which they hold
    event_type: str | None = None  #: type of events whose HDUs are read, where the index has some for types


class _Source(NamedTuple):
    """A file, and what tells it from another under the same name: size, time of change, digest if it is known."""

    path: Path
    size: int
    mtime_ns: int
    sha256: str | None


class _File(NamedTuple):
    """What was read of a file."""

    hdus: Mapping[str, Sequence[Hdu]]  # by upper-case name
    n_bytes: int  # decompressed
    is_shared: bool  # holds several runs


class _Response(NamedTuple):
    """One response with what was noted while it was read; `rad_max` is from the key RAD_MAX."""

    value: Any
    notes: Notes
    header: Header
    rad_max: float | None


def read_observation(entry: RunEntry, options: ReadOptions | None = None) -> Observation:
    """Read a run.

    Every file is read once, whole. Times become TT seconds since `TIME_REFERENCE_MJD`; the background is turned east
    and north. The observation has the names of the quirks met and the counts of repairs made.

    Raises RunRefused if the run cannot be used: one line that names the run, file (without its folder), HDU and key,
    value and what was expected. With digests it names no file: the reason is kept for content, whatever it is called.
    Raises InputChanged if a file is no longer the one of the digests.
    """
    options = options or ReadOptions()
    notes = Notes()
    notes.quirk(*entry.quirks)
    with _refusing(entry, is_planned=options.digests is not None):
        refs = {ref.hdu_type: ref for ref in one_per_type(entry.of_event_type(options.event_type).hdus)}
        require_types(refs, ALWAYS)
        sources = {ref.path: _source(ref.path, options.digests) for ref in refs.values()}
        table = _open_table(refs["events"], sources[refs["events"].path], notes)
        header, where, facts = table.header, str(table.hdu), Facts("events", table.header, {})
        if header.get("OBS_ID") is None:
            notes.quirk("obs-id-missing")
        elif whole_number(header["OBS_ID"]) != entry.obs_id:
            raise RunRefused(f"{where}: OBS_ID = {header['OBS_ID']!r}, expected {entry.obs_id} as in the index")
        pointing, deadc = read_pointing(header, where, notes), number(header, "DEADC", where)
        if not 0 < deadc <= 1:
            raise RunRefused(f"{where}: DEADC = {deadc}, expected above 0 and at most 1")
        events = read_events(table, notes, options.duplicates, options.where)
        gti = read_gti(_open_table(refs["gti"], sources[refs["gti"].path], notes), notes)
        note_odd_events(events, gti, pointing, where, notes)

        responses = _read_responses(refs, sources, is_hess_dr1(facts), options)
        for response in responses.values():
            notes.add(response.notes)
        aeff = responses["aeff"]
        values = {hdu_type: response.value for hdu_type, response in responses.items()}
        rad_max = values.get("rad_max", aeff.rad_max)
        point_like = is_pointlike(aeff.header, refs)
        if point_like and (rad_max is None or not text(aeff.header, "HDUCLAS3")):
            notes.quirk("rad-max-missing" if rad_max is None else "point-like-by-rad-max")
        background = values.get("bkg")
        if is_ctobssim(facts) and background is not None:
            background = replace(background, rate=background.rate * deadc)  # theirs is per livetime
        meta = {**run_meta(header, where, gti, pointing, notes), "deadc": deadc, "event_count": len(table.rows)}
        meta |= {"lo_thres_tev": aeff.value.lo_thres_tev, "hi_thres_tev": aeff.value.hi_thres_tev}
        found = aeff.value, values.get("edisp"), values.get("psf"), background, point_like
        site, noted = read_site(header, where), (tuple(sorted(notes.quirks)), dict(sorted(notes.repairs.items())))
        return Observation(entry.obs_id, events, gti, pointing, deadc, *found, site, *noted, meta)


def require_columns(entries: Iterable[RunEntry], where: Conditions, event_type: str | None = None) -> None:
    """MistakeError if conditions on events fit no run, as far as runs can be read; the first that they fit ends it."""
    mistakes: list[MistakeError] = []
    for entry in entries:
        with suppress(RunRefused), _refusing(entry, is_planned=False):
            refs = {ref.hdu_type: ref for ref in entry.of_event_type(event_type).hdus}
            require_types(refs, ("events",))
            table = _open_table(refs["events"], _source(refs["events"].path, None), Notes())
            try:
                select_rows(table, where)
                return
            except MistakeError as error:
                mistakes.append(error)
    if mistakes:
        raise mistakes[0]


def read_gti_and_site(entry: RunEntry, digests: Mapping[str, str]) -> tuple[Gti, Site | None]:
    """Good time intervals of a run and where its telescopes stand; raises as `read_observation`."""
    with _refusing(entry, is_planned=True):
        refs = {ref.hdu_type: ref for ref in entry.hdus}
        require_types(refs, ("events", "gti"))
        sources = {kind: _source(refs[kind].path, digests) for kind in ("events", "gti")}
        events, gti = (_open_table(refs[kind], source, Notes()) for kind, source in sources.items())
        return read_gti(gti, Notes()), read_site(events.header, str(events.hdu))


def read_enclosure(entry: RunEntry, digests: Mapping[str, str]) -> int:
    """1 if the responses of a run are point-like, -1 if not, 0 if that cannot be read; InputChanged as for a run."""
    try:
        with _refusing(entry, is_planned=True):
            refs = {ref.hdu_type: ref for ref in entry.hdus}
            table = _open_table(refs["aeff"], _source(refs["aeff"].path, digests), Notes())
            return 1 if is_pointlike(table.header, refs) else -1
    except RunRefused:
        return 0


def is_pointlike(aeff: Header, hdu_types: Container[str]) -> bool:
    """Whether responses hold inside a cut on direction only: as HDUCLAS3 says, or where there is none, RAD_MAX."""
    enclosure = text(aeff, "HDUCLAS3").upper()
    return enclosure == "POINT-LIKE" or (not enclosure and ("RAD_MAX" in aeff or "rad_max" in hdu_types))


@contextmanager
def _refusing(entry: RunEntry, is_planned: bool) -> Iterator[None]:
    """Name the run in what refuses it, and no folder; of a planned run no file, but what lies in it."""
    # Of the files that it reads, one that holds several runs stays in memory while runs are read from it.
    _keep_files(lambda source, _: any(ref.path == source.path for ref in entry.hdus))
    try:
        with np.errstate(all="ignore"):  # damaged numbers are found by the checks
            yield
    except InputChanged as error:
        raise InputChanged(f"run {entry.obs_id}: {error}") from error
    except (FileRefused, RunRefused) as error:
        reason, roles = str(error), _roles(entry)
        for path in sorted(roles, key=lambda path: len(str(path)), reverse=True):  # one may begin as another
            reason = reason.replace(str(path), roles[path] if is_planned else path.name)
        raise RunRefused(f"run {entry.obs_id}: {reason}") from error
    finally:
        _keep_files(lambda _, file: file.is_shared)


def _roles(entry: RunEntry) -> dict[Path, str]:
    """What each file of a run is called where its name is not to count."""
    files = {ref.path for ref in entry.hdus}
    held = {path: ", ".join(sorted({ref.hdu_type for ref in entry.hdus if ref.path == path})) for path in files}
    return {path: "file" if len(files) == 1 else f"file of {types}" for path, types in held.items()}


def name_file(reason: str, entry: RunEntry) -> str:
    """Reason that a run is refused for, as it is kept, with the name of the file that it calls by its content."""
    names = {role: path.name for path, role in _roles(entry).items()}
    return re.sub(r"^(run \d+: )?(file[^:\[]*)(?=[:\[])", lambda m: (m[1] or "") + names.get(m[2], m[2]), reason)


def _source(path: Path, digests: Mapping[str, str] | None) -> _Source:
    sha256 = None if digests is None else digests[str(path)]
    try:
        status = path.stat()
    except OSError as error:
        if sha256 is not None:
            raise InputChanged(f"{path}: {error.strerror}: {CHANGED}") from error
        raise FileRefused(f"{path}: {error.strerror or error}") from error
    return _Source(path, status.st_size, status.st_mtime_ns, sha256)


_FILES: dict[tuple[_Source, str | None], _File] = {}  # in memory, by what they are and the MD5 that they have


def _keep_files(is_kept: Callable[[_Source, _File], bool]) -> None:
    for source, md5 in [key for key, file in _FILES.items() if not is_kept(key[0], file)]:
        del _FILES[source, md5]


def _open_table(ref: HduRef, source: _Source, notes: Notes) -> Table:
    """Table of an index row, of a file that is read once for a run; its checksums hold, its quirks are noted."""
    if (source, ref.md5) not in _FILES:
        hdus = read_hdus(source.path, ref.md5, source.sha256)
        n_runs = sum(found is not None and found.hdu_class == "events" for found in map(classify, hdus))
        _FILES[source, ref.md5] = _File(by_name(hdus), sum(len(hdu.content) for hdu in hdus), n_runs > 1)
    file = _FILES[source, ref.md5]
    hdu = find_hdu(file.hdus, ref)
    hdu.check_sums()
    table = open_table(hdu)
    if hdu.name != ref.hdu_name:
        notes.quirk("hdu-name-case")
    if ref.size not in (None, source.size, len(hdu.content), file.n_bytes):
        notes.quirk("index-size-disagrees")
    units = {name: column.unit for name, column in table.columns.items()}
    notes.quirk(*header_quirks(Facts(ref.hdu_type, table.header, units)))
    return table


def _read_responses(
    refs: dict[str, HduRef], sources: dict[Path, _Source], hess_dr1: bool, options: ReadOptions
) -> dict[str, _Response]:
    """Responses by HDU type; of point-like data without PSF and background."""

    def read(hdu_type: str) -> _Response:
        ref = refs[hdu_type]
        if ref.path == refs["events"].path:  # those beside the events belong to one run and are not kept
            return _read_response(ref, sources[ref.path], hess_dr1)
        return _read_shared(ref._replace(row=None), sources[ref.path], hess_dr1)

    responses = {"aeff": read("aeff")}
    left_out = ONLY_FULL_ENCLOSURE if is_pointlike(responses["aeff"].header, refs) else ()
    require_types(refs, tuple(hdu_type for hdu_type in options.require if hdu_type not in left_out))
    wanted = (name for name in RESPONSES[1:] if name in refs and name not in left_out)
    return responses | {hdu_type: read(hdu_type) for hdu_type in wanted}


def _read_response(ref: HduRef, source: _Source, hess_dr1: bool) -> _Response:
    notes = Notes()
    table = _open_table(ref, source, notes)
    hdu_class = class_by_columns(table.columns) or ref.hdu_class
    if hdu_class != ref.hdu_class and ref.hdu_class in READERS:
        notes.quirk("hdu-class-by-columns")
    if type_of(hdu_class) != ref.hdu_type or hdu_class not in READERS:
        raise FileRefused(f"{table.hdu}: HDU_CLASS {ref.hdu_class!r}: no known format of a response {ref.hdu_type!r}")
    is_mirrored = hess_dr1 and hdu_class == "bkg_3d"
    value = read_bkg_3d(table, notes, hess_dr1=True) if is_mirrored else READERS[hdu_class](table, notes)
    may_be_cut = ref.hdu_type == "aeff" and text(table.header, "HDUCLAS3").upper() in ("", "POINT-LIKE")
    return _Response(value, notes, table.header, rad_max_from_key(table) if may_be_cut else None)


_read_shared = lru_cache(maxsize=24)(_read_response)  # runs of CTA-1DC share the file of their responses
