"""What a sky model predicts to be counted in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cubeflow.maps import Cube, sphere
from cubeflow.products.fold import fold_model
from cubeflow.products.kernels import make_edisp_kernel, make_psf_kernel
from cubeflow.products.sky_model import Source, make_map_source_flux
from cubeflow.products.spectrum import make_spectrum

Plain = Mapping[str, Any]
NEEDED = ("exposure", "psf", "edisp", "irf_exposure")


def make_model_counts(maps: Mapping[str, Cube], sources: Sequence[Plain]) -> Cube | None:
    """Predicted counts of all sources in a run.

    Parameters
    ----------
    maps : mapping of str to Cube
        Maps of the run, as in `cubeflow.steps.reduce.Reduced`.
    sources : sequence of mapping
        Sources as plain numbers, from the configuration.

    Returns
    -------
    Cube, (energy, lat, lon), or None
        None without sources. Sources outside the field of view contribute nothing.

    Raises
    ------
    ValueError
        If the run lacks a response that is needed.
    """
    if not sources:
        return None
    missing = [name for name in NEEDED if name not in maps]
    if missing:
        raise ValueError(f"sky_model: the run has no {', '.join(missing)}")
    counts = maps["counts"]
    total = Cube(np.zeros(counts.data.shape), "", counts.geom, counts.axes)
    for plain in sources:
        predicted = _fold(maps, make_source(plain))
        if predicted is not None:
            total = Cube(total.data + predicted.data, "", counts.geom, counts.axes)
    return total


def make_source(plain: Plain) -> Source:
    """Source from plain numbers of the configuration."""
    position = plain["position"]
    vector = sphere.unit_vectors(position["lon_deg"], position["lat_deg"])
    lon, lat = sphere.lon_lat(sphere.frame_to_icrs(vector, position["frame"]))
    sigma_deg, amplitude, reference_tev = (plain[name] for name in ("sigma_deg", "amplitude", "reference_tev"))
    return Source(float(lon), float(lat), sigma_deg, amplitude, reference_tev, make_spectrum(plain["spectrum"]))


def _fold(maps: Mapping[str, Cube], source: Source) -> Cube | None:
    """Predicted counts of one source; None where the run has no exposure at its position."""
    kept = maps["exposure"]
    x, y = maps["irf_exposure"].geom.pixel_index(source.ra_deg, source.dec_deg)
    if x < 0 or not maps["irf_exposure"].data[:, int(y), int(x)].any():
        return None
    exposure = Cube(kept.data.astype(np.float64), kept.unit, kept.geom, kept.axes)
    flux = make_map_source_flux(source, kept.geom, kept.axes[0])
    psf = make_psf_kernel(maps["psf"], source.ra_deg, source.dec_deg, kept.geom.pixel_deg)
    return fold_model(flux, exposure, psf, make_edisp_kernel(maps["edisp"], source.ra_deg, source.dec_deg))
