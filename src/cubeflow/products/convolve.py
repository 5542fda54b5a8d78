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


@dataclass(frozen=True, eq=False)
class PairTransform:
    """Fourier transform of two images at once, the second one as imaginary part.

    Parameters
    ----------
    spectrum : array of complex, the padded shape
        Transform of first + i x scale x second.
    scale : float
        A power of two that brings the second image to the size of the first, so that neither loses digits.
    shape : tuple of int
        Shape (ny, nx) of the images.
    """

    spectrum: ComplexArray
    scale: float
    shape: Shape


def good_length(n: int) -> int:
    """Smallest length from `n` on that is a product of 2, 3 and 5, for which the transform is fast."""
    best = 1 << max(n - 1, 0).bit_length()
    for fives in (5**k for k in range(n.bit_length())):
        for odd in (fives * 3**k for k in range(n.bit_length())):
            if odd < best:
                best = min(best, odd << max(-(-n // odd) - 1, 0).bit_length())
    return best


def fft_shape(shape: Shape, reach_pix: float) -> Shape:
    """Good FFT lengths for a map of that shape, padded so that nothing within `reach_pix` wraps around."""
    widest = Annulus(0.0, reach_pix)
    ny, nx = (good_length(n + widest.reach(n)) for n in shape)
    return ny, nx


def transform_pair(first: NDArray[Any], second: NDArray[Any], padded: Shape) -> PairTransform:
    """Transform of two finite, real images of one shape (ny, nx), padded with zeros."""
    ny, nx = first.shape
    size_first, size_second = (float(np.abs(image).max(initial=0)) for image in (first, second))
    scale = 2.0 ** np.rint(np.log2(size_first / size_second)) if size_first > 0 and size_second > 0 else 1.0
    packed = np.zeros(padded, np.complex128)
    packed.real[:ny, :nx] = first
    np.multiply(second, scale, out=packed.imag[:ny, :nx])
    return PairTransform(np.fft.fft2(packed), float(scale), (ny, nx))


@lru_cache(maxsize=32)
def _ring_transform(ring: Annulus, shape: Shape, padded: Shape) -> FloatArray:
    """Transform of the ring about pixel (0, 0); real, because the ring is symmetric."""
    reach_y, reach_x = (ring.reach(n) for n in shape)
    dy, dx = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    inside = ring.contains(dy, dx)
    kernel = np.zeros(padded)
    kernel[dy[inside], dx[inside]] = 1.0
    return np.ascontiguousarray(transform_pair(kernel, np.zeros_like(kernel), padded).spectrum.real)


def sum_pair(pair: PairTransform, ring: Annulus) -> tuple[FloatArray, FloatArray]:
    """Sums of both images over the ring about each pixel, each of shape (ny, nx)."""
    ny, nx = pair.shape
    padded = (pair.spectrum.shape[0], pair.spectrum.shape[1])
    product = pair.spectrum * _ring_transform(ring, pair.shape, padded)
    sums = np.fft.ifft2(product)[:ny, :nx]
    return sums.real, sums.imag / pair.scale


def sum_both_around(first: NDArray[Any], second: NDArray[Any], ring: Annulus) -> tuple[FloatArray, FloatArray]:
    """Sum each of two images (ny, nx) over the ring about each pixel; beyond the image there is nothing.

    Parameters
    ----------
    first, second : array, shape (ny, nx)
        Finite values.
    ring : Annulus
        The pixels to be summed.

    Returns
    -------
    sums : two arrays, shape (ny, nx)
        Each accurate to about 1e-15 of its largest sum.
    """
    ny, nx = first.shape
    return sum_pair(transform_pair(first, second, fft_shape((ny, nx), ring.r_out)), ring)


def sum_around(image: NDArray[Any], ring: Annulus) -> FloatArray:
    """Sum one image over the ring about each pixel; see `sum_both_around`."""
    return sum_both_around(image, np.zeros_like(image), ring)[0]


def count_around(image: NDArray[Any], ring: Annulus) -> NDArray[np.int64]:
    """Sum of an image of whole numbers (or of a mask) over the ring about each pixel, exact; shape (ny, nx)."""
    return np.rint(sum_around(image, ring)).astype(np.int64)


def without_noise(sums: FloatArray, reached: NDArray[np.bool_], image: FloatArray) -> FloatArray:
    """Exactly 0 where a ring reaches no pixel above 0 of the image, and else at least what one such pixel has.

    Parameters
    ----------
    sums : array, shape (ny, nx)
        Sums of the image over a ring: the Fourier transform leaves rounding noise where there is nothing.
    reached : array of bool, shape (ny, nx)
        Whether the ring holds a pixel above 0, from whole numbers.
    image : array, shape (ny, nx)
        Values >= 0.
    """
    least = np.min(image, where=image > 0, initial=np.inf)
    return np.where(reached, np.maximum(sums, least), 0.0)
