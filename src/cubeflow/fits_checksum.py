"""Checksums of FITS.

References
----------
FITS standard 4.0, appendix J, https://fits.gsfc.nasa.gov/fits_standard.html
"""

from __future__ import annotations

import numpy as np

PIECE = 1 << 18  # bytes that are summed at a time: they stay in the cache
NOT_ALPHANUMERIC = frozenset([*range(0x3A, 0x41), *range(0x5B, 0x61)])


def ones_complement_sum(data: bytes | memoryview, start: int = 0) -> int:
    """32-bit ones-complement sum of big-endian words; zeros fill the last one."""
    whole = len(data) // 4 * 4
    total = start + int.from_bytes(bytes(data[whole:]).ljust(4, b"\0"), "big")
    for first in range(0, whole, PIECE):
        total += int(np.frombuffer(data[first : min(first + PIECE, whole)], "=u4").byteswap().sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encode_checksum(value: int) -> str:
    """Write a 32-bit checksum as 16 alphanumeric characters.

    References
    ----------
    FITS standard 4.0, appendix J.
    """
    characters = [0] * 16
    for position, byte in enumerate(value.to_bytes(4, "big")):
        for place, character in enumerate(_four_characters(byte)):
            characters[4 * place + position] = character
    return bytes(characters[-1:] + characters[:-1]).decode("ascii")


def _four_characters(byte: int) -> list[int]:
    """Four alphanumeric codes that add up to `byte` + 4 x ``'0'``."""
    quarter, rest = divmod(byte, 4)
    codes = [quarter + rest + 0x30, quarter + 0x30, quarter + 0x30, quarter + 0x30]
    while any(code in NOT_ALPHANUMERIC for code in codes):
        for low in (0, 2):
            if codes[low] in NOT_ALPHANUMERIC or codes[low + 1] in NOT_ALPHANUMERIC:
                codes[low] += 1
                codes[low + 1] -= 1
    return codes
