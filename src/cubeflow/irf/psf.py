"""Point spread function: PSF_TABLE, PSF_3GAUSS and PSF_KING.

https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/psf/
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cubeflow.irf.table import Nodes, check_shape
from cubeflow.maps.arrays import BoolArray, FloatArray

SR_PER_DEG2 = float(np.deg2rad(1.0)) ** 2


@dataclass(frozen=True, eq=False)
class PsfTable:
    """PSF given as a table."""

    energy_true: Nodes  #: TeV, logarithmic
    offset: Nodes  #: deg
    rad: Nodes  #: deg
    density_sr: FloatArray  #: shape (n_energy, n_offset, n_rad), probability per solid angle, sr-1

    def __post_init__(self) -> None:
        check_shape("PSF: RPSF", self.density_sr, len(self.energy_true), len(self.offset), len(self.rad))

    def evaluate(self, energy_tev: ArrayLike, offset_deg: ArrayLike, rad_deg: ArrayLike) -> FloatArray:
        """Density in sr-1, shape (k, o, r), linear between nodes, not negative, zero outside the edges."""
        rad = self.rad.weights(np.atleast_1d(rad_deg))
        energy = self.energy_true.weights(np.atleast_1d(energy_tev))
        on_nodes = np.tensordot(energy, self.density_sr, axes=1) @ rad.T  # (k, n_offset, r)
        # (k, r, o) in memory, in which maps are kept; the axes change places without a copy.
        density = on_nodes.swapaxes(1, 2) @ self.offset.weights(np.atleast_1d(offset_deg)).T
        return np.maximum(density, 0.0, out=density).swapaxes(1, 2)


@dataclass(frozen=True, eq=False)
class Psf3Gauss:
    """PSF as a sum of three Gaussians.

    A width of zero marks a component that a cell does not have: widths are interpolated among the cells
    that have it. A cell without the first width or without SCALE has no PSF. Tables have shape (n_energy, n_offset).
    """

    energy_true: Nodes  #: TeV, logarithmic
    offset: Nodes  #: deg
    scale: FloatArray  #: amplitude; only whether it is zero matters, the result is normalised
    sigma_1: FloatArray  #: width, deg, as the others
    ampl_2: FloatArray  #: amplitude relative to the first component, as the other
    sigma_2: FloatArray
    ampl_3: FloatArray
    sigma_3: FloatArray

    def __post_init__(self) -> None:
        for name in ("scale", "sigma_1", "ampl_2", "sigma_2", "ampl_3", "sigma_3"):
            check_shape(f"PSF: {name.upper()}", getattr(self, name), len(self.energy_true), len(self.offset))

    def evaluate(self, energy_tev: ArrayLike, offset_deg: ArrayLike, rad_deg: ArrayLike) -> FloatArray:
        """Density in sr-1, shape (k, o, r), of integral 1; zero outside the edges and where no cell has a PSF."""
        interpolate = _among_cells(self, energy_tev, offset_deg)
        valid = (self.scale > 0) & (self.sigma_1 > 0)
        ampl_1 = np.ones_like(self.scale)
        rad2 = np.square(np.atleast_1d(np.asarray(rad_deg, dtype=float)))[:, None]
        norm = np.zeros((np.size(energy_tev), np.size(offset_deg)))
        density = np.zeros((len(norm), rad2.size, norm.shape[1]))
        for ampl, sigma in ((ampl_1, self.sigma_1), (self.ampl_2, self.sigma_2), (self.ampl_3, self.sigma_3)):
            width2 = np.square(interpolate(sigma, valid & (sigma > 0)))
            height = np.where(width2 > 0, np.maximum(interpolate(ampl, valid), 0.0), 0.0)
            if not height.any():  # many files have one component only
                continue
            norm += height * 2.0 * np.pi * width2
            width2 = np.where(width2 > 0, width2, 1.0)
            for out, high, wide in zip(density, height, width2, strict=True):  # one energy stays in the cache
                out += high * np.exp(-0.5 * rad2 / wide)
        return _per_sr(density, norm)


@dataclass(frozen=True, eq=False)
class PsfKing:
    """PSF as a King profile."""

    energy_true: Nodes  #: TeV, logarithmic
    offset: Nodes  #: deg
    gamma: FloatArray  #: shape (n_energy, n_offset), slope; a cell with one not above 1 has no PSF
    sigma: FloatArray  #: shape (n_energy, n_offset), width, deg; a cell without one has no PSF

    def __post_init__(self) -> None:
        for name in ("gamma", "sigma"):
            check_shape(f"PSF: {name.upper()}", getattr(self, name), len(self.energy_true), len(self.offset))

    def evaluate(self, energy_tev: ArrayLike, offset_deg: ArrayLike, rad_deg: ArrayLike) -> FloatArray:
        """Density in sr-1, shape (k, o, r), of integral 1; zero outside the edges and where no cell has a PSF."""
        interpolate = _among_cells(self, energy_tev, offset_deg)
        valid = (self.gamma > 1) & (self.sigma > 0)
        gamma, sigma2 = (interpolate(table, valid) for table in (self.gamma, self.sigma))
        sigma2 = np.square(np.maximum(sigma2, 0.0))
        has_psf = (gamma > 1) & (sigma2 > 0)
        norm = np.where(has_psf, 2.0 * np.pi * sigma2, 0.0)
        gamma, sigma2 = np.where(has_psf, gamma, 2.0), np.where(has_psf, sigma2, 1.0)
        rad2 = np.square(np.atleast_1d(np.asarray(rad_deg, dtype=float)))[:, None]
        profile = (1.0 + rad2 / (2.0 * gamma * sigma2)[:, None]) ** -gamma[:, None]
        return _per_sr((1.0 - 1.0 / gamma)[:, None] * profile, norm)


Interpolate = Callable[[FloatArray, BoolArray], FloatArray]  # of a table and which of its cells are valid
PSF = PsfTable | Psf3Gauss | PsfKing


def _among_cells(psf: Psf3Gauss | PsfKing, energy_tev: ArrayLike, offset_deg: ArrayLike) -> Interpolate:
    """Interpolation among the valid cells of a table, at energies (k,) and offsets (o,); 0 where none takes part."""
    energy = psf.energy_true.weights(np.atleast_1d(energy_tev))
    offset = psf.offset.weights(np.atleast_1d(offset_deg)).T

    def interpolate(table: FloatArray, valid: BoolArray) -> FloatArray:
        value = energy @ np.where(valid, table, 0.0) @ offset
        share = energy @ valid.astype(float) @ offset
        # Beyond the outermost nodes weights are negative: a share that is not positive is no support.
        return np.divide(value, share, out=np.zeros_like(value), where=share > 1e-9)

    return interpolate


def _per_sr(density: FloatArray, norm: FloatArray) -> FloatArray:
    """Divide a density, (k, r, o) as maps are in memory, by its integral (k, o), from deg-2 to sr-1; shape (k, o, r).

    Zero where there is no integral.
    """
    scale = np.where(norm > 0, norm * SR_PER_DEG2, np.inf)
    return np.divide(density, scale[:, None], out=density).swapaxes(1, 2)
