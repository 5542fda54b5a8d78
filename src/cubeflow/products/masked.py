"""Masks plane by plane: neighbouring energies mostly have the same mask, which is then prepared once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


def mask_factors(mask: BoolArray, dtype: Any = "f8") -> Iterator[NDArray[Any]]:
    """Planes of a mask as numbers 0 and 1.

    Parameters
    ----------
    mask : array of bool, shape (n, ny, nx)
        Mask; it may be a broadcast view.
    dtype : dtype
        Type of the numbers: that of the planes they are multiplied with, so that nothing is converted in between.

    Yields
    ------
    array, shape (ny, nx)
        The same array again for a plane equal to the one before.
    """
    before: BoolArray | None = None
    factor = np.empty(0, dtype)
    for plane in mask:
        if before is None or not np.array_equal(plane, before):
            before, factor = plane, plane.astype(dtype)
        yield factor


def masked_planes(values: NDArray[Any], mask: BoolArray, dtype: Any) -> Iterator[NDArray[Any]]:
    """Planes of values, and 0 where a mask is False, whatever stands there: a NaN or an infinity, too.

    Parameters
    ----------
    values : array, shape (n, ny, nx)
        Values.
    mask : array of bool, shape (n, ny, nx)
        True where they count; it may be a broadcast view.
    dtype : dtype
        Type of the planes.

    Yields
    ------
    array, shape (ny, nx)
        The same array for each plane: it holds until the next one is asked for.
    """
    product = np.empty(values.shape[1:], dtype)
    for plane, inside, factor in zip(values, mask, mask_factors(mask, dtype), strict=True):
        with np.errstate(invalid="ignore"):
            np.multiply(plane, factor, out=product)
        # Far faster than `where`, which is needed only beside what is not finite and does not count.
        if not is_finite(product):
            product[...] = np.where(inside, plane, 0)
        yield product


def masked_sum(values: NDArray[Any], mask: BoolArray) -> NDArray[np.float64]:
    """Sum of `masked_planes` over the planes, shape (ny, nx): planes of one mask are added before it is applied."""
    total = np.zeros(values.shape[1:])
    start = 0
    for stop in [*mask_changes(mask), len(mask)]:
        part = np.zeros_like(total)
        with np.errstate(invalid="ignore"):  # infinities of both signs where the mask is False
            for plane in values[start:stop]:
                part += plane
            part *= mask[start]
        if not is_finite(part):
            part = np.where(mask[start:stop], values[start:stop], 0).sum(axis=0, dtype=np.float64)
        total += part
        start = stop
    return total


def masked_any(mask: BoolArray) -> BoolArray:
    """Whether a mask is True at any plane, shape (ny, nx)."""
    return np.logical_or.reduce([mask[index] for index in (0, *mask_changes(mask))])


def mask_changes(mask: BoolArray) -> list[int]:
    """Planes of a mask, shape (n, ny, nx), that differ from the one before."""
    return [index for index in range(1, len(mask)) if not np.array_equal(mask[index], mask[index - 1])]


def is_finite(values: NDArray[Any]) -> bool:
    """Whether there is no NaN and no infinity among numbers of any type."""
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def masked_counts(counts: NDArray[Any], mask: BoolArray) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Where counts are that a mask keeps.

    Parameters
    ----------
    counts : array, shape (n, ny, nx)
        Mostly zero.
    mask : array of bool, shape (n, ny, nx)
        True where they are kept.

    Returns
    -------
    plane, pixel, value : array, shape (k,)
        Index of the plane, flat index of the pixel in it, and the counts there.
    """
    flat = np.flatnonzero(counts != 0)  # five times as fast as to look for integers
    flat = flat[mask.reshape(-1)[flat]]
    plane, pixel = np.divmod(flat, counts.shape[-2] * counts.shape[-1])
    return plane, pixel, counts.reshape(-1)[flat]
