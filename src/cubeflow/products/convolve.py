"""Sums over rings and discs of pixels around every pixel of a map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Shape = tuple[int, int]

# Radii are quotients of two decimal numbers: what lies on the rim must not depend on their last bit.
RIM = 1e-9


@dataclass(frozen=True)
class Annulus:
    """The pixels whose centres lie from `r_in` to `r_out` pixels away, both included; a disc for ``r_in = 0``.

    Parameters
    ----------
    r_in, r_out : float
        Radii in pixels, on the flat pixel grid.

    Raises
    ------
    ValueError
        Unless 0 <= r_in <= r_out and both are finite.
    """

    r_in: float
    r_out: float

    def __post_init__(self) -> None:
        if not 0 <= self.r_in <= self.r_out < np.inf:
            raise ValueError(f"ring: expected 0 <= inner <= outer radius, got {self.r_in} and {self.r_out} pixels")

    def contains(self, dy: NDArray[Any], dx: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether pixels at these distances, in whole pixels, belong to the ring."""
        square = np.square(dy) + np.square(dx)
        return (square >= (self.r_in * (1 - RIM)) ** 2) & (square <= (self.r_out * (1 + RIM)) ** 2)

    def reach(self, n_pixels: int) -> int:
        """Farthest whole pixel of the ring along an axis of that length."""
        return min(int(self.r_out * (1 + RIM)), n_pixels - 1)


def fft_shape(shape: Shape, reach_pix: float) -> Shape:
    """Good FFT lengths for a map of that shape, padded so that nothing within `reach_pix` wraps around."""
    from scipy.fft import next_fast_len

    widest = Annulus(0.0, reach_pix)
    ny, nx = (int(next_fast_len(n + widest.reach(n), real=True)) for n in shape)
    return ny, nx


def transform(image: NDArray[Any], padded: Shape) -> ComplexArray:
    """Fourier transform of an image (ny, nx), padded with zeros."""
    from scipy.fft import rfft2

    return rfft2(image.astype(np.float64, copy=False), s=padded)


@lru_cache(maxsize=32)
def _ring_transform(ring: Annulus, shape: Shape, padded: Shape) -> FloatArray:
    """Transform of the ring about pixel (0, 0); real, because the ring is symmetric."""
    reach_y, reach_x = (ring.reach(n) for n in shape)
    dy, dx = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    inside = ring.contains(dy, dx)
    kernel = np.zeros(padded)
    kernel[dy[inside], dx[inside]] = 1.0
    return np.ascontiguousarray(transform(kernel, padded).real)


def sum_transformed(spectrum: ComplexArray, ring: Annulus, shape: Shape, padded: Shape) -> FloatArray:
    """Sum over the ring about each pixel, shape `shape`, from the image's transform."""
    from scipy.fft import irfft2

    product = spectrum * _ring_transform(ring, shape, padded)
    return irfft2(product, s=padded, overwrite_x=True)[: shape[0], : shape[1]]


def sum_around(image: NDArray[Any], ring: Annulus) -> FloatArray:
    """Sum of an image over the ring about each pixel; beyond the image there is nothing.

    Parameters
    ----------
    image : array, shape (ny, nx)
        Finite values.
    ring : Annulus
        The pixels to be summed.

    Returns
    -------
    sums : array, shape (ny, nx)
        Accurate to about 1e-15 of the largest sum.
    """
    ny, nx = image.shape
    padded = fft_shape((ny, nx), ring.r_out)
    return sum_transformed(transform(image, padded), ring, (ny, nx), padded)


def count_around(image: NDArray[Any], ring: Annulus) -> NDArray[np.int64]:
    """Sum of an image of whole numbers (or of a mask) over the ring about each pixel, exact; shape (ny, nx)."""
    return np.rint(sum_around(image, ring)).astype(np.int64)
