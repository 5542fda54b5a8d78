import numpy as np
import pytest

from cubeflow.maps import NoOverlap, make_cutout, make_geometry, sphere

# frame, projection, centre of the map, width, and a pointing (ICRS) within or at the edge of the map
CASES = {
    "tan": ("icrs", "TAN", (83.6, 22.0), (6.0, 4.0), (84.5, 21.5)),
    "ra=0 from the left": ("icrs", "TAN", (0.2, -30.0), (6.0, 4.0), (359.4, -30.5)),
    "car ra=0": ("icrs", "CAR", (0.0, 0.0), (8.0, 6.0), (359.0, 1.0)),
    "pole": ("icrs", "TAN", (40.0, 89.5), (5.0, 5.0), (200.0, 89.0)),
    "zea at the pole": ("icrs", "ZEA", (0.0, -90.0), (6.0, 6.0), (123.0, -88.5)),
    "l=180": ("galactic", "CAR", (180.0, 0.0), (10.0, 6.0), (86.4, 28.9)),
    "all-sky car": ("galactic", "CAR", (0.0, 0.0), (360.0, 20.0), (266.4, -29.0)),
    "all-sky car, across the edge": ("galactic", "CAR", (0.0, 0.0), (360.0, 20.0), (86.4, 28.9)),
    "all-sky ait": ("galactic", "AIT", (0.0, 0.0), (360.0, 180.0), (86.4, 28.9)),
    "at the border": ("icrs", "TAN", (83.6, 22.0), (2.0, 2.0), (85.9, 22.0)),
}
RADIUS = 1.7


@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_cutout_holds_every_pixel_of_the_disc(case):
    frame, projection, center, width, pointing = CASES[case]
    pixel = 0.1 if max(width) < 20 else 0.5
    geom = make_geometry(frame, projection, *center, width, pixel)
    part = make_cutout(geom, *pointing, RADIUS)
    inside = geom.offset_deg(*pointing) < RADIUS
    assert inside.any()
    own, parent = part.overlap(geom)
    assert inside[parent].sum() == inside.sum()
    np.testing.assert_array_equal((part.offset_deg(*pointing) < RADIUS)[own], inside[parent])


def test_cutout_is_tight():
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (8.0, 8.0), 0.05)
    part = make_cutout(geom, 84.0, 21.5, 1.0)
    assert abs(part.nx - 40) <= 3
    assert abs(part.ny - 40) <= 3


def test_cutouts_reach_beyond_the_map():
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (2.0, 2.0), 0.1)
    whole = make_cutout(geom, 84.6, 22.0, 1.0)
    assert whole.origin_in(geom)[0] < 0
    assert (whole.offset_deg(84.6, 22.0) < 1.0).sum() * 0.01 == pytest.approx(np.pi, rel=0.02)


@pytest.mark.parametrize("pointing", [(90.0, 22.0), (263.6, -22.0), (83.6, -89.0)])
def test_far_pointings_do_not_overlap(pointing):
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (4.0, 4.0), 0.1)
    distance = sphere.separation_deg(sphere.unit_vectors(83.6, 22.0), sphere.unit_vectors(*pointing))
    with pytest.raises(NoOverlap, match=f"which is {distance:.2f} deg from the map centre"):
        make_cutout(geom, *pointing, 2.0)


def test_equal_cutouts_are_one_object_that_remembers():
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (6.0, 4.0), 0.1)
    first, second = (make_cutout(geom, 83.0, 22.4, RADIUS) for _ in range(2))
    assert first is second
    offset = first.offset_deg(83.0, 22.4)
    assert second.offset_deg(83.0, 22.4) is offset
    assert not offset.flags.writeable
    expected = sphere.separation_deg(first.center_vectors, sphere.unit_vectors(83.0, 22.4))
    np.testing.assert_array_equal(offset, expected)
    assert not np.array_equal(first.offset_deg(83.0, 22.5), offset)
