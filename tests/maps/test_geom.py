from dataclasses import replace

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.maps import GeometryError, make_geometry, sphere

CASES = [
    ("icrs", "TAN", 83.633, 22.014),
    ("icrs", "TAN", 0.0, -30.0),
    ("icrs", "TAN", 10.0, 89.5),
    ("galactic", "CAR", 180.0, 0.0),
    ("galactic", "CAR", 0.0, 0.0),
    ("galactic", "AIT", 0.0, 0.0),
    ("icrs", "ZEA", 200.0, -90.0),
    ("galactic", "ZEA", 180.0, 0.3),
    ("icrs", "AIT", 0.0, 40.0),
    ("galactic", "SIN", 180.0, 1.0),
    ("icrs", "STG", 0.0, 89.9),
    ("icrs", "ARC", 359.95, -30.0),
    ("galactic", "MOL", 180.0, -20.0),
    ("icrs", "SFL", 0.0, 10.0),
    ("galactic", "CEA", 180.0, 5.0),
    ("galactic", "MER", 0.0, 30.0),
    ("icrs", "PAR", 0.0, -45.0),
    ("icrs", "TAN", 0.0, 90.0),
]


def geometry(frame, projection, lon, lat, width=(3.0, 2.2), pixel=0.1):
    return make_geometry(frame, projection, lon, lat, width, pixel)


@pytest.mark.parametrize("case", CASES)
def test_centres_are_those_of_astropy(case):
    geom = geometry(*case)
    y, x = np.mgrid[: geom.ny, : geom.nx]
    coords = geom.wcs().pixel_to_world(x, y).icrs
    expected = sphere.unit_vectors(coords.ra.deg, coords.dec.deg)
    assert sphere.separation_deg(geom.center_vectors, expected).max() < 1e-9
    origin = SkyCoord(case[2], case[3], unit="deg", frame=case[0]).icrs
    offset = geom.offset_deg(origin.ra.deg, origin.dec.deg)
    np.testing.assert_allclose(offset, coords.separation(origin).deg, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_pixel_index_is_that_of_a_loop(case):
    geom = geometry(*case)
    rng = np.random.default_rng(7)
    y, x = rng.uniform(-6, geom.ny + 6, 60), rng.uniform(-6, geom.nx + 6, 60)
    ra, dec = sphere.lon_lat(geom.pixel_to_vectors(x, y))
    ix, iy = geom.pixel_index(ra, dec)
    wcs = geom.wcs()
    for k in range(60):
        px, py = wcs.world_to_pixel(SkyCoord(ra[k], dec[k], unit="deg"))
        inside = -0.5 <= px < geom.nx - 0.5 and -0.5 <= py < geom.ny - 0.5
        expected = (int(np.floor(px + 0.5)), int(np.floor(py + 0.5))) if inside else (-1, -1)
        assert (ix[k], iy[k]) == expected


def test_positions_behind_the_tangent_plane_are_outside():
    geom = geometry("icrs", "TAN", 83.6, 22.0)
    ix, iy = geom.pixel_index([263.6, 83.6, 120.0, np.nan], [-22.0, -75.0, -89.0, 0.0])
    np.testing.assert_array_equal([ix, iy], np.full((2, 4), -1))


def test_longitude_grows_to_the_left():
    geom = geometry("icrs", "TAN", 83.6, 22.0)
    east, _ = sphere.sky_offset(geom.center_vectors, 83.6, 22.0)
    assert east[0, 0] > 0 > east[0, -1]
    assert sphere.lon_lat(geom.center_vectors)[1][0, 3] < sphere.lon_lat(geom.center_vectors)[1][-1, 3]


def test_solid_angle_of_car_pixels_in_closed_form():
    geom = geometry("galactic", "CAR", 30.0, 0.0, width=(2.0, 60.0), pixel=0.5)
    edges = np.deg2rad(-30.0 + 0.5 * np.arange(geom.ny + 1))
    expected = np.deg2rad(0.5) * np.diff(np.sin(edges))
    # Pixels are bounded by great circles, not by parallels: equal to second order in the pixel size.
    np.testing.assert_allclose(geom.solid_angle_sr[:, 1], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("projection", "tolerance"),
    [
        ("CAR", 1e-9),
        ("CEA", 1e-7),
        ("AIT", 1e-7),
        ("MOL", 2e-5),
        ("SFL", 5e-5),
        ("PAR", 1e-4),
        ("ZEA", 1e-6),
        ("ARC", 1e-6),
    ],
)
def test_solid_angles_add_up_to_the_sphere(projection, tolerance):
    """Pixels that the rim of the sky cuts have the solid angle of what is on the sky."""
    width = (360.0, 360.0 if projection in ("ZEA", "ARC") else 180.0)
    geom = make_geometry("galactic", projection, 4.56, 0.0, width, 1.0)
    assert geom.solid_angle_sr.sum() == pytest.approx(4 * np.pi, rel=tolerance)


def test_solid_angle_at_the_rim_is_the_share_of_the_pixel_on_the_sky():
    """AIT keeps areas: what is on the sky of a pixel is found by many points in it."""
    geom = make_geometry("galactic", "AIT", 4.56, 0.0, (360.0, 180.0), 2.0).cutout(0, 25, 12, 40)
    offsets = (np.arange(100) + 0.5) / 100 - 0.5
    x, y = np.arange(geom.nx)[:, None] + offsets, np.arange(geom.ny)[:, None, None, None] + offsets[:, None]
    share = np.isfinite(geom.pixel_to_vectors(x[:, None, :], y)[..., 0]).mean(axis=(2, 3))
    assert ((share > 0.02) & (share < 0.98)).sum() > 20
    np.testing.assert_allclose(geom.solid_angle_sr / np.deg2rad(2.0) ** 2, share, atol=0.02)


@pytest.mark.parametrize("projection", ["AIT", "MOL", "CAR"])
def test_pixels_at_the_rim_lie_where_their_events_are(projection):
    """Also those whose centre is beyond it: no event in them is farther than a diagonal."""
    geom = make_geometry("galactic", projection, 4.56, 0.0, (360.0, 180.0), 0.7)
    rng = np.random.default_rng(4)
    lon, lat = 184.56 + rng.uniform(-0.5, 0.5, 2000), rng.uniform(-20, 20, 2000)
    events = sphere.frame_to_icrs(sphere.unit_vectors(lon, lat), "galactic")
    ix, iy = geom.pixel_index(*sphere.lon_lat(events))
    inside = ix >= 0
    assert inside.all() or projection == "CAR"  # 514 pixels of 0.7 deg are not quite the sky
    beyond = np.isnan(geom.pixel_to_vectors(ix[inside], iy[inside])[:, 0])
    assert beyond.any() or projection == "CAR"
    separation = sphere.separation_deg(geom.center_vectors[iy, ix][inside], events[inside])
    assert separation.max() < 0.7 * np.sqrt(2)
    assert geom.solid_angle_sr[iy, ix][inside].min() > 0


def test_beyond_the_edge_of_the_projection_there_is_no_sky():
    geom = make_geometry("galactic", "AIT", 0.0, 0.0, (360.0, 180.0), 2.0)
    assert np.isnan(geom.center_vectors[0, 0]).all()
    assert geom.solid_angle_sr[0, 0] == 0
    assert np.isnan(geom.offset_deg(0.0, 0.0)[0, 0])


@given(st.integers(-5, 8), st.integers(-5, 8), st.integers(1, 9), st.integers(1, 9))
def test_overlap_and_union_are_those_of_pixel_sets(x0, y0, nx, ny):
    parent = geometry("icrs", "TAN", 83.6, 22.0, width=(0.7, 0.5))
    part = parent.cutout(x0, y0, nx, ny)
    assert part.origin_in(parent) == (x0, y0)
    grids = {}
    for geom, (ox, oy) in ((parent, (0, 0)), (part, (x0, y0))):
        grids[geom] = {(ox + i, oy + j) for i in range(geom.nx) for j in range(geom.ny)}
    shared, overlap = grids[parent] & grids[part], part.overlap(parent)
    if overlap is None:
        assert not shared
    else:
        own, other = overlap
        assert shared == {(x, y) for x in range(*_range(other[1])) for y in range(*_range(other[0]))}
        assert shared == {(x + x0, y + y0) for x in range(*_range(own[1])) for y in range(*_range(own[0]))}
    union = parent.union(part)
    corner = union.origin_in(parent)
    covered = grids[parent] | grids[part]
    assert corner == (min(x for x, _ in covered), min(y for _, y in covered))
    assert (union.nx, union.ny) == tuple(max(p[i] for p in covered) - corner[i] + 1 for i in (0, 1))


def _range(part):
    return part.start, part.stop


def test_a_cutout_looks_at_the_same_sky():
    parent = geometry("galactic", "CAR", 0.5, 0.0)
    part = parent.cutout(4, 7, 9, 5)
    np.testing.assert_allclose(part.center_vectors, parent.center_vectors[7:12, 4:13], atol=1e-14)
    np.testing.assert_allclose(part.solid_angle_sr, parent.solid_angle_sr[7:12, 4:13], rtol=1e-9)


@pytest.mark.parametrize(("nx", "pixel", "coarse"), [(250, 0.02, 0.2), (251, 0.02, 0.2), (7, 0.1, 0.3), (3, 0.1, 0.5)])
def test_coarse_grid_covers_the_fine_one(nx, pixel, coarse):
    geom = make_geometry("icrs", "TAN", 83.6, 22.0, (nx * pixel, 2 * nx * pixel), pixel)
    grid = geom.coarse(coarse)
    corner = geom.pixel_to_vectors([-0.5, geom.nx - 0.5], [-0.5, geom.ny - 0.5])
    x, y = grid.vectors_to_pixel(corner)
    assert x.min() > -0.5 - 1e-6
    assert x.max() < grid.nx - 0.5 + 1e-6
    assert (x[1] - x[0]) == pytest.approx(geom.nx * pixel / coarse, rel=1e-3)
    assert grid.nx * coarse - geom.nx * pixel < coarse
    assert y.max() < grid.ny - 0.5 + 1e-6


def test_impossible_geometries_are_refused():
    with pytest.raises(GeometryError, match="frame: expected one of"):
        make_geometry("fk4", "TAN", 0.0, 0.0, (1.0, 1.0), 0.1)
    with pytest.raises(GeometryError, match="pixel"):
        make_geometry("icrs", "TAN", 0.0, 0.0, (1.0, 1.0), 0.0)
    with pytest.raises(GeometryError, match="width"):
        make_geometry("icrs", "TAN", 0.0, 0.0, (np.nan, 1.0), 0.1)
    with pytest.raises(GeometryError, match="at least one pixel"):
        make_geometry("icrs", "TAN", 0.0, 0.0, (0.01, 1.0), 0.1)
    geom = geometry("icrs", "TAN", 0.0, 0.0)
    with pytest.raises(GeometryError, match="not aligned"):
        geom.origin_in(geometry("icrs", "TAN", 0.1, 0.0))
    with pytest.raises(GeometryError, match="not aligned"):
        replace(geom, crpix_x=geom.crpix_x + 0.5).origin_in(geom)
