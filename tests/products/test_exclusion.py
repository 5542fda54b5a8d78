import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from regions import Regions

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.maps import make_geometry, sphere
from cubeflow.products.exclusion import Areas, Disc, Exclusion, ExclusionError, make_mask_exclusion

GEOM = make_geometry("icrs", "TAN", 83.633, 22.014, (4.0, 3.0), 0.1)


def coords():
    ra, dec = sphere.lon_lat(GEOM.center_vectors)
    return SkyCoord(ra, dec, unit="deg")


def written(tmp_path, text):
    path = tmp_path / "exclusion.reg"
    path.write_text("# Region file format: DS9\n" + text)
    return read_exclusion(path)


def image(tmp_path, geom, data, name="mask.fits"):
    path = tmp_path / name
    fits.PrimaryHDU(data, geom.wcs().to_header()).writeto(path)
    return path


def test_nothing_excludes_nothing():
    assert not make_mask_exclusion(None, GEOM).any()
    assert make_mask_exclusion(None, GEOM).shape == GEOM.shape


def test_discs_are_great_circles():
    made = ~make_mask_exclusion(Exclusion("x", Areas((Disc(83.0, 22.5, 0.7),))), GEOM)
    np.testing.assert_array_equal(made, coords().separation(SkyCoord(83.0, 22.5, unit="deg")).deg >= 0.7)


def test_circles_in_several_frames(tmp_path):
    crab = SkyCoord(83.633, 22.014, unit="deg")
    galactic = f"galactic;circle({crab.galactic.l.deg:.8f},{crab.galactic.b.deg:.8f},0.35)\n"
    sexagesimal = 'fk5;circle(5:34:31.92,+22:00:50.4,0.35d)\nicrs;circle(84.5,23.0,720")\n'
    made = ~make_mask_exclusion(written(tmp_path, galactic + sexagesimal), GEOM)
    away = coords().separation(crab).deg, coords().separation(SkyCoord(84.5, 23.0, unit="deg")).deg
    np.testing.assert_array_equal(made, (away[0] >= 0.35) & (away[1] >= 0.2))


def test_other_shapes(tmp_path):
    shapes = "box(83.633,22.014,1.0,0.5,30)", "polygon(82.5,21.0,83.0,21.0,83.0,21.6)", "ellipse(85,23,0.3,0.6,0)"
    made = ~make_mask_exclusion(written(tmp_path, "icrs\n" + "\n".join(shapes) + "\n"), GEOM)
    offset = SkyCoord(83.633, 22.014, unit="deg").skyoffset_frame(rotation=0 * u.deg)
    box = coords().transform_to(offset)
    east, north = box.lon.wrap_at("180d").deg, box.lat.deg
    angle = np.deg2rad(30)  # DS9 turns counter-clockwise from the first axis, which points west
    x = -east * np.cos(angle) + north * np.sin(angle)
    y = east * np.sin(angle) + north * np.cos(angle)
    deep = (np.abs(x) < 0.45) & (np.abs(y) < 0.2)
    assert deep.any()
    assert not made[deep].any()
    assert made[(np.hypot(east, north) > 0.62) & (north > -0.2) & (east > -1.0) & (east < 1.0)].all()
    areas = {"box": 0.5, "triangle": 0.5 * 0.6 * 0.5 * np.cos(np.deg2rad(21.4)), "ellipse": np.pi * 0.3 * 0.6}
    assert (~made).sum() * 0.01 == pytest.approx(sum(areas.values()), rel=0.1)


@pytest.mark.parametrize("projection", ["CAR", "AIT"])
@pytest.mark.parametrize(("lon", "lat"), [(0, 0), (0, 60), (179, 0), (100, 80), (250, -88.5)])
def test_areas_on_maps_of_the_whole_sky_are_those_on_the_sphere(tmp_path, projection, lon, lat):
    """Within 3 deg and beyond 1.5 deg of a position, whatever the shape that says so and where it lies on the map."""
    geom = make_geometry("galactic", projection, 0.0, 0.0, (360.0, 180.0), 0.5)
    center = SkyCoord(lon, lat, unit="deg", frame="galactic")
    on_sky = np.isfinite(geom.center_vectors[..., 0])
    away = np.full(geom.shape, np.inf)
    away[on_sky] = SkyCoord(*sphere.lon_lat(geom.center_vectors[on_sky]), unit="deg").separation(center).deg
    disc, band = away < 3.0, (away < 3.0) & (away >= 1.5)
    shapes = {f"ellipse({lon},{lat},3,3,20)": disc, f"circle({lon},{lat},3)": disc}
    shapes |= {f"annulus({lon},{lat},1.5,3)": band, f"ellipse({lon},{lat},1.5,1.5,3,3,50)": band}
    assert band.sum() > 20
    for shape, expected in shapes.items():
        made = make_mask_exclusion(written(tmp_path, f"galactic\n{shape}\n"), geom)
        np.testing.assert_array_equal(made, expected, err_msg=shape)
    ring = center.directional_offset_by(np.arange(0, 360, 6) * u.deg, 3 * u.deg)
    corners = ",".join(f"{each.l.deg:.8f},{each.b.deg:.8f}" for each in ring)
    made = make_mask_exclusion(written(tmp_path, f"galactic\npolygon({corners})\n"), geom)
    sides = 3.0 * np.cos(np.deg2rad(3.0))  # the middles of the sides are closer to the centre than the corners
    np.testing.assert_array_equal(
        made[(away < 0.999 * sides) | (away > 3.0)], disc[(away < 0.999 * sides) | (away > 3.0)]
    )


@pytest.mark.parametrize("frame", ["icrs", "galactic", "fk4"])
@pytest.mark.parametrize(
    "shape",
    [
        "ellipse({},{},0.9,0.3,35)",
        "box({},{},1.4,0.5,-20)",
        "box({},{},0.5,0.3,1.4,0.9,70)",
        "ellipse({},{},0.5,0.2,1.0,0.4,110)",
        "annulus({},{},0.4,0.9)",
    ],
)
def test_small_shapes_are_those_of_the_regions_library(tmp_path, frame, shape):
    """Close to the centre of a map its plane is the sky, and what the library draws there is right."""
    center = SkyCoord(83.633, 22.014, unit="deg").transform_to("galactic" if frame == "galactic" else frame)
    text = f"{frame}\n" + shape.format(center.spherical.lon.deg, center.spherical.lat.deg)
    geom = make_geometry("icrs", "TAN", 83.633, 22.014, (2.4, 2.4), 0.02)
    (region,) = Regions.parse(text, format="ds9")
    expected = region.contains(SkyCoord(*sphere.lon_lat(geom.center_vectors), unit="deg"), geom.wcs())
    made = make_mask_exclusion(written(tmp_path, text + "\n"), geom)
    assert expected.any()
    assert np.count_nonzero(made ^ expected) <= 0.01 * np.count_nonzero(expected)


def test_a_polygon_is_bounded_by_great_circles(tmp_path):
    """Half way between two positions at 60 deg of declination the great circle is closer to the pole than they are."""
    geom = make_geometry("icrs", "CAR", 30.0, 0.0, (1.0, 160.0), 0.1)
    made = make_mask_exclusion(written(tmp_path, "icrs\npolygon(0,60,60,60,30,-40)\n"), geom)
    _, dec = sphere.lon_lat(geom.center_vectors[:, geom.nx // 2])
    inside = dec[made[:, geom.nx // 2]]
    top = np.rad2deg(np.arctan(np.tan(np.deg2rad(60.0)) / np.cos(np.deg2rad(30.0))))
    assert (inside.min(), inside.max()) == pytest.approx((-40.0, top), abs=0.15)


def test_a_minus_sign_takes_out_of_the_excluded(tmp_path):
    made = ~make_mask_exclusion(written(tmp_path, "icrs;circle(83.6,22,1.0)\nicrs;-circle(83.6,22,0.4)\n"), GEOM)
    away = coords().separation(SkyCoord(83.6, 22.0, unit="deg")).deg
    np.testing.assert_array_equal(made, (away >= 1.0) | (away < 0.4))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no region"),
        ("icrs;point(83,22)\n", "has no area"),
        ("icrs;line(83,22,84,22)\n", "has no area"),
        ("icrs;-circle(83,22,1)\n", "every region has a minus sign"),
        ("icrs;ellipse(83,22,200,1,0)\n", "sizes above 0 and up to 180 deg"),
        ("icrs;polygon(0,0,120,0,240,0)\n", "corners within 80 deg of their middle"),
        ("image;circle(10,10,3)\n", "expected celestial coordinates"),
        ("icrs;circle(83,22)\n", "exclusion .*exclusion.reg"),
        ("icrs;blob(83,22,1)\n", "exclusion .*exclusion.reg"),
    ],
)
def test_regions_that_cannot_be_used_are_refused(tmp_path, text, match):
    with pytest.raises(ExclusionError, match=match):
        written(tmp_path, text)


@pytest.mark.parametrize(("frame", "projection"), [("icrs", "TAN"), ("galactic", "CAR"), ("galactic", "AIT")])
def test_images_in_any_frame_and_projection(tmp_path, frame, projection):
    center = coords()[15, 20]
    center = (center.galactic.l.deg, center.galactic.b.deg) if frame == "galactic" else (center.ra.deg, center.dec.deg)
    grid = make_geometry(frame, projection, *center, (8.0, 8.0), 0.05)
    keep = grid.offset_deg(83.633, 22.014) >= 0.5
    made = ~make_mask_exclusion(read_exclusion(image(tmp_path, grid, keep.astype("i2"))), GEOM)
    away = GEOM.offset_deg(83.633, 22.014)
    assert not made[away < 0.46].any()
    assert made[away > 0.54].all()


def test_an_image_in_another_equinox(tmp_path):
    grid = make_geometry("icrs", "TAN", 83.0, 21.95, (8.0, 8.0), 0.05)
    header = grid.wcs().to_header()
    header["RADESYS"], header["EQUINOX"] = "FK4", 1950.0
    position = SkyCoord(83.633, 22.014, unit="deg").fk4
    lon, lat = grid.wcs().wcs_pix2world(*np.meshgrid(np.arange(grid.nx), np.arange(grid.ny)), 0)
    keep = SkyCoord(lon, lat, unit="deg", frame="fk4", equinox="B1950").separation(position).deg >= 0.5
    path = tmp_path / "fk4.fits.gz"
    fits.PrimaryHDU(keep.astype("u1"), header).writeto(path)
    made = ~make_mask_exclusion(read_exclusion(path), GEOM)
    assert not made[GEOM.offset_deg(83.633, 22.014) < 0.45].any()
    assert made[GEOM.offset_deg(83.633, 22.014) > 0.55].all()


def test_outside_the_image_nothing_is_excluded(tmp_path):
    grid = make_geometry("icrs", "TAN", 83.633, 22.014, (1.0, 1.0), 0.1)
    made = ~make_mask_exclusion(read_exclusion(image(tmp_path, grid, np.zeros(grid.shape))), GEOM)
    assert (~made).sum() == 100
    assert made[0, 0]


def test_axes_of_length_one_are_dropped(tmp_path):
    path = tmp_path / "cube.fits"
    header = GEOM.wcs().to_header()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones((1, *GEOM.shape), "u1"), header)]).writeto(path)
    assert not make_mask_exclusion(read_exclusion(path), GEOM).any()


@pytest.mark.parametrize("value", [np.nan, 2.0, -1.0])
def test_other_values_are_refused(tmp_path, value):
    data = np.ones(GEOM.shape)
    data[3, 4] = value
    with pytest.raises(ExclusionError, match=r"expected 1 \(keep\) or 0 \(excluded\)"):
        read_exclusion(image(tmp_path, GEOM, data))


def test_nothing_left_is_an_error(tmp_path):
    grid = make_geometry("icrs", "TAN", 83.633, 22.014, (8.0, 8.0), 0.1)
    with pytest.raises(ExclusionError, match="nothing of the map is left"):
        make_mask_exclusion(read_exclusion(image(tmp_path, grid, np.zeros(grid.shape))), GEOM)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(ExclusionError, match=r"absent\.fits: No such file"):
        read_exclusion(tmp_path / "absent.fits")
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(ExclusionError, match=r"text\.fits"):
        read_exclusion(tmp_path / "text.fits")
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(ExclusionError, match="No table found"):
        read_exclusion(tmp_path / "empty.fits")
    fits.PrimaryHDU(np.ones((3, 4, 5))).writeto(tmp_path / "cube.fits")
    with pytest.raises(ExclusionError, match="two celestial axes"):
        read_exclusion(tmp_path / "cube.fits")
