"""Plain-number geometries, axes and cubes (floor 0)."""

from cubeflow.maps.axis import Axis, axis_from_plain, energy_axis, log_edges, rad_axis
from cubeflow.maps.cube import Cube, zeros
from cubeflow.maps.cutout import NoOverlap, make_cutout
from cubeflow.maps.geom import Geometry, GeometryError, geometry_from_plain, make_geometry

__all__ = [
    "Axis",
    "Cube",
    "Geometry",
    "GeometryError",
    "NoOverlap",
    "axis_from_plain",
    "energy_axis",
    "geometry_from_plain",
    "log_edges",
    "make_cutout",
    "make_geometry",
    "rad_axis",
    "zeros",
]
