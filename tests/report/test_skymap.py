"""Sky maps: what is drawn where."""

import io
import re

import numpy as np
import pytest

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.report.drawing import power_of_ten, superscript
from cubeflow.report.skymap import Field, SkyImage, colours, draw_image, final_images, reduced

GEOM = make_geometry("galactic", "CAR", 10.0, 1.0, (4.0, 2.6), 0.1)


def field(geom=GEOM, pointings=((270.0, -19.0),), title="a target") -> Field:
    excluded = np.zeros(geom.shape, bool)
    excluded[10:15, 12:19] = True
    return Field(geom, excluded, np.array(pointings).reshape(-1, 2), (271.0, -19.5), title)


def pixels(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(png))[..., :3]


@pytest.mark.parametrize("style", ["signed", "excess", "counts", "smooth"])
def test_every_style_is_drawn(style):
    data = np.random.default_rng(1).normal(size=GEOM.shape)
    data[:3] = np.nan
    png, svg = draw_image(SkyImage("a", "some map", "unit", data, style), field(), "name", "alt")
    assert pixels(png).shape[1] > 600
    assert "some map" in svg
    assert "Galactic longitude" in svg


@pytest.mark.parametrize("value", [np.nan, 0.0, -3.0])
def test_maps_without_structure(value):
    for style in ("signed", "excess", "counts", "smooth"):
        image = SkyImage("a", "flat", "unit", np.full(GEOM.shape, value), style)
        _, svg = draw_image(image, field(pointings=()), "name", "alt")
        assert ("no values" in svg) == bool(np.isnan(value))


def test_title_from_a_file_is_no_formula():
    assert "$\\frac{" in draw_image(SkyImage("a", "m", "u", np.zeros(GEOM.shape)), field(title="$\\frac{"), "n", "a")[1]


def test_equal_steps_of_significance_look_equal_about_zero():
    cmap, limits = colours(SkyImage("a", "a", "", np.array([[-9.0, 30.0]]), "signed"))
    assert (limits.vmin, limits.vmax) == (-5.0, 15.0)
    white = cmap(limits(0.0))[:3]
    assert min(white) > 0.95
    # As far from white on either side.
    above, below = (np.abs(np.subtract(cmap(limits(x))[:3], white)).max() for x in (1.0, -1.0))
    assert above == pytest.approx(below, rel=0.35)


def test_a_large_map_is_thinned():
    data = np.arange(3000.0 * 10).reshape(10, 3000)
    small, step = reduced(data)
    assert (step, small.shape) == (3, (3, 1000))
    assert small[0, 0] == data[1, 1]
    assert reduced(data[:, :1200])[1] == 1


def test_a_survey_is_drawn_wide():
    geom = make_geometry("galactic", "CAR", 0.0, 0.0, (140.0, 10.0), 0.1)
    data = np.random.default_rng(1).normal(size=geom.shape)
    png, _ = draw_image(SkyImage("a", "survey", "unit", data, "signed"), field(geom), "name", "alt")
    assert pixels(png).shape[1] > 4 * pixels(png).shape[0]


def test_of_many_pointings_some_are_drawn():
    flat = SkyImage("a", "flat", "unit", np.zeros(GEOM.shape))
    crowd = np.random.default_rng(1).normal(0.0, 0.3, (10_000, 2)) + field().target_deg
    none, few, many = (draw_image(flat, field(pointings=each), "n", "a")[1] for each in ((), crowd[:100], crowd))
    assert ">pointings<" in few
    assert few.count("<use") - none.count("<use") >= 100
    assert 180 <= many.count("<use") - none.count("<use") <= 202
    assert re.search(r">1 in \d\d pointings<", many)


def test_images_of_a_cube():
    energy, true = energy_axis([1.0, 4.0]), energy_axis([0.5, 1.0, 4.0, 16.0], "energy_true")
    disc = Cube(np.ones((1, *GEOM.shape)), "", GEOM, (energy,))
    maps = {f"disc_{name}": disc for name in ("significance", "excess", "counts", "background")}
    exposure = np.zeros((3, *GEOM.shape))
    exposure[1, 4:] = 2.5e9
    images = final_images(maps | {"exposure": Cube(exposure, "m2 s", GEOM, (true,))}, 0.1)
    assert [image.name for image in images] == ["significance", "excess", "counts", "background", "exposure"]
    assert images[-1].title == "exposure at 2 TeV"
    assert images[-1].unit == "exposure (10⁹ m² s)"
    assert images[-1].data[5, 5] == 2.5
    assert np.isnan(images[-1].data[0]).all()
    assert np.isnan(final_images(maps, 0.1)[-1].data).all()


def test_powers_of_ten():
    assert [power_of_ten(np.array(values)) for values in ([2.5e9, 1.0], [0.02], [0.0], [])] == [9, -2, 0, 0]
    assert superscript(-12) == "⁻¹²"
