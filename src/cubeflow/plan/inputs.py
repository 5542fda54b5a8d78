"""What goes into a run: the content of its HDUs, and what the index says of them."""

from __future__ import annotations

from collections.abc import Iterable

from cubeflow.dl3.classes import missing_types
from cubeflow.dl3.index import HduRef, RunEntry
from cubeflow.plan.digests import DigestCache, HduDigests


class InputError(Exception):
    """An input file of a run is missing or broken; the message names it."""


def input_digests(entry: RunEntry, cache: DigestCache, require: tuple[str, ...]) -> HduDigests:
    """Digest of each input HDU of a run, by what the index says it is: ``events``, ``psf:psf_3gauss``.

    Raises
    ------
    InputError
        If a file is missing, cannot be read, is not the one that the index describes, or lacks an
        HDU the index promises.
    """
    digests: HduDigests = {}
    for ref in entry.hdus:
        in_file = _file_digests(ref, cache)
        name = ref.hdu_name.strip().upper()
        if name not in in_file:
            raise InputError(
                f"{ref.path}: no HDU {ref.hdu_name!r} (row {ref.row} of the index), only {sorted(in_file)}"
            )
        digests[input_name(ref)] = in_file[name]
    missing = missing_types({ref.hdu_type for ref in entry.hdus}, require)
    if missing:
        raise InputError(f"run {entry.obs_id}: {missing}")
    return digests


def input_name(ref: HduRef) -> str:
    """Type and class of an HDU in one word."""
    return ref.hdu_type if ref.hdu_class in ("", ref.hdu_type) else f"{ref.hdu_type}:{ref.hdu_class}"


def index_content(entry: RunEntry) -> dict[str, object]:
    """What the index says of a run that shows in its products: spelling of HDU names, deviations.

    Paths, row numbers, sizes and checksums are left out: they may change while the run stays what it is.
    """
    spelled: Iterable[HduRef] = sorted(entry.hdus, key=input_name)
    return {"names": [ref.hdu_name for ref in spelled], "quirks": sorted(entry.quirks)}


def _file_digests(ref: HduRef, cache: DigestCache) -> HduDigests:
    """Digests of the HDUs of a file that is the one the index describes."""
    try:
        in_file = cache.digests(ref.path)
        if ref.md5 and cache.md5(ref.path) != ref.md5.strip().lower():
            raise InputError(f"{ref.path}: its MD5 is not {ref.md5}, as the index has it")
    except OSError as error:
        raise InputError(f"{ref.path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(str(error)) from error
    return in_file
