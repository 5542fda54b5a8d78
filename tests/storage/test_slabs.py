"""Maps gone through plane by plane against the same maps in memory."""

import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, log_edges, make_geometry
from cubeflow.storage.artifact import Artifact, open_artifact, write_artifact
from cubeflow.storage.described import CubeStream
from cubeflow.storage.slabs import (
    Slabs,
    derive,
    grid_of,
    in_float32,
    in_memory,
    masked_sums,
    open_map,
    rows_of,
    sum_of,
    sum_rows,
)

GEOM = make_geometry("galactic", "CAR", 3.2, -0.3, (9.1, 5.3), 0.1)
ENERGY = energy_axis(log_edges(1.0, 10.0, 7))


def make_cube(kind: str = "f8", seed: int = 1) -> Cube:
    data = 1e3 * np.random.default_rng(seed).random((ENERGY.n_bins, *GEOM.shape)) - 100.0 * (kind == "f8")
    return Cube(data > 500 if kind == "?" else data.astype(kind), "m", GEOM, (ENERGY,))


def stream_of(cube: Cube) -> CubeStream:
    slabs = Slabs(lambda: (row[None] for row in cube.data))
    return CubeStream(slabs, cube.data.dtype.str[1:], cube.unit, cube.geom, cube.axes)


@pytest.mark.parametrize("kind", ["f8", "i8", "?"])
def test_map_on_the_disk_can_be_gone_through_again_and_again(tmp_path, kind):
    cube = make_cube(kind)
    write_artifact(tmp_path / "a.h5", Artifact("stack", "0" * 64, 1, {"m": cube, "t": np.zeros(3)}))
    with open_artifact(tmp_path / "a.h5") as opened:
        found = open_map(opened, "m")
        assert grid_of(found) == grid_of(cube)
        for _ in range(2):
            np.testing.assert_array_equal(in_memory(found).data, cube.data, strict=True)
        with pytest.raises(TypeError, match="t: expected a cube"):
            open_map(opened, "t")


@pytest.mark.parametrize("n", [0, 1, 7, 8, 127, 129, 1000, 33_333])
def test_sum_is_that_of_the_whole_array_to_the_bit(n):
    geom = make_geometry("icrs", "CAR", 0.0, 0.0, (0.1 * 11, 0.1 * max(n, 1)), 0.1)
    data = np.random.default_rng(n).random((7, *geom.shape)) - 0.3
    cube = Cube(data, "", geom, (ENERGY,))
    assert sum_of(stream_of(cube), piece=128) == sum_of(stream_of(cube)) == float(data.sum())


@pytest.mark.parametrize("kind", ["f8", "f4", "i8"])
def test_masked_sums_are_those_of_whole_arrays(kind):
    cube, other, mask = make_cube(kind), make_cube("f8", 5), make_cube("?", 3)
    expected = [np.sum(each.data, axis=0, where=mask.data) for each in (cube, other)]
    for made in (masked_sums(mask, cube, other), masked_sums(stream_of(mask), stream_of(cube), other)):
        for found, known in zip(made, [*expected, mask.data.any(axis=0)], strict=True):
            np.testing.assert_array_equal(found, known, strict=True)
    for known, found in ((cube.data.sum(axis=0, keepdims=True), sum_rows(stream_of(cube))),):
        np.testing.assert_array_equal(found, known, strict=True)
    np.testing.assert_array_equal(sum_rows(stream_of(mask)), mask.data.any(axis=0, keepdims=True), strict=True)


def test_what_is_derived_of_a_stream_is_a_stream():
    cube, other = make_cube(), make_cube(seed=2)
    whole = derive(grid_of(cube), "f8", np.multiply, cube, other)
    assert isinstance(whole, Cube)
    for pair in ((stream_of(cube), other), (cube, stream_of(other)), (stream_of(cube), stream_of(other))):
        made = derive(grid_of(cube), "f8", np.multiply, *pair)
        assert isinstance(made, CubeStream)
        np.testing.assert_array_equal(in_memory(made).data, whole.data)
        np.testing.assert_array_equal(list(rows_of(made)), whole.data)


@pytest.mark.parametrize("kind", ["f8", "i8", "?"])
def test_maps_are_kept_in_float32_and_counts_with_their_largest(kind):
    cube = make_cube(kind)
    kept = in_float32(stream_of(cube))
    np.testing.assert_array_equal(in_memory(kept).data, cube.to_float32().data, strict=True)
    assert kept.maximum == (cube.data.max() if kind == "i8" else None)
