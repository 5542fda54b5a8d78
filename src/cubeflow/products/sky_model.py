"""Simple sources, and what they let a run count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from cubeflow.maps import Axis, Cube, Geometry, Position, sphere, zeros
from cubeflow.products.convolve import convolve_kernels
from cubeflow.products.kernels import bilinear_weights, make_edisp_kernel, make_psf_kernel
from cubeflow.products.setting import Setting
from cubeflow.products.spectrum import PowerLaw, Spectrum

STEP = 1e-5  # relative half width of the bin in which the differential flux is taken
REACH = 5.0  # widths of a Gaussian, beyond which there are 4 in a million of it
NEEDED = ("exposure", "psf", "edisp", "irf_exposure")


@dataclass(frozen=True, eq=False)
class GammapySource:
    """A source of any shape and spectrum that gammapy knows: a ``SkyModel`` with a position."""

    model: Any

    @property
    def icrs_deg(self) -> tuple[float, float]:
        """Its position."""
        position = self.model.position.icrs
        return float(position.ra.deg), float(position.dec.deg)

    @property
    def reach_deg(self) -> float:
        """Radius within which gammapy evaluates it."""
        return float(self.model.evaluation_radius.to_value("deg"))

    def flux(self, geom: Geometry, energy_true: Axis) -> Cube:
        """As gammapy integrates it over pixels and energies."""
        found = self.model.integrate_geom(zeros("", geom, energy_true).to_gammapy().geom)
        return Cube(found.quantity.to_value("m-2 s-1"), "m-2 s-1", geom, (energy_true,))


@dataclass(frozen=True, kw_only=True)
class Source:
    """A point source, or a Gaussian one, with a spectrum."""

    position: Position
    """Where it is."""
    sigma_deg: Annotated[float, Setting(least=0, most=30)] = 0.0
    """Width of a Gaussian; 0 for a point source."""
    amplitude: Annotated[float, Setting("m-2 s-1 TeV-1", above=0)]
    """Differential flux at the reference energy."""
    reference_tev: float = 1.0
    """Energy at which the amplitude holds."""
    spectrum: Spectrum = field(default_factory=PowerLaw)
    """Shape of the spectrum."""

    @property
    def icrs_deg(self) -> tuple[float, float]:
        """Its position."""
        return self.position.icrs_deg

    @property
    def reach_deg(self) -> float:
        """Distance from its position beyond which there is next to nothing of it: some widths of the Gaussian."""
        return REACH * self.sigma_deg

    def flux(self, geom: Geometry, energy_true: Axis) -> Cube:
        """Flux in each pixel and bin of true energy, (energy_true, lat, lon), m-2 s-1.

        A point source is shared by the four pixels about it, so that its centre of gravity is right; one that lies off
        the map has no flux. A Gaussian narrower than half a pixel is a point.
        """
        edges = energy_true.edges_array
        around = self.reference_tev * np.array([1.0 - STEP, 1.0 + STEP])
        at_reference = self.spectrum.integral(around)[0] / np.diff(around)[0]
        flux = self.spectrum.integral(edges) * self.amplitude / at_reference
        if self.sigma_deg < 0.5 * geom.pixel_deg:
            image = bilinear_weights(geom, *self.icrs_deg)
        else:
            sigma, offset = np.deg2rad(self.sigma_deg), np.deg2rad(geom.offset_deg(*self.icrs_deg))
            density = np.exp(-0.5 * np.square(offset / sigma)) / (2 * np.pi * sigma**2)
            image = np.nan_to_num(density * geom.solid_angle_sr, nan=0.0)  # 0 where there is no sky
        return Cube(flux[:, None, None] * image, "m-2 s-1", geom, (energy_true,))


Modelled = Source | GammapySource  # what a run is predicted to count, wherever it is described


def make_model_counts(maps: Mapping[str, Cube], sources: Sequence[Modelled]) -> Cube | None:
    """Predicted counts, (energy, lat, lon), of all sources in a run, of which `Reduced` has the maps; None without any.

    PSF and energy dispersion are those at the centre of a source, or the nearest ones known where it lies beyond the
    largest offset; what reaches into the field counts. ValueError if the run lacks a response that is needed.
    """
    if not sources:
        return None
    missing = [name for name in NEEDED if name not in maps]
    if missing:
        raise ValueError(f"sky_model: the run has no {', '.join(missing)}")
    total = zeros("", maps["counts"].geom, *maps["counts"].axes)
    kept, grid = maps["exposure"], maps["irf_exposure"].geom
    responses = (maps[name].data.reshape(-1, *grid.shape) for name in NEEDED[1:])
    known = np.logical_and.reduce([values.any(axis=0) for values in responses])
    exposure = Cube(kept.data.astype(np.float64), kept.unit, kept.geom, kept.axes)
    for source in sources:
        position = source.icrs_deg
        x, y = grid.pixel_index(*position)
        if x < 0 or not known[int(y), int(x)]:
            offset = np.where(known, grid.offset_deg(*position), np.inf)
            if not offset.min() <= source.reach_deg + grid.pixel_deg:
                continue  # next to nothing of it is in the field
            lon, lat = sphere.lon_lat(grid.center_vectors[np.unravel_index(offset.argmin(), grid.shape)])
            position = float(lon), float(lat)
        flux = source.flux(kept.geom, kept.axes[0])
        psf = make_psf_kernel(maps["psf"], *position, kept.geom.pixel_deg)
        total.data[...] += fold_model(flux, exposure, psf, make_edisp_kernel(maps["edisp"], *position)).data
    return total


def fold_model(model: Cube, exposure: Cube, psf_kernel: Cube | None, edisp_kernel: Cube | None) -> Cube:
    """Predicted counts of a model cube, (energy, lat, lon); what the PSF moves beyond the border of the map is lost.

    The flux of each pixel and true-energy bin (`model`, (energy_true, lat, lon), m-2 s-1) times the exposure there, m2
    s (the effective area belongs to the true direction), smeared with the PSF of `make_psf_kernel` and moved to
    reconstructed energy with the energy dispersion of `make_edisp_kernel`; None leaves that out. ValueError if model,
    exposure and kernels are not on one grid and one set of energies.
    """
    if model.geom != exposure.geom or model.axes != exposure.axes:
        raise ValueError("fold: model and exposure lie on different grids or energies")
    counts = model.data * exposure.data
    if psf_kernel is not None:
        if psf_kernel.axes != model.axes or psf_kernel.geom.pixel_deg != model.geom.pixel_deg:
            raise ValueError("fold: the PSF kernel has other energies or pixels than the model")
        counts = convolve_kernels(counts, psf_kernel.data)
    if edisp_kernel is None:
        return Cube(counts, "", model.geom, model.axes)
    if edisp_kernel.axes[0] != model.axes[0]:
        raise ValueError("fold: the energy-dispersion kernel has other true energies than the model")
    folded = np.tensordot(edisp_kernel.data[..., 0, 0].T, counts, axes=1)  # (energy, lat, lon)
    return Cube(folded, "", model.geom, edisp_kernel.axes[1:])
