"""Plain-number geometries, axes and cubes (floor 0)."""

from cubeflow.maps.arrays import BoolArray, FloatArray, IntArray, Pair, Place
from cubeflow.maps.axis import Axis, energy_axis, log_edges, rad_axis
from cubeflow.maps.cube import Cube, Maps, zeros
from cubeflow.maps.geom import Geometry, GeometryError, NoOverlap, make_cutout, make_geometry
from cubeflow.maps.scratch import release, scratch_zeros
from cubeflow.maps.sphere import Position
