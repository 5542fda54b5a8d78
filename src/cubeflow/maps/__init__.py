"""Plain-number geometries, axes and cubes (floor 0)."""

from cubeflow.maps.axis import Axis, energy_axis, log_edges, rad_axis
from cubeflow.maps.cube import Cube, zeros
from cubeflow.maps.cutout import NoOverlap, make_cutout
from cubeflow.maps.geom import Geometry, GeometryError, make_geometry
from cubeflow.maps.scratch import release, scratch_zeros
from cubeflow.maps.sphere import Position

__all__ = [
    "Axis",
    "Cube",
    "Geometry",
    "GeometryError",
    "NoOverlap",
    "Position",
    "energy_axis",
    "log_edges",
    "make_cutout",
    "make_geometry",
    "rad_axis",
    "release",
    "scratch_zeros",
    "zeros",
]
