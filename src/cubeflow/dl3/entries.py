"""What a store of DL3 files consists of: runs, where their HDUs may lie, and which kind of table each is."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import Hdu, Header
from cubeflow.errors import MistakeError
from cubeflow.observation import RunRefused

BY_HDUCLAS2 = {"EFF_AREA": "aeff", "EDISP": "edisp", "RPSF": "psf", "PSF": "psf", "BKG": "bkg", "RAD_MAX": "rad_max"}
HDU_TYPES = frozenset(("events", "gti", *BY_HDUCLAS2.values()))  # others of an index are never looked at
# HDU_CLASS, a column that only this class has; in the order of preference where a run has several
BY_COLUMN = (
    ("aeff_2d", "EFFAREA"),
    ("edisp_2d", "MATRIX"),
    ("psf_table", "RPSF"),
    ("psf_3gauss", "SIGMA_1"),
    ("psf_king", "GAMMA"),
    ("rad_max_2d", "RAD_MAX"),
    ("bkg_3d", "DETX_LO"),
    ("bkg_2d", "BKG"),
    ("bkg_2d", "BGD"),
)
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


@dataclass(frozen=True)
class RunEntry:
    """One run of a store."""

    obs_id: int
    hdus: tuple[HduRef, ...]
    obs_info: Header = field(default_factory=dict)  # of the observation index, or of EVENTS where there is no index
    quirks: tuple[str, ...] = ()  # deviations of the index from the format


@dataclass(frozen=True)
class Store:
    """Runs of a store.

    Parameters
    ----------
    path : str
        Folder or pattern it was opened with.
    runs : tuple of RunEntry
        In order of their ids.
    refused : mapping of int to str
        Runs that the index or their files rule out, with the reason.
    problems : tuple of str
        Files below the folder that nobody reads, with the reason.
    left_out : tuple of str
        Those of them that ought to be read: files without an index that hold a run, or may, but cannot be read, and a
        second file of one run. The others are no FITS files, have no EVENTS, or are not in the index.
    refused_infos : mapping of int to mapping
        Values of the observation index for runs that are refused, as far as it has them.
    """

    path: str
    runs: tuple[RunEntry, ...]
    refused: Mapping[int, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    refused_infos: Mapping[int, Header] = field(default_factory=dict)


def classify(hdu: Hdu) -> tuple[str, str]:
    """HDU_TYPE and HDU_CLASS of an HDU as an index would list them; two empty strings if it is none of ours."""
    kind = text(hdu.header, "HDUCLAS1").upper()
    name = hdu.name.upper()
    if "EVENTS" in (kind, name):
        return "events", "events"
    if "GTI" in (kind, name):
        return "gti", "gti"
    if kind != "RESPONSE":
        return "", ""
    hdu_type = BY_HDUCLAS2.get(text(hdu.header, "HDUCLAS2").upper(), "")
    hdu_class = response_class(hdu)
    return (hdu_type, hdu_class) if hdu_type and hdu_class.startswith(hdu_type) else ("", "")


def response_class(hdu: Hdu) -> str:
    """HDU_CLASS of a response by its columns; empty if none fits."""
    columns = {str(value).strip().upper() for key, value in hdu.header.items() if key.startswith("TTYPE")}
    return next((name for name, column in BY_COLUMN if column in columns), "")


def direction_of(info: Header, kind: Literal["PNT", "OBJ"] = "PNT") -> tuple[float, float] | None:
    """Right ascension and declination of pointing or object in a row of the index, deg; None unless in range."""
    try:
        ra_deg, dec_deg = (float(str(info.get(f"{axis}_{kind}"))) for axis in ("RA", "DEC"))
    except ValueError:
        return None
    return (ra_deg, dec_deg) if -180 <= ra_deg < 540 and -90 <= dec_deg <= 90 else None


def one_per_type(refs: Iterable[HduRef]) -> tuple[HduRef, ...]:
    """One reference for each type of HDU: a run may have its PSF or background in several formats."""
    rank = {hdu_class: place for place, (hdu_class, _) in reversed(list(enumerate(BY_COLUMN)))}
    chosen: dict[str, HduRef] = {}
    for ref in refs:
        known = chosen.setdefault(ref.hdu_type, ref)
        if rank.get(ref.hdu_class, len(rank)) < rank.get(known.hdu_class, len(rank)):
            chosen[ref.hdu_type] = ref
    return tuple(chosen.values())


def by_name(hdus: Sequence[Hdu]) -> dict[str, Hdu]:
    """HDUs of a file by upper-case name; the first of several counts."""
    return {hdu.name.upper(): hdu for hdu in reversed(hdus)}


def find_hdu(hdus: Mapping[str, Hdu], ref: HduRef) -> Hdu:
    """HDU, of those `by_name`, that a reference names, without regard to case; raises FileRefused if there is none."""
    found = hdus.get(ref.hdu_name.strip().upper())
    if found is not None:
        return found
    row = "" if ref.row is None else f" (row {ref.row} of the index)"
    names = [hdu.name or "(unnamed)" for hdu in hdus.values()][::-1]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    raise FileRefused(f"{ref.path}: no HDU {ref.hdu_name!r}{row}, only {', '.join(names[:MAX_NAMED])}{more}")


def whole_number(value: object) -> int | None:
    """Whole number of a header value that may be written as text; None if it is none."""
    if isinstance(value, str) and value.strip().lstrip("+-").isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


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


@dataclass
class Resolver:
    """Turns FILE_DIR and FILE_NAME into checked paths; folders are resolved once."""

    base: Path  # resolved folder that FILE_DIR is relative to
    allowed: tuple[Path, ...]  # resolved folders that files may lie in
    folders: dict[str, Path] = field(default_factory=dict)  # resolved and allowed, by FILE_DIR as written

    def resolve(self, file_dir: str, file_name: str) -> Path:
        """Path of an indexed file with links resolved; FileRefused unless it is a regular file that may be read.

        For a file outside the allowed folders the message holds the line to add to the configuration.
        """
        if not file_name or not (file_dir + file_name).isprintable():
            raise FileRefused(f"index: FILE_DIR, FILE_NAME = {file_dir!r}, {file_name!r}: no name of a file")
        head, name = os.path.split(Path(file_dir) / file_name)  # without FILE_DIR it stays relative
        try:
            folder = self.folders.get(head)
            if folder is None:
                folder = (self.base / head).resolve()
                self._require_allowed(folder)
                self.folders[head] = folder
            path = folder / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                path = path.resolve()
                self._require_allowed(path.parent)
                mode = path.lstat().st_mode
        except OSError as error:
            raise FileRefused(f"{error.filename or file_name}: {error.strerror or error}") from error
        except RuntimeError as error:
            raise FileRefused(f"{self.base / head / name}: {error}") from error
        if not stat.S_ISREG(mode):
            raise FileRefused(f"{path}: expected a regular file")
        return path

    def _require_allowed(self, folder: Path) -> None:
        """Refuse a folder outside the allowed ones."""
        if not any(folder.is_relative_to(root) for root in self.allowed):
            # The line allows what `folder` has in common with the index, unless that is as wide as a home.
            common = next(parent for parent in (folder, *folder.parents) if self.base.is_relative_to(parent))
            root = common if len(common.parts) > 2 and common != Path.home() else folder
            line = f'data: {{roots: ["{root}"]}}'
            raise FileRefused(f"{folder}: outside {self.base}; to allow it, add to the configuration: {line}")


def make_resolver(base: Path, index_folder: Path, roots: Iterable[Path]) -> Resolver:
    """Resolver for an index in `index_folder` whose FILE_DIR are relative to `base`."""
    return Resolver(base.resolve(), (index_folder.resolve(), *(Path(root).resolve() for root in roots)))
