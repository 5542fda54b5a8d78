"""The block structure of a FITS file in memory: where each HDU begins and ends, and its header.

FITS libraries are silent about much: a truncated file has fewer HDUs, a damaged header other
columns. Here everything that does not add up to the last byte is refused.

References
----------
FITS standard 4.0: https://fits.gsfc.nasa.gov/fits_standard.html
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cubeflow.dl3.cards import Header, parse_header
from cubeflow.dl3.files import FileRefused, read_content

BLOCK = 2880
CARD = 80
MAX_HEADER_BLOCKS = 4000
VOLATILE = (b"CHECKSUM", b"DATASUM ", b"DATE    ", b"HISTORY ", b"COMMENT ", b"        ", b"END     ")
CLASS_KEYS = ("HDUCLASS", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3", "HDUCLAS4")
_SPANNING = ("XTENSION", "SIMPLE", "BITPIX", "PCOUNT", "GCOUNT", "GROUPS", "EXTNAME")
_FULL = 0xFFFFFFFF


class HduDigest(NamedTuple):
    """Content digest of one HDU: its name, its HDUCLAS values and the sha256 of what it holds."""

    name: str
    classes: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, eq=False)
class Hdu:
    """One HDU of a file in memory.

    Parameters
    ----------
    path : Path
        File it comes from, for messages.
    index : int
        Position in the file; 0 is the primary HDU.
    name : str
        EXTNAME as written, ``PRIMARY`` for an unnamed primary HDU.
    cards : bytes
        Header up to and including the END card.
    header_bytes, data_bytes : memoryview
        Both with their padding.
    data_size : int
        Length of the data without padding.
    """

    path: Path
    index: int
    name: str
    cards: bytes
    header_bytes: memoryview
    data_bytes: memoryview
    data_size: int

    @cached_property
    def header(self) -> Header:
        """Keys and values of the header."""
        return parse_header(self.cards)

    def __str__(self) -> str:
        return f"{self.path}[{self.name}]"


def scan_hdus(content: bytes, path: Path) -> tuple[Hdu, ...]:
    """Split a FITS file into its HDUs.

    Raises
    ------
    FileRefused
        If it is no FITS file, is truncated, or a header is damaged or declares data beyond its end.
    """
    if not content.startswith(b"SIMPLE  ="):
        raise FileRefused(f"{path}: no FITS file: expected it to begin with 'SIMPLE  =', got {content[:9]!r}")
    view = memoryview(content)
    hdus: list[Hdu] = []
    position = 0
    while position < len(content) and not _is_fill(content, position):
        hdu = _scan_one(content, view, position, path, len(hdus))
        hdus.append(hdu)
        position += len(hdu.header_bytes) + len(hdu.data_bytes)
    return tuple(hdus)


def _is_fill(content: bytes, position: int) -> bool:
    """Whether the rest holds nothing (some tapes and mirrors pad files)."""
    return content[position] == 0 and not content[position:].strip(b"\0")


def _scan_one(content: bytes, view: memoryview, start: int, path: Path, index: int) -> Hdu:
    """HDU that begins at byte `start`."""
    end = _find_end(content, start, path, index)
    header_size = -(-(end + CARD - start) // BLOCK) * BLOCK
    if start + header_size > len(content):
        raise FileRefused(f"{path}: truncated in the header of HDU {index}")
    cards = content[start : end + CARD]
    if index and not cards.startswith(b"XTENSION="):
        raise FileRefused(f"{path}: HDU {index}: expected XTENSION, got {cards[:9]!r}")
    structure = parse_header(_structural_cards(cards))
    name = str(structure.get("EXTNAME") or ("PRIMARY" if index == 0 else "")).strip()
    data_size = _data_size(structure, f"{path}: HDU {index} ({name})")
    data_start = start + header_size
    padded = -(-data_size // BLOCK) * BLOCK
    if data_start + padded > len(content):
        here = len(content) - data_start
        raise FileRefused(f"{path}: truncated in HDU {index} ({name}): {padded} bytes declared, {here} there")
    data = view[data_start : data_start + padded]
    return Hdu(path, index, name, cards, view[start:data_start], data, data_size)


def _find_end(content: bytes, start: int, path: Path, index: int) -> int:
    """Byte where the END card begins."""
    stop = start + MAX_HEADER_BLOCKS * BLOCK
    end = content.find(b"END" + b" " * 77, start, stop)
    while end != -1 and (end - start) % CARD:
        end = content.find(b"END" + b" " * 77, end + 1, stop)
    if end == -1:
        raise FileRefused(f"{path}: no END in the header of HDU {index}: truncated or no FITS file")
    return end


def _structural_cards(cards: bytes) -> bytes:
    """Cards that say how long the data are and what the HDU is called."""
    every = (cards[i : i + CARD] for i in range(0, len(cards), CARD))
    wanted = tuple(f"{key:<8}".encode() for key in _SPANNING)
    return b"".join(card for card in every if card.startswith((b"NAXIS", *wanted)))


def _data_size(header: Header, where: str) -> int:
    """Length of the data in bytes as the header declares it."""
    naxis = _count(header, "NAXIS", where)
    if naxis > 999:
        raise FileRefused(f"{where}: NAXIS = {naxis}, expected at most 999")
    if naxis == 0:
        return 0
    if header.get("GROUPS") is True:
        raise FileRefused(f"{where}: random groups are not read")
    size = 1
    for axis in range(1, naxis + 1):
        size *= _count(header, f"NAXIS{axis}", where)
    bitpix = header.get("BITPIX")
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise FileRefused(f"{where}: BITPIX = {bitpix!r}, expected 8, 16, 32, 64, -32 or -64")
    extra = _count(header, "PCOUNT", where, 0)
    return abs(int(bitpix)) // 8 * _count(header, "GCOUNT", where, 1) * (size + extra)


def _count(header: Header, key: str, where: str, default: int | None = None) -> int:
    """A header value that must be a whole number >= 0."""
    value = header.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FileRefused(f"{where}: {key} = {value!r}, expected a whole number >= 0")
    return value


def read_hdus(path: Path) -> tuple[Hdu, ...]:
    """Read a file once and split it into its HDUs; raises FileRefused."""
    return scan_hdus(read_content(path), path)


def digest_hdus(path: Path) -> list[HduDigest]:
    """Digest the content of each HDU of a file.

    The digest covers the data and every card that is not volatile (CHECKSUM, DATASUM, DATE, HISTORY,
    COMMENT). It depends neither on compression nor on the other HDUs of the file.

    Raises
    ------
    FileRefused
        If the file cannot be read; see `cubeflow.dl3.files.read_content` and `scan_hdus`.
    """
    return [digest_of(hdu) for hdu in read_hdus(path)]


def digest_of(hdu: Hdu) -> HduDigest:
    """Digest the content of one HDU; see `digest_hdus`."""
    digest = hashlib.sha256()
    classes = dict.fromkeys(CLASS_KEYS, "")
    for i in range(0, len(hdu.cards), CARD):
        card = hdu.cards[i : i + CARD]
        if not card.startswith(VOLATILE):
            digest.update(card)
        if card.startswith(b"HDUCLAS"):
            classes.update({key: str(value) for key, value in parse_header(card).items() if key in classes})
    digest.update(hdu.data_bytes[: hdu.data_size])
    return HduDigest(hdu.name, tuple(classes.values()), digest.hexdigest())


def check_sums(hdu: Hdu) -> None:
    """Compare DATASUM and CHECKSUM with the bytes, where the header has them.

    Raises
    ------
    FileRefused
        If one of them disagrees.
    """
    declared = str(hdu.header.get("DATASUM", "")).strip()
    whole = str(hdu.header.get("CHECKSUM", "")).strip()
    if not declared and not whole:
        return
    data = _ones_complement_sum(hdu.data_bytes)
    if declared and declared != str(data):
        raise FileRefused(f"{hdu}: DATASUM = {declared}, but the data sum to {data}")
    if whole and _ones_complement_sum(hdu.header_bytes, data) not in (0, _FULL):
        raise FileRefused(f"{hdu}: CHECKSUM {whole} does not agree with the content")


def _ones_complement_sum(block: memoryview, start: int = 0) -> int:
    """32-bit ones-complement sum of big-endian words (FITS standard, appendix J)."""
    total = start + int(np.frombuffer(block, dtype=">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & _FULL) + (total >> 32)
    return total
