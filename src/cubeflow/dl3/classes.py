"""Which kind of table an HDU is, told by its header and columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cubeflow.dl3.blocks import Hdu
from cubeflow.dl3.entries import HduRef

HDU_TYPES = ("events", "gti", "aeff", "edisp", "psf", "bkg", "rad_max")
BY_HDUCLAS2 = {"EFF_AREA": "aeff", "EDISP": "edisp", "RPSF": "psf", "PSF": "psf", "BKG": "bkg", "RAD_MAX": "rad_max"}
# HDU_CLASS, a column that only this class has
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
# which one to read where a run has several
PREFERENCE = tuple(name for name, _ in BY_COLUMN)


def classify(hdu: Hdu) -> tuple[str, str]:
    """HDU_TYPE and HDU_CLASS of an HDU as an index would list them; two empty strings if it is none of ours."""
    kind = str(hdu.header.get("HDUCLAS1") or "").strip().upper()
    name = hdu.name.upper()
    if "EVENTS" in (kind, name):
        return "events", "events"
    if "GTI" in (kind, name):
        return "gti", "gti"
    if kind != "RESPONSE":
        return "", ""
    hdu_type = BY_HDUCLAS2.get(str(hdu.header.get("HDUCLAS2") or "").strip().upper(), "")
    hdu_class = response_class(hdu)
    return (hdu_type, hdu_class) if hdu_type and hdu_class.startswith(hdu_type) else ("", "")


def response_class(hdu: Hdu) -> str:
    """HDU_CLASS of a response by its columns; empty if none fits."""
    n_fields = hdu.header.get("TFIELDS")
    count = n_fields if isinstance(n_fields, int) and 0 <= n_fields <= 999 else 0
    columns = {str(hdu.header.get(f"TTYPE{i}") or "").strip().upper() for i in range(1, count + 1)}
    return next((name for name, column in BY_COLUMN if column in columns), "")


def one_per_type(refs: Iterable[HduRef]) -> tuple[HduRef, ...]:
    """One reference for each type of HDU: a run may have its PSF or background in several formats."""
    chosen: dict[str, HduRef] = {}
    for ref in refs:
        known = chosen.setdefault(ref.hdu_type, ref)
        if known is not ref and _rank(ref) < _rank(known):
            chosen[ref.hdu_type] = ref
    return tuple(chosen.values())


def _rank(ref: HduRef) -> int:
    """Place of a format in the order of preference; the lowest is read."""
    return PREFERENCE.index(ref.hdu_class) if ref.hdu_class in PREFERENCE else len(PREFERENCE)


def missing_types(found: Collection[str], required: Collection[str]) -> str:
    """Say which HDU types a run lacks, and what could be made without them; empty if it lacks none."""
    missing = [hdu_type for hdu_type in required if hdu_type not in found]
    if not missing:
        return ""
    possible = {"events", "gti"} <= set(found)
    rest = [name for name, needs in PRODUCTS.items() if possible and set(needs) <= set(found)]
    return f"no HDU of type {', '.join(missing)}; without it could be made: {', '.join(rest) or 'nothing'}"
