"""Sums over rings and discs of pixels around every pixel of a map."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.fft import fftn, ifftn, irfft2, rfft2
from numpy.typing import NDArray

from cubeflow.maps import FloatArray, Pair

Shape = tuple[int, ...]  # (ny, nx)

# Radii are quotients of two decimal numbers: what lies on the rim must not depend on their last bit.
RIM = 1e-9


@dataclass(frozen=True)
class Annulus:
    """The pixels of a flat grid whose centres lie from `r_in` to `r_out` pixels away, both included; a disc for 0."""

    r_in: float
    r_out: float

    def __post_init__(self) -> None:
        if not 0 <= self.r_in <= self.r_out < np.inf:
            raise ValueError(f"ring: expected 0 <= inner <= outer radius, got {self.r_in} and {self.r_out} pixels")

    def contains(self, dy: NDArray[Any], dx: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether pixels at these distances, in whole pixels, belong to the ring."""
        square = np.square(dy) + np.square(dx)
        return (square >= (self.r_in * (1 - RIM)) ** 2) & (square <= (self.r_out * (1 + RIM)) ** 2)

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        reach = np.arange(-int(self.r_out) - 1, int(self.r_out) + 2)
        return int(np.count_nonzero(self.contains(reach[:, None], reach)))

    def reach(self, n_pixels: int) -> int:
        """Farthest whole pixel of the ring along an axis of that length."""
        return min(int(self.r_out * (1 + RIM)), n_pixels - 1)


class PairTransform(NamedTuple):
    """Fourier transform of two images of one shape at once: first + i x scale x second, padded."""

    spectrum: NDArray[np.complex128]
    scale: float  # a power of two that brings the second to the size of the first, so that neither loses digits
    shape: Shape  # of the images


def fast_length(least: int) -> int:
    """Smallest number from `least` on without a prime factor above 11: of such lengths transforms are fast."""
    return next(n for n in count(least) if (2 * 3 * 5 * 7 * 11) ** 30 % n == 0)


def fft_shape(shape: Shape, reach_pix: float) -> Shape:
    """Good FFT lengths for a map of that shape, padded so that nothing within `reach_pix` wraps around."""
    widest = Annulus(0.0, reach_pix)
    return tuple(fast_length(n + widest.reach(n)) for n in shape)


def transform_pair(first: NDArray[Any], second: NDArray[Any], padded: Shape) -> PairTransform:
    """Transform of two finite, real images of one shape (ny, nx), padded with zeros."""
    ny, nx = first.shape
    size_first, size_second = (float(np.abs(image).max(initial=0)) for image in (first, second))
    scale = 2.0 ** np.rint(np.log2(size_first / size_second)) if size_first > 0 and size_second > 0 else 1.0
    packed = np.zeros(padded, np.complex128)
    packed.real[:ny, :nx] = first
    np.multiply(second, scale, out=packed.imag[:ny, :nx])
    return PairTransform(fftn(packed, out=packed), float(scale), first.shape)


@lru_cache(maxsize=32)
def _ring_transform(ring: Annulus, shape: Shape, padded: Shape) -> FloatArray:
    """Transform of the ring about pixel (0, 0); real, because the ring is symmetric."""
    reach_y, reach_x = (ring.reach(n) for n in shape)
    dy, dx = np.mgrid[-reach_y : reach_y + 1, -reach_x : reach_x + 1]
    inside = ring.contains(dy, dx)
    kernel = np.zeros(padded)
    kernel[dy[inside], dx[inside]] = 1.0
    return np.ascontiguousarray(transform_pair(kernel, np.zeros_like(kernel), padded).spectrum.real)


def sum_pair(pair: PairTransform, ring: Annulus) -> Pair:
    """Sums of both images over the ring about each pixel, each of shape (ny, nx)."""
    ny, nx = pair.shape
    product = pair.spectrum * _ring_transform(ring, pair.shape, pair.spectrum.shape)
    sums = ifftn(product, out=product)[:ny, :nx]
    return sums.real, sums.imag / pair.scale


def sum_both_around(first: NDArray[Any], second: NDArray[Any], ring: Annulus) -> Pair:
    """Sum each of two finite images (ny, nx) over the ring about each pixel; beyond the image there is nothing.

    Each is accurate to about 1e-15 of its largest sum.
    """
    return sum_pair(transform_pair(first, second, fft_shape(first.shape, ring.r_out)), ring)


def sum_around(image: NDArray[Any], ring: Annulus) -> FloatArray:
    """Sum one image over the ring about each pixel; see `sum_both_around`."""
    return sum_both_around(image, np.zeros_like(image), ring)[0]


def count_around(image: NDArray[Any], ring: Annulus) -> NDArray[np.int64]:
    """Sum of an image of whole numbers (or of a mask) over the ring about each pixel, exact; shape (ny, nx)."""
    return np.rint(sum_around(image, ring)).astype(np.int64)


def without_noise(sums: FloatArray, reached: NDArray[np.bool_], image: FloatArray) -> FloatArray:
    """Sums of an image >= 0 over a ring, (ny, nx), without the rounding noise that the Fourier transform leaves.

    Exactly 0 where the ring reaches no pixel above 0, as whole numbers tell, and else at least what one such pixel has.
    """
    least = np.min(image, where=image > 0, initial=np.inf)
    return np.where(reached, np.maximum(sums, least), 0.0)


def convolve_kernels(images: FloatArray, kernels: FloatArray) -> FloatArray:
    """Convolve images, shape (k, ny, nx), with odd kernels, shape (k, my, mx); zeros beyond the border."""
    shape = [fast_length(n + m - 1) for n, m in zip(images.shape[1:], kernels.shape[1:], strict=True)]
    out = np.empty_like(images)
    low_y, low_x = kernels.shape[1] // 2, kernels.shape[2] // 2
    for k, (image, kernel) in enumerate(zip(images, kernels, strict=True)):
        full = irfft2(rfft2(image, shape) * rfft2(kernel, shape), shape)
        out[k] = full[low_y : low_y + image.shape[0], low_x : low_x + image.shape[1]]
    # Rounding of the transform must not make counts negative.
    return np.maximum(out, 0.0, out=out)
