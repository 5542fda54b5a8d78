"""Discs of catalogues against discs of regions, and what is no catalogue."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.maps import make_geometry
from cubeflow.products.exclusion import ExclusionError, make_mask_exclusion

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (4.0, 3.0), 0.05)
ROWS = ((83.633, 22.014, 0.35), (84.5, 21.3, 0.2), (10.0, -80.0, 1.0))


def catalogue(**columns: object) -> Table:
    """Table of `ROWS`; columns are replaced, or taken out by None."""
    ra, dec, radius = (np.array(values) for values in zip(*ROWS, strict=True))
    found = {"name": ["a", "b", "c"], "RA": ra, "DEC": dec, "RADIUS": radius, **columns}
    table = Table({name: values for name, values in found.items() if values is not None})
    if "RADIUS" in table.colnames and table["RADIUS"].unit is None:
        table["RADIUS"].unit = "deg"
    return table


def expected() -> np.ndarray:
    """Mask by astropy's separations."""
    centers = SkyCoord(GEOM.wcs().pixel_to_world(*np.meshgrid(np.arange(GEOM.nx), np.arange(GEOM.ny))))
    keep = np.ones(GEOM.shape, bool)
    for ra, dec, radius in ROWS:
        keep &= centers.separation(SkyCoord(ra, dec, unit="deg")).deg >= radius
    return keep


def mask_of(table: Table, path) -> np.ndarray:
    table.write(path, overwrite=True)
    return ~make_mask_exclusion(read_exclusion(path), GEOM)


@pytest.mark.parametrize("name", ["a.ecsv", "a.fits", "a.fits.gz"])
def test_a_catalogue_excludes_a_disc_for_each_row(tmp_path, name):
    np.testing.assert_array_equal(mask_of(catalogue(), tmp_path / name), expected())


def test_units_and_names_of_columns(tmp_path):
    table = catalogue()
    table["RADIUS"] = table["RADIUS"].to("arcmin")
    table.rename_columns(["RA", "DEC", "RADIUS"], ["raj2000", "dej2000", "radius"])
    np.testing.assert_array_equal(mask_of(table, tmp_path / "a.ecsv"), expected())


def test_galactic_positions(tmp_path):
    galactic = SkyCoord([row[0] for row in ROWS], [row[1] for row in ROWS], unit="deg").galactic
    table = catalogue(RA=None, DEC=None, GLON=galactic.l.deg, GLAT=galactic.b.deg)
    np.testing.assert_array_equal(mask_of(table, tmp_path / "a.ecsv"), expected())


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"RADIUS": None}, "expected a column RADIUS, found"),
        ({"DEC": None}, "expected columns RA and DEC, or GLON and GLAT"),
        ({"RADIUS": [0.3, -0.1, 0.2]}, r"row 2: expected a position and a radius above 0, got 84.5, 21.3, -0.1 deg"),
        ({"RADIUS": MaskedColumn([0.3, 0.1, 0.2], mask=[False, False, True])}, "row 3"),
        ({"DEC": [22.0, 95.0, 0.0]}, "row 2"),
        ({"RA": ["5h", "6h", "7h"]}, "column RA: expected numbers"),
    ],
)
@pytest.mark.parametrize("name", ["a.ecsv", "a.fits"])
def test_what_is_no_catalogue(tmp_path, columns, match, name):
    catalogue(**columns).write(tmp_path / name)
    with pytest.raises(ExclusionError, match=rf"exclusion .*{name}: .*{match}"):
        read_exclusion(tmp_path / name)


def test_a_radius_needs_a_unit_of_angle(tmp_path):
    table = catalogue()
    table["RADIUS"].unit = "m"
    table.write(tmp_path / "a.ecsv")
    with pytest.raises(ExclusionError, match=r"column RADIUS: expected a unit of angle, got 'm'"):
        read_exclusion(tmp_path / "a.ecsv")
    table["RADIUS"].unit = None
    table.write(tmp_path / "b.ecsv")
    with pytest.raises(ExclusionError, match=r"column RADIUS: expected a unit such as deg"):
        read_exclusion(tmp_path / "b.ecsv")


def test_no_rows_and_no_table(tmp_path):
    catalogue()[:0].write(tmp_path / "a.ecsv")
    with pytest.raises(ExclusionError, match="no rows"):
        read_exclusion(tmp_path / "a.ecsv")
    (tmp_path / "b.ecsv").write_text("icrs\ncircle(1, 2, 3)\n")
    with pytest.raises(ExclusionError, match=r"b\.ecsv"):
        read_exclusion(tmp_path / "b.ecsv")
