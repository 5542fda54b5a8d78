"""Sky maps: what is drawn where, and values that come back from the colours."""

import base64
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, UnitSphericalRepresentation
from PIL import Image
from scipy import ndimage

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.report.skymap import (
    LEFT,
    SIDE,
    TOP,
    Field,
    SkyImage,
    draw_map,
    final_images,
    find_hot_spots,
    positions,
    to_png,
)

GEOM = make_geometry("galactic", "CAR", 10.0, 1.0, (4.0, 2.6), 0.1)
TANGENTIAL = make_geometry("icrs", "TAN", 83.6, 62.0, (5.0, 4.0), 0.05)


def field(geom=GEOM, pointings=((270.0, -19.0),), target=(271.0, -19.5), ring=()) -> Field:
    excluded = np.zeros(geom.shape, bool)
    excluded[10:15, 12:19] = True
    return Field(geom, excluded, np.array(pointings).reshape(-1, 2), target, 0.2, ring)


def values_of(png: bytes, span: tuple[float, float]) -> np.ndarray:
    """Values that the colours of an image stand for, as the page's script finds them: by what the palette says."""
    size = int.from_bytes(png[33:37])
    palette = [tuple(png[at : at + 3]) for at in range(41, 41 + size, 3)]
    assert png[37:41] == b"PLTE"
    n_colours = 64 if span[0] == -5.0 else 200
    assert len(set(palette)) == n_colours + 1 == size / 3
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))[::-1]
    step = np.array([[palette.index(tuple(pixel[:3])) for pixel in row] for row in pixels.tolist()])
    found = span[0] + (step - 1) / (n_colours - 1) * (span[1] - span[0])
    return np.where(pixels[..., 3] > 0, found, np.nan)


@pytest.mark.parametrize("top", [None, 5.0, 12.0, 15.0], ids=["positive", "faint", "bright", "cut"])
def test_colours_give_the_values_back(top):
    rng = np.random.default_rng(1)
    data = rng.normal(size=GEOM.shape) if top else rng.uniform(0.0, 300.0, GEOM.shape)
    data[:3] = np.nan
    data[5, 7] = {None: 300.0, 5.0: 4.9, 12.0: 12.0, 15.0: 210.0}[top]
    image = SkyImage("a", "some map", "unit", data, top)
    found = values_of(to_png(image), image.span)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(data))
    known = ~np.isnan(data)
    data = data if top is None else np.clip(data, -5.0, top)
    step = 0.5 * (image.span[1] - image.span[0]) / (63 if top else 199)
    assert step < (0.16 if top else 0.8)
    assert np.all(np.abs(found - data)[known] <= step + 1e-9)
    assert found[5, 7] == pytest.approx(data[5, 7], rel=0.03)


@pytest.mark.parametrize("value", [np.nan, 0.0, -3.0])
@pytest.mark.parametrize("top", [None, 5.0])
def test_maps_without_structure(value, top):
    image = SkyImage("a", "flat", "unit", np.full(GEOM.shape, value), top)
    whole, _ = draw_map([image], field(pointings=()), "name")
    ElementTree.fromstring(whole)
    assert 'aria-label="Sky map of flat."' in whole
    assert np.isnan(values_of(to_png(image), image.span)).all() == bool(np.isnan(value))


def test_equal_steps_of_significance_look_equal_about_zero():
    values, colours = SkyImage("a", "a", "", np.array([[-9.0, 30.0]]), 15.0).stops
    assert values.tolist() == [-5.0, -2.5, 0.0, 2.5, 5.0, 15.0]
    rgb = [np.array([np.interp(x, values, each) for each in colours.T]) for x in (-1.0, 0.0, 1.0)]
    assert rgb[1].min() > 0.95 * 255
    assert np.abs(rgb[0] - rgb[1]).max() == pytest.approx(np.abs(rgb[2] - rgb[1]).max(), rel=0.35)


@pytest.mark.parametrize(
    ("shape", "pixel_deg", "steps"), [((30, 3001), 0.2, (3, 9)), ((41, 32), 0.04, (2, 6)), ((26, 40), 0.1, (1, 3))]
)
def test_a_picture_is_no_finer_than_what_is_seen(shape, pixel_deg, steps):
    """Nor than the discs of 0.2 deg in which it is summed; each of its pixels lies about the one that it shows."""
    geom = make_geometry("galactic", "CAR", 0.0, 0.0, (shape[1] * pixel_deg, shape[0] * pixel_deg), pixel_deg)
    assert geom.shape == shape
    image = SkyImage("a", "a", "", np.arange(float(np.prod(shape))).reshape(shape))
    about = Field(geom, np.zeros(shape, bool), np.zeros((0, 2)), geom.center_deg, 0.2)
    whole, _ = draw_map([image, image], about, "name")
    for tag, step in zip(re.findall("<image [^>]*>", whole), steps, strict=True):
        y, width, height = (float(re.search(rf' {name}="([\d.-]+)"', tag)[1]) for name in ("y", "width", "height"))
        found = values_of(base64.b64decode(re.search(r'base64,([^"]*)"', tag)[1]), image.span)
        assert (width / found.shape[1], height / found.shape[0]) == (step, step)
        for row, column in ((0, 0), (found.shape[0] - 1, found.shape[1] - 1)):
            up, right = shape[0] - y - height + step * (row + 0.5), step * (column + 0.5)
            near = image.data[min(int(up), shape[0] - 1), min(int(right), shape[1] - 1)]
            assert found[row, column] == pytest.approx(near, abs=0.51 * image.data.max() / 199)
            assert abs(up - 0.5 - (step // 2 + step * row)) <= 0.5


def test_a_survey_is_drawn_wide():
    geom = make_geometry("galactic", "CAR", 0.0, 0.0, (140.0, 10.0), 0.1)
    data = np.random.default_rng(1).normal(size=geom.shape)
    whole, _ = draw_map([SkyImage("a", "survey", "unit", data, 5.0)], field(geom), "name")
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', whole).groups())
    assert width > 4 * height


def places_of(d: str) -> list[np.ndarray]:
    """Positions of each part of a path, shape (n, 2)."""
    found = []
    for part in d.split("M")[1:]:
        start, *steps = re.split("(?=[lhv])", part)
        pairs = [np.array(start.split(","), float)]
        for step in steps:
            numbers = [*map(float, step[1:].split(","))]
            pairs.append(np.array({"l": numbers, "h": [*numbers, 0.0], "v": [0.0, *numbers]}[step[0]]))
        found.append(np.cumsum(pairs, axis=0))
    return found


def path_of(svg: str, about: str) -> np.ndarray:
    """Positions of a path, the longest one that is used with some attributes, shape (n, 2)."""
    uses = re.findall(rf'<use href="#([^"]*)"[^>]*{about}[^>]*/>', svg)
    d = max((re.search(rf'id="{name}" d="([^"]*)"', svg)[1] for name in uses), key=len)
    return np.concatenate(places_of(d))


@pytest.mark.parametrize("geom", [GEOM, TANGENTIAL], ids=["galactic", "icrs"])
def test_disc_and_ring_have_their_radii(geom):
    target = SkyCoord(*geom.center_deg, unit="deg").directional_offset_by(40 * u.deg, 0.4 * u.deg)
    about = field(geom, target=(target.ra.deg, target.dec.deg), ring=(0.5, 0.8))
    whole, zoom = draw_map([SkyImage("a", "a", "", np.zeros(geom.shape), 5.0)], about, "name")
    wcs = geom.wcs()
    disc, ring = path_of(whole, 'stroke-width="1.6"'), path_of(whole, "#8a63d2")
    for places, radii in ((disc, [0.2]), (ring, [0.5, 0.8])):
        x, y = places.T
        found = wcs.pixel_to_world(x - 0.5, geom.ny - 0.5 - y).separation(target).deg
        nearest = np.argmin(np.abs(found[:, None] - radii), axis=1)
        np.testing.assert_allclose(found, np.array(radii)[nearest], atol=0.1 * geom.pixel_deg)
        assert min(np.bincount(nearest, minlength=len(radii))) > 30
    assert '<use href="#name-marks"/>' in zoom


@pytest.mark.parametrize("geom", [GEOM, TANGENTIAL], ids=["galactic", "icrs"])
def test_numbers_on_the_axes_are_those_of_the_wcs(geom):
    whole, _ = draw_map([SkyImage("a", "a", "", np.zeros(geom.shape), 5.0)], field(geom), "name")
    height = SIDE * geom.ny / geom.nx
    groups = [re.search(f'<g text-anchor="{anchor}">(.*?)</g>', whole)[1] for anchor in ("middle", "end")]
    found = [re.findall(r'<text x="([\d.]+)" y="([\d.]+)">([\d.−]+)</text>', group) for group in groups]
    along = [[float(x), float(name)] for x, _, name in found[0]]
    upward = [[float(y), float(name)] for _, y, name in found[1]]
    assert min(len(along), len(upward)) >= 2
    for x, lon in along:
        place = geom.wcs().pixel_to_world((x - LEFT) / SIDE * geom.nx - 0.5, -0.5)
        assert place.spherical.lon.deg == pytest.approx(lon, abs=0.03)
    for y, lat in upward:
        place = geom.wcs().pixel_to_world(-0.5, geom.ny * (1 - (y - 3.5 - TOP) / height) - 0.5)
        assert place.spherical.lat.deg == pytest.approx(lat, abs=0.03)


@pytest.mark.parametrize("geom", [GEOM, TANGENTIAL], ids=["galactic", "icrs"])
def test_the_script_knows_where_a_place_lies(geom):
    """Nodes of the grid, between which it takes the mean, against astropy."""
    about = json.loads(positions(geom, (83.0, 22.0)))
    np.testing.assert_allclose(
        about["target"],
        SkyCoord(83.0, 22.0, unit="deg").transform_to(geom.frame).cartesian.xyz.value,
        atol=1e-6,
    )
    nodes = np.array(about["nodes"], float).reshape(-1, about["columns"], 3)
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, geom.nx, 50), rng.uniform(0, geom.ny, 50)
    i, j = (x // about["step"]).astype(int), (y // about["step"]).astype(int)
    right, down = (x / about["step"] - i)[:, None], (y / about["step"] - j)[:, None]
    mean = (1 - down) * ((1 - right) * nodes[j, i] + right * nodes[j, i + 1]) + down * (
        (1 - right) * nodes[j + 1, i] + right * nodes[j + 1, i + 1]
    )
    place = geom.wcs().pixel_to_world(x - 0.5, geom.ny - 0.5 - y)
    wanted = place.represent_as(UnitSphericalRepresentation).to_cartesian().xyz.value.T
    angle = np.rad2deg(np.linalg.norm(mean / np.linalg.norm(mean, axis=1)[:, None] - wanted, axis=1))
    assert angle.max() < 0.01


def test_a_target_off_the_map_has_no_part_of_its_own():
    assert draw_map([SkyImage("a", "a", "", np.zeros(GEOM.shape), 5.0)], field(target=(10.0, 80.0)), "name")[1] == ""


def test_of_many_pointings_some_are_drawn():
    flat = SkyImage("a", "flat", "unit", np.zeros(GEOM.shape))
    crowd = np.random.default_rng(1).normal(0.0, 0.3, (10_000, 2)) + field().target_deg
    none, few, many = (draw_map([flat], field(pointings=each), "n")[0] for each in ((), crowd[:100], crowd))
    crosses = [len(re.findall(r"M[\d.,-]+h[\d.]+m", svg)) for svg in (none, few, many)]
    assert ">pointings<" in few
    assert crosses[0] == 0
    assert 90 <= crosses[1] <= 100
    assert 180 <= crosses[2] <= 202
    assert re.search(r">1 in \d\d pointings<", many)


def test_layers_are_there_and_the_first_is_seen():
    images = [SkyImage("a", title, "σ", np.zeros(GEOM.shape), 5.0) for title in ("all", "low", "high")]
    whole, zoom = draw_map(images, field(), "one")
    assert [('display="none"' in tag) for tag in re.findall(r"<image [^>]*>", whole)] == [False, True, True]
    assert '<use href="#one-layers"/>' in zoom
    assert "<image" not in zoom


def test_images_of_a_cube():
    energy, true = energy_axis([1.0, 4.0]), energy_axis([0.5, 1.0, 4.0, 16.0], "energy_true")
    disc = Cube(np.full((1, *GEOM.shape), 7.0), "", GEOM, (energy,))
    maps = {f"disc_{name}": disc for name in ("significance", "counts")}
    exposure = np.zeros((3, *GEOM.shape))
    exposure[1, 4:] = 2.5e9
    images = final_images(maps | {"exposure": Cube(exposure, "m2 s", GEOM, (true,))}, 0.1)
    assert [(image.name, image.top) for image in images] == [
        ("significance", 7.0),
        ("counts", None),
        ("exposure", None),
    ]
    assert (images[-1].title, images[-1].unit) == ("exposure at 2 TeV", "10⁹ m² s")
    assert images[-1].data[5, 5] == 2.5
    assert np.isnan(images[-1].data[0]).all()
    assert np.isnan(final_images(maps, 0.1)[-1].data).all()


def test_hot_spots_are_connected_pixels():
    data = np.full(TANGENTIAL.shape, 1.0)
    data[0, :4] = np.nan
    data[12, 14], data[13, 15], data[13, 16] = 6.5, 5.0, 4.2
    data[60, 70], data[60, 72] = 4.5, 3.9
    spots = find_hot_spots(data, field(TANGENTIAL, target=TANGENTIAL.center_deg))
    assert [(spot.significance, spot.n_pixels, spot.is_excluded) for spot in spots] == [(6.5, 3, True), (4.5, 1, False)]
    place = TANGENTIAL.wcs().pixel_to_world(14, 12)
    assert (spots[0].ra_deg, spots[0].dec_deg) == pytest.approx((place.ra.deg, place.dec.deg))
    assert spots[0].offset_deg == pytest.approx(place.separation(SkyCoord(*TANGENTIAL.center_deg, unit="deg")).deg)


def test_hot_spots_are_those_of_scipy():
    data = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=TANGENTIAL.shape), 1.5)
    data *= 3.0 / data.std()
    data[20:30, 10:20] = np.nan
    regions, number = ndimage.label(np.nan_to_num(data) >= 4.0, np.ones((3, 3)))
    assert number > 20
    peaks = ndimage.maximum_position(np.nan_to_num(data), regions, range(1, number + 1))
    expected = sorted(((data[peak], int(np.sum(regions == regions[peak]))) for peak in peaks), reverse=True)
    spots = find_hot_spots(data, field(TANGENTIAL, target=TANGENTIAL.center_deg))
    assert [(spot.significance, spot.n_pixels) for spot in spots] == expected[:20]


def test_a_faint_map_has_its_highest_pixel_and_an_empty_one_none():
    data = np.full(GEOM.shape, np.nan)
    assert find_hot_spots(data, field()) == []
    data[5, 6], data[7, 8] = -1.0, 2.5
    assert [(spot.significance, spot.n_pixels) for spot in find_hot_spots(data, field())] == [(2.5, 1)]
