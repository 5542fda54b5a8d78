"""Tiles of the sky against slow sums over positions, and coverage against closed forms."""

import sys

import numpy as np
import pytest

from cubeflow.errors import MistakeError
from cubeflow.maps import make_geometry, sphere
from cubeflow.products.tiles import DEEPEST, Tile, covered_ranges, tiles_reached

hpgeom = pytest.importorskip("hpgeom")
DEG2 = 4 * np.pi * np.rad2deg(1) ** 2  # of the sky


def positions(count, seed=1):
    rng = np.random.default_rng(seed)
    return rng.uniform(-180, 540, count), np.rad2deg(np.arcsin(rng.uniform(-1, 1, count)))


def about(lon, lat, away_deg, seed=2):
    """Positions at distances from others, in any direction."""
    basis = np.array([sphere.local_basis(*each) for each in zip(lon, lat, strict=True)])
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(basis))
    away = np.deg2rad(np.broadcast_to(away_deg, len(basis)))
    parts = np.stack([np.cos(away), np.sin(away) * np.cos(angle), np.sin(away) * np.sin(angle)], axis=1)
    return sphere.lon_lat(np.einsum("nk,nkv->nv", parts, basis))


@pytest.mark.parametrize("nside", [1, 2, 4])
def test_each_position_lies_in_one_tile(nside):
    lon, lat = positions(2000)
    held = np.array([Tile(nside, number).holds(lon, lat) for number in range(12 * nside**2)])
    np.testing.assert_array_equal(held.sum(axis=0), 1)
    assert held.any(axis=1).all(), "none is empty: they have the same area"
    assert all(Tile(nside, number).holds(*Tile(nside, number).center_deg) for number in range(12 * nside**2))


@pytest.mark.parametrize(("lon", "lat"), [(83.6, 22.0), (359.9, -0.2), (-10.0, 88.5), (200.0, -90.0)])
@pytest.mark.parametrize("radius", [0.2, 2.5, 12.0])
def test_tiles_are_those_that_share_some_of_the_disc(lon, lat, radius):
    """As positions all over the disc find them, but for corners that they miss."""
    rng = np.random.default_rng(3)
    n = 200_000
    away = np.rad2deg(np.arccos(1 - rng.uniform(0, 1, n) * (1 - np.cos(np.deg2rad(radius)))))
    within = about(np.full(n, lon), np.full(n, lat), away)
    nside = 16
    seen = {number for number in tiles_reached(nside, (lon, lat), radius) if Tile(nside, number).holds(*within).any()}
    assert all(Tile(nside, number).holds(*within).sum() for number in seen)
    inside = sum(int(Tile(nside, number).holds(*within).sum()) for number in seen)
    assert inside == n, "no tile is missed"
    for number in set(tiles_reached(nside, (lon, lat), radius)) - seen:  # its corner only
        wider = about(np.full(n, lon), np.full(n, lat), radius * np.sqrt(rng.uniform(0.9, 1.0, n)))
        assert Tile(nside, number).holds(*wider).sum() < n / 1000


@pytest.mark.parametrize("frame", ["icrs", "galactic"])
@pytest.mark.parametrize("projection", ["TAN", "CAR", "ZEA"])
@pytest.mark.parametrize("number", [0, 777, 1511, 3071])
def test_a_map_holds_the_tile_and_its_overlap_and_little_more(frame, projection, number):
    tile, overlap, pixel = Tile(16, number), 0.5, 0.05
    at = sphere.Position(lon_deg=tile.center_deg[0], lat_deg=tile.center_deg[1]).in_frame(frame)
    size = tile.width_pixels(make_geometry(frame, projection, *at, (pixel, pixel), pixel), overlap)
    lon, lat = about(*np.broadcast_arrays(*tile.center_deg, np.zeros(40_000))[:2], np.linspace(0, 5, 40_000))
    inside = tile.holds(lon, lat)
    lon, lat = about(lon[inside], lat[inside], overlap)
    whole = make_geometry(frame, projection, *at, (size * pixel, size * pixel), pixel)
    assert (whole.pixel_index(lon, lat)[0] >= 0).all()
    assert size * pixel < 2.02 * (hpgeom.max_pixel_radius(16) + overlap) + pixel


def area_deg2(discs):
    ranges = covered_ranges(discs)
    assert (np.diff(ranges.ravel()) > 0).all(), "sorted, and none touches the next"
    return float(np.diff(ranges, axis=1).sum()) / (12 * 4**DEEPEST) * DEG2


def test_coverage_is_the_union_of_discs():
    cap = DEG2 * (1 - np.cos(np.deg2rad(2.0))) / 2
    assert area_deg2([(83.6, 22.0, 2.0)]) == pytest.approx(cap, rel=2e-3)
    assert area_deg2([(83.6, 22.0, 2.0), (83.6, 22.0, 2.0), (443.6, 22.0, 1.0)]) == pytest.approx(cap, rel=2e-3)
    assert area_deg2([(83.6, 22.0, 2.0), (83.6, -22.0, 2.0)]) == pytest.approx(2 * cap, rel=2e-3)
    assert area_deg2([(0.0, 90.0, 2.0)]) == pytest.approx(cap, rel=2e-3)
    apart, radius = 1.5, 2.0  # both are small, and the sky is flat there
    lens = 2 * radius**2 * np.arccos(apart / 2 / radius) - apart / 2 * np.sqrt(4 * radius**2 - apart**2)
    assert area_deg2([(10.0, 0.0, radius), (10.0 + apart, 0.0, radius)]) == pytest.approx(2 * cap - lens, rel=2e-3)
    assert covered_ranges([]).shape == (0, 2)


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "hpgeom", None)
    with pytest.raises(MistakeError, match=r"expected the library hpgeom: pip install 'cubeflow\[survey\]'"):
        tiles_reached(16, (0.0, 0.0), 1.0)
