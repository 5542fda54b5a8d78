"""Exclusion cubes: a mask for each range of energy, on a grid of its own."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.maps import energy_axis, make_geometry
from cubeflow.products.exclusion import Areas, Disc, Exclusion, ExclusionError, make_mask_exclusion

GEOM = make_geometry("icrs", "TAN", 83.633, 22.014, (2.1, 1.7), 0.1)
GRID = make_geometry("galactic", "CAR", 184.6, -5.7, (1.5, 1.3), 0.07)
# The ranges overlap, leave a gap (2 to 3 TeV) and end before the last bin does.
RANGES = [(0.5, 1.0), (0.8, 2.0), (3.0, 9.0)]
ENERGY = energy_axis([0.3, 0.5, 0.9, 2.0, 3.0, 5.0, 9.0, 20.0])


def planes(seed=5):
    return np.random.default_rng(seed).random((len(RANGES), *GRID.shape)) < 0.7


def bands(unit="TeV", ranges=RANGES, columns=("E_MIN", "E_MAX"), scale=1.0):
    table = fits.BinTableHDU(
        Table([[low * scale for low, _ in ranges], [high * scale for _, high in ranges]], names=columns)
    )
    for number, _ in enumerate(columns, 1):
        if unit:
            table.header[f"TUNIT{number}"] = unit
    return table


def written(path, data, table=None, name="MASK_BANDS", named=True):
    header = GRID.wcs().to_header()
    if named:
        header["BANDSHDU"] = name
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.asarray(data).astype("u1"), header, name="MASK")]
    if table is not None:
        table.name = name
        hdus.append(table)
    fits.HDUList(hdus).writeto(path)
    return path


def slow_keep(keep, energy):
    """Pixel by pixel and bin by bin: excluded if any plane that shares energies with the bin excludes it."""
    wcs, own = GRID.wcs(), GEOM.wcs()
    expected = np.ones((energy.n_bins, *GEOM.shape), bool)
    for iy, ix in np.ndindex(GEOM.shape):
        sky = own.pixel_to_world(ix, iy)
        i, j = (int(np.floor(float(value) + 0.5)) for value in wcs.world_to_pixel(sky))
        if not (0 <= i < GRID.nx and 0 <= j < GRID.ny):
            continue
        for k in range(energy.n_bins):
            low, high = energy.edges[k], energy.edges[k + 1]
            for plane, (lower, upper) in zip(keep, RANGES, strict=True):
                if low < upper and high > lower and not plane[j, i]:
                    expected[k, iy, ix] = False
    return expected


@pytest.mark.parametrize(("unit", "scale"), [("TeV", 1.0), ("GeV", 1e3), ("keV", 1e9)])
def test_each_energy_has_its_own_mask(tmp_path, unit, scale):
    keep = planes()
    read = read_exclusion(written(tmp_path / "m.fits", keep, bands(unit, scale=scale)))
    expected = slow_keep(keep, ENERGY)
    assert read.by_energy
    np.testing.assert_array_equal(~make_mask_exclusion(read, GEOM, ENERGY), expected)
    # Beyond the cube's energies, and between them, nothing is excluded.
    assert expected[[0, 3, 6]].all()
    assert not expected[[1, 2, 4, 5]].all(axis=(1, 2)).any()
    # Edges that are equal but for rounding share nothing.
    off = energy_axis([0.3, 0.5 * (1 + 1e-9), 0.9, 2.0 * (1 - 1e-9), 3.0 * (1 + 1e-9), 5.0, 9.0 * (1 - 1e-9), 20.0])
    np.testing.assert_array_equal(~make_mask_exclusion(read, GEOM, off), expected)


def test_without_an_axis_a_pixel_is_kept_if_it_is_at_every_energy(tmp_path):
    keep = planes(6)
    read = read_exclusion(written(tmp_path / "m.fits.gz", keep, bands()))
    np.testing.assert_array_equal(~make_mask_exclusion(read, GEOM), slow_keep(keep, ENERGY).all(axis=0))


def test_planes_beyond_the_energies_of_an_exclusion_exclude_nothing(tmp_path):
    keep = planes(6)
    read = replace(read_exclusion(written(tmp_path / "m.fits", keep, bands())), energy_tev=RANGES[2])
    last_alone = np.concatenate([np.ones_like(keep[:2]), keep[2:]])
    assert not np.array_equal(slow_keep(last_alone, ENERGY), slow_keep(keep, ENERGY))
    np.testing.assert_array_equal(~make_mask_exclusion(read, GEOM, ENERGY), slow_keep(last_alone, ENERGY))
    np.testing.assert_array_equal(~make_mask_exclusion(read, GEOM), slow_keep(last_alone, ENERGY).all(axis=0))


def test_energies_may_stand_in_ebounds(tmp_path):
    table = bands("GeV", columns=("energy_min", "energy_max"), scale=1e3)
    read = read_exclusion(written(tmp_path / "m.fits", planes(), table, "EBOUNDS", named=False))
    np.testing.assert_array_equal(~make_mask_exclusion(read, GEOM, ENERGY), slow_keep(planes(), ENERGY))


def test_a_mask_that_gammapy_writes(tmp_path):
    maps = pytest.importorskip("gammapy.maps")
    axis = maps.MapAxis.from_energy_edges([0.5, 2.0, 9.0], unit="TeV")
    geom = maps.WcsGeom.create(skydir=(83.6, 22.0), width=(1.5, 1.1), binsz=0.1, axes=[axis])
    mask = geom.region_mask("icrs;circle(83.633, 22.014, 0.3)", inside=False)
    mask.data[1] = True
    mask.write(tmp_path / "m.fits")
    made = ~make_mask_exclusion(read_exclusion(tmp_path / "m.fits"), GEOM, ENERGY)
    away = GEOM.offset_deg(83.633, 22.014)
    assert not made[1:3, away < 0.2].any()
    assert made[1:3, away > 0.4].all()
    assert made[[0, 3, 4, 5, 6]].all()


def test_one_plane_holds_at_every_energy(tmp_path):
    keep = planes()[:1]
    read = read_exclusion(written(tmp_path / "m.fits", keep, bands(ranges=RANGES[:1])))
    assert not read.by_energy
    made = ~make_mask_exclusion(read, GEOM, ENERGY)
    assert not made.all()
    assert (made == made[0]).all()


def test_areas_may_hold_at_some_energies_only():
    ring = Exclusion("x", Areas((Disc(83.633, 22.014, 0.5),), (Disc(83.633, 22.014, 0.2),)), (0.9, 3.0))
    away = GEOM.offset_deg(83.633, 22.014)
    made = ~make_mask_exclusion(ring, GEOM, ENERGY)
    for k in range(ENERGY.n_bins):
        np.testing.assert_array_equal(made[k], (away >= 0.5) | (away < 0.2) if k in (2, 3) else np.ones_like(made[k]))
    np.testing.assert_array_equal(~make_mask_exclusion(ring, GEOM), (away >= 0.5) | (away < 0.2))


def test_nothing_left_at_any_energy_is_an_error(tmp_path):
    everywhere = Disc(83.633, 22.014, 50.0)
    assert not make_mask_exclusion(Exclusion("x", Areas((everywhere,)), energy_tev=(1.0, 3.0)), GEOM, ENERGY).all()
    with pytest.raises(ExclusionError, match="nothing of the map is left"):
        make_mask_exclusion(Exclusion("x", Areas((everywhere,)), energy_tev=(0.1, 30.0)), GEOM, ENERGY)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (None, "cube of 3 planes: expected their energies in the table MASK_BANDS, found none"),
        (bands(unit=""), "E_MIN: expected a unit of energy, got None"),
        (bands(unit="deg"), "E_MIN: expected a unit of energy, got 'deg'"),
        (bands(columns=("A", "B")), r"expected columns E_MIN and E_MAX, found \['A', 'B'\]"),
        (bands(ranges=RANGES[:2]), "expected E_MIN below E_MAX for each of 3 planes"),
        (bands(ranges=[(1.0, 0.5), (0.8, 2.0), (3.0, 9.0)]), "expected E_MIN below E_MAX for each of 3 planes"),
        (bands(ranges=[(0.5, np.nan), (0.8, 2.0), (3.0, 9.0)]), "expected E_MIN below E_MAX for each of 3 planes"),
    ],
    ids=["no table", "no unit", "other unit", "other columns", "too few", "upside down", "NaN"],
)
def test_a_cube_without_energies_is_refused(tmp_path, table, match):
    with pytest.raises(ExclusionError, match=match):
        read_exclusion(written(tmp_path / "m.fits", planes(), table))


def test_other_axes_and_values_are_refused(tmp_path):
    with pytest.raises(ExclusionError, match="two celestial axes and at most one of energy"):
        read_exclusion(written(tmp_path / "four.fits", np.ones((2, 3, *GRID.shape)), bands()))
    data = planes().astype(int)
    data[2, 3, 4] = 7
    with pytest.raises(ExclusionError, match=r"expected 1 \(keep\) or 0 \(excluded\), found 7"):
        read_exclusion(written(tmp_path / "seven.fits", data, bands()))


def test_no_flipped_bit_of_a_compressed_image_is_taken(tmp_path):
    """Gzip's checksum covers every byte of the content, and its header says nothing that matters."""
    path = written(tmp_path / "m.fits.gz", planes()[0])
    content, random = path.read_bytes(), np.random.default_rng(3)
    kept = ~make_mask_exclusion(read_exclusion(path), GEOM)
    taken = 0
    for bit in random.integers(80, 8 * len(content), 60):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(changed)
        try:
            np.testing.assert_array_equal(~make_mask_exclusion(read_exclusion(path), GEOM), kept)
            taken += 1  # in the name of the file or the like
        except ExclusionError:
            pass
    assert taken <= 3


def test_checksums_of_an_image_are_compared(tmp_path):
    path = tmp_path / "m.fits"
    fits.PrimaryHDU(planes()[0].astype("u1"), GRID.wcs().to_header()).writeto(path, checksum=True)
    read_exclusion(path)
    content = bytearray(path.read_bytes())
    content[-2800] ^= 1
    path.write_bytes(content)
    with pytest.raises(ExclusionError, match=r"exclusion .*m\.fits\[PRIMARY\]: DATASUM = "):
        read_exclusion(path)
