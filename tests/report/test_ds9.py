"""DS9 regions, read back with the regions library."""

from dataclasses import replace

import numpy as np
import pytest
from regions import Regions

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.maps import make_geometry
from cubeflow.products.exclusion import make_mask_exclusion
from cubeflow.report.ds9 import exclusion_regions, outlines, pointing_regions

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (5.0, 4.0), 0.05)
SHAPES = """# Region file format: DS9
fk5
circle(83.633,22.014,0.35)
galactic
ellipse(184.6,-5.8,0.9,0.3,40)
icrs
box(84.5,23.0,0.8,0.5,20)
polygon(82.2,20.6,82.9,20.7,82.5,21.3)
-circle(84.5,23.0,0.1)
"""


def mask_of(path) -> np.ndarray:
    """True where a file excludes."""
    return make_mask_exclusion(read_exclusion(path), GEOM)


def test_regions_exclude_what_the_file_excluded(tmp_path):
    (tmp_path / "given.reg").write_text(SHAPES)
    exclusion = read_exclusion(tmp_path / "given.reg")
    (tmp_path / "made.reg").write_text(exclusion_regions([exclusion], mask_of(tmp_path / "given.reg"), GEOM))
    np.testing.assert_array_equal(mask_of(tmp_path / "made.reg"), mask_of(tmp_path / "given.reg"))
    assert mask_of(tmp_path / "made.reg").any()


def test_energies_of_a_region_are_its_text(tmp_path):
    (tmp_path / "given.reg").write_text(SHAPES)
    exclusion = replace(read_exclusion(tmp_path / "given.reg"), energy_tev=(0.0, 3.5))
    made = exclusion_regions([exclusion], np.zeros(GEOM.shape, bool), GEOM)
    assert made.count("# text={0 to 3.5 TeV}") == 5
    (tmp_path / "made.reg").write_text(made)
    assert {region.meta["text"] for region in Regions.read(tmp_path / "made.reg")} == {"0 to 3.5 TeV"}


def test_an_image_becomes_outlines(tmp_path):
    from astropy.io import fits

    offset = GEOM.offset_deg(84.3, 22.5)
    keep = (offset > 0.5) & (GEOM.offset_deg(82.5, 20.9) > 0.3)
    fits.PrimaryHDU(keep.astype("u1"), GEOM.wcs().to_header()).writeto(tmp_path / "mask.fits")
    text = exclusion_regions([read_exclusion(tmp_path / "mask.fits")], ~keep, GEOM)
    assert text.count("polygon") == 2
    (tmp_path / "made.reg").write_text(text)
    differ = mask_of(tmp_path / "made.reg") ^ ~keep
    assert differ.sum() <= 2


def test_an_exclusion_at_the_border_is_closed():
    excluded = np.zeros(GEOM.shape, bool)
    excluded[:, :4] = True
    (polygon,) = outlines(excluded, GEOM)
    numbers = [float(number) for number in polygon.removeprefix("polygon(").removesuffix(")").split(",")]
    assert max(numbers[::2]) == pytest.approx(83.6 + 2.5 / np.cos(np.deg2rad(22.0)), abs=0.1)


def test_nothing_excluded():
    assert exclusion_regions([], np.zeros(GEOM.shape, bool), GEOM).splitlines() == ["# Region file format: DS9", "icrs"]


def test_pointings(tmp_path, table_of):
    rows = [
        {"obs_id": 7, "status": "ok", "ra_pnt": 83.5, "dec_pnt": -21.25},
        {"obs_id": 8, "status": "dropped", "ra_pnt": 359.9, "dec_pnt": 0.5},
        {"obs_id": 9, "status": "refused"},
    ]
    (tmp_path / "pointings.reg").write_text(pointing_regions(table_of(rows)))
    found = list(Regions.read(tmp_path / "pointings.reg", format="ds9"))
    assert [str(region.meta["text"]) for region in found] == ["7", "8"]
    assert found[0].center.icrs.dec.deg == pytest.approx(-21.25)
    assert found[1].visual["color" if "color" in found[1].visual else "facecolor"] == "yellow"
