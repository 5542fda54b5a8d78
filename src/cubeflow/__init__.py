"""From IACT event lists and instrument responses (DL3) to maps and cubes.

What a notebook needs can be imported from here; each name is loaded when it is asked for.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubeflow.dl3.exclusions import read_exclusion
    from cubeflow.dl3.index import open_store
    from cubeflow.dl3.reader import read_observation
    from cubeflow.maps import Axis, Cube, Geometry, make_cutout
    from cubeflow.observation import Pointing
    from cubeflow.products.acceptance import make_map_hadron_acceptance
    from cubeflow.products.counts import make_map_counts
    from cubeflow.products.exclusion import make_mask_exclusion
    from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
    from cubeflow.products.fov_background import FovOptions, make_map_fov_background
    from cubeflow.products.kernels import make_edisp_kernel, make_edisp_map, make_psf_kernel, make_psf_map
    from cubeflow.products.ring_background import (
        AdaptiveRingOptions,
        RingOptions,
        make_map_adaptive_ring_background,
        make_map_ring_background,
    )
    from cubeflow.products.safe_mask import SafeMaskOptions, make_mask_safe
    from cubeflow.products.significance import make_map_significance_cash, make_map_significance_li_ma
    from cubeflow.products.spectrum import PowerLaw
    from cubeflow.products.stack import stack
    from cubeflow.store.fits import write_image_fits
    from cubeflow.tools.load import load

# The imports above say where each name is: they are read here, and done when a name is asked for.
HOME_OF = {
    each.name: node.module
    for node in ast.walk(ast.parse(Path(__file__).read_text("utf-8")))
    if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cubeflow.")
    for each in node.names
}
__all__ = sorted(HOME_OF)


def __getattr__(name: str) -> Any:
    """Load what is asked for from where it is."""
    if name not in HOME_OF:
        raise AttributeError(f"module 'cubeflow' has no attribute {name!r}")
    return getattr(import_module(HOME_OF[name]), name)
