import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from gammapy.datasets import MapDataset, MapDatasetOnOff
from gammapy.maps import Map
from gammapy.modeling.models import FoVBackgroundModel, GaussianSpatialModel, PowerLawSpectralModel, SkyModel

from cubeflow.dl3.hdus import open_table, read_hdus
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.responses import read_bkg_3d
from cubeflow.irf.background import Background3D
from cubeflow.maps import Cube, energy_axis, make_geometry, rad_axis
from cubeflow.store import fits as cubeflow_fits
from cubeflow.store.fits import datasets_yaml, models_yaml, write_background_fits, write_dataset_fits, write_image_fits

ENERGY = energy_axis([0.7, 1.3, 3.7, 11.9])
ENERGY_TRUE = energy_axis([0.4, 0.9, 2.1, 5.3, 17.0], "energy_true")
RAD = rad_axis(0.66, 33)
GTI_S = np.array([[100.25, 400.5], [1000.0, 1234.75]])
LIVETIME_S = 501.123456789
GEOMETRIES = {
    "icrs-tan": make_geometry("icrs", "TAN", 83.6330833333333, 22.0145123, (2.2, 1.4), 0.1),
    "galactic-car": make_geometry("galactic", "CAR", 359.94321, -0.0456789, (2.2, 1.4), 0.1),
    "off-centre": make_geometry("galactic", "CAR", 0.3, 0.2, (4.0, 3.0), 0.1).cutout(11, 3, 22, 14),
}


def make_maps(geom, on_off=False):
    rng = np.random.default_rng(3)
    geom_irf = geom.coarse(0.2)
    n, nt, shape = ENERGY.n_bins, ENERGY_TRUE.n_bins, geom.shape
    sigma = 0.05 + 0.01 * np.arange(nt)[:, None, None, None] * rng.uniform(0.5, 1.5, geom_irf.shape)
    psf = np.exp(-0.5 * (RAD.centers[:, None, None] / sigma) ** 2)
    ring_sr = np.diff(np.pi * np.deg2rad(RAD.edges_array) ** 2)
    psf /= (psf * ring_sr[:, None, None]).sum(1, keepdims=True)
    edisp = rng.random((nt, n, *geom_irf.shape))
    edisp /= edisp.sum(1, keepdims=True)
    maps = {
        "counts": Cube(rng.poisson(0.4, (n, *shape)), "", geom, (ENERGY,)),
        "exposure": Cube(rng.uniform(1, 9, (nt, *shape)) * 1e9, "m2 s", geom, (ENERGY_TRUE,)),
        "mask_safe": Cube(rng.random((n, *shape)) > 0.3, "", geom, (ENERGY,)),
        "psf": Cube(psf.astype("f4"), "sr-1", geom_irf, (ENERGY_TRUE, RAD)),
        "edisp": Cube(edisp, "", geom_irf, (ENERGY_TRUE, ENERGY)),
        "irf_exposure": Cube(rng.uniform(1, 9, (nt, *geom_irf.shape)) * 1e9, "m2 s", geom_irf, (ENERGY_TRUE,)),
    }
    for name in ("counts_off", "acceptance", "acceptance_off") if on_off else ("background",):
        maps[name] = Cube(rng.uniform(0.1, 1.0, (n, *shape)), "", geom, (ENERGY,))
    return maps


def write(path, geom=GEOMETRIES["icrs-tan"], on_off=False, **changes):
    """Write a dataset; give its maps."""
    maps = make_maps(geom, on_off) | changes
    write_dataset_fits(path, maps, GTI_S, LIVETIME_S, {"KEY": "ab12"})
    return maps


def assert_same(gammapy_map, cube):
    """Values, unit, axes and the position of every pixel are those of the cube."""
    np.testing.assert_array_equal(gammapy_map.data.astype(float), cube.data.astype(float))
    assert gammapy_map.unit == u.Unit(cube.unit)
    assert gammapy_map.geom.frame == cube.geom.frame
    assert gammapy_map.geom.axes.names == [axis.name for axis in reversed(cube.axes)]
    for axis in cube.axes:
        found = gammapy_map.geom.axes[axis.name]
        assert found.unit == axis.unit
        assert found.interp == axis.interp
        # gammapy computes edges by way of logarithms; those in the file are exact (see the layout below).
        np.testing.assert_allclose(found.edges.value, axis.edges, rtol=1e-14)
    wcs = gammapy_map.geom.wcs.wcs
    assert tuple(wcs.crval) == (cube.geom.lon_deg, cube.geom.lat_deg)
    assert tuple(wcs.crpix) == (cube.geom.crpix_x, cube.geom.crpix_y)
    coords = gammapy_map.geom.to_image().get_coord(sparse=False).skycoord.icrs
    vectors = np.moveaxis(coords.cartesian.xyz.value, 0, -1)
    np.testing.assert_allclose(vectors, cube.geom.center_vectors, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_gammapy_reads_every_map_as_it_was_put_in(tmp_path, name):
    maps = write(tmp_path / "d.fits.gz", GEOMETRIES[name])
    back = MapDataset.read(tmp_path / "d.fits.gz")
    for part in ("counts", "exposure", "background", "mask_safe"):
        assert_same(getattr(back, part), maps[part])
    assert_same(back.psf.psf_map, maps["psf"])
    assert_same(back.edisp.edisp_map, maps["edisp"])
    for response, other in ((back.psf, "rad"), (back.edisp, "energy")):
        exposure = response.exposure_map
        assert exposure.geom.axes.names == [other, "energy_true"]
        np.testing.assert_array_equal(exposure.data[:, 0], maps["irf_exposure"].data)
    assert back.mask_safe.data.dtype == bool


def test_gammapy_reads_times(tmp_path):
    write(tmp_path / "d.fits.gz")
    back = MapDataset.read(tmp_path / "d.fits.gz")
    start = Time(51910, format="mjd", scale="tt") + GTI_S[:, 0] * u.s
    assert np.abs((back.gti.time_start - start).to_value("s")).max() < 1e-6
    assert back.gti.time_sum.to_value("s") == pytest.approx(300.25 + 234.75, abs=1e-6)
    assert back.gti.time_start.scale == "tt"
    assert u.Quantity(back.exposure.meta["livetime"]).to_value("s") == LIVETIME_S


def test_gammapy_evaluates_models_on_it(tmp_path):
    maps = write(tmp_path / "d.fits.gz")
    back = MapDataset.read(tmp_path / "d.fits.gz", name="d")
    center = SkyCoord(83.633, 22.014, unit="deg", frame="icrs")
    spatial = GaussianSpatialModel(lon_0=center.ra, lat_0=center.dec, sigma="0.1 deg", frame="icrs")
    flux = PowerLawSpectralModel(index=2.3, amplitude="3e-11 cm-2 s-1 TeV-1")
    back.models = [SkyModel(flux, spatial, name="source"), FoVBackgroundModel(dataset_name="d")]
    signal = back.npred_signal()
    exposure = back.exposure.interp_by_coord({"skycoord": center, "energy_true": ENERGY_TRUE.centers * u.TeV})
    kernel = back.edisp.get_edisp_kernel(position=center, energy_axis=back.counts.geom.axes["energy"])
    expected = (
        exposure * u.Unit("m2 s") * flux.integral(*np.array([ENERGY_TRUE.edges[:-1], ENERGY_TRUE.edges[1:]]) * u.TeV)
    )
    # The exposure is noise around a constant, so that only the size of the prediction can be told by hand.
    assert signal.data.sum() == pytest.approx((expected.to_value("") @ kernel.pdf_matrix).sum(), rel=0.2)
    np.testing.assert_allclose(back.npred().data, signal.data + maps["background"].data, rtol=1e-5)
    assert np.isfinite(back.stat_sum())
    psf = back.psf.get_psf_kernel(position=center, geom=back.exposure.geom, max_radius=0.5 * u.deg)
    np.testing.assert_allclose(psf.data.sum(axis=(1, 2)), 1.0, atol=0.02)


def test_gammapy_can_stack_and_downsample_it(tmp_path):
    write(tmp_path / "d.fits.gz")
    first, second = (MapDataset.read(tmp_path / "d.fits.gz") for _ in range(2))
    twice = first.counts.data[first.mask_safe.data].sum() * 2
    first.stack(second)
    assert first.counts.data[first.mask_safe.data].sum() == twice
    assert second.downsample(2).counts.data.sum() == second.counts.data[second.mask_safe.data].sum()


def test_gammapy_reads_on_off(tmp_path):
    maps = write(tmp_path / "d.fits.gz", on_off=True)
    back = MapDatasetOnOff.read(tmp_path / "d.fits.gz")
    for part in ("counts", "counts_off", "acceptance", "acceptance_off", "exposure"):
        assert_same(getattr(back, part), maps[part])
    alpha = maps["acceptance"].data / maps["acceptance_off"].data
    np.testing.assert_allclose(back.background.data, alpha * maps["counts_off"].data, rtol=1e-6)
    assert np.isfinite(back.stat_sum())
    assert back.gti.time_sum.to_value("s") == pytest.approx(535.0)


def test_hdus_are_those_of_the_layout(tmp_path):
    write(tmp_path / "d.fits.gz")
    with fits.open(tmp_path / "d.fits.gz", checksum=True) as hdus:
        names = {hdu.name for hdu in hdus}
        maps = {"COUNTS", "EXPOSURE", "BACKGROUND", "EDISP", "EDISP_EXPOSURE", "PSF", "PSF_EXPOSURE", "MASK_SAFE"}
        assert names == maps | {f"{name}_BANDS" for name in maps} | {"PRIMARY", "GTI"}
        for hdu in hdus:
            assert {"CHECKSUM", "DATASUM"} <= set(hdu.header)
            assert not {"DATE", "CREATED"} & set(hdu.header)
        assert hdus["PRIMARY"].header["KEY"] == "ab12"
        assert hdus["EDISP"].header["WCSSHAPE"] == f"(11,7,{ENERGY.n_bins},{ENERGY_TRUE.n_bins})"
        assert hdus["EDISP"].header["AXCOLS1"] == "E_MIN,E_MAX"
        assert hdus["EDISP"].header["AXCOLS2"] == "ENERGY_TRUE_MIN,ENERGY_TRUE_MAX"
        assert hdus["MASK_SAFE"].header["BITPIX"] == 8
        bands = hdus["EDISP_BANDS"].data
        assert list(bands["CHANNEL"]) == list(range(ENERGY.n_bins * ENERGY_TRUE.n_bins))
        assert list(bands["E_MAX"]) == [*ENERGY.edges[1:]] * ENERGY_TRUE.n_bins
        assert list(bands["ENERGY_TRUE_MIN"]) == [edge for edge in ENERGY_TRUE.edges[:-1] for _ in range(ENERGY.n_bins)]
        gti = hdus["GTI"].header
        assert (gti["MJDREFI"], gti["MJDREFF"], gti["TIMESYS"]) == (51910, 0.0, "TT")


def test_large_counts_stay_exact(tmp_path):
    counts = make_maps(GEOMETRIES["icrs-tan"])["counts"]
    many = Cube(counts.data + (1 << 24) + 1, "", counts.geom, counts.axes)
    write(tmp_path / "d.fits.gz", counts=many)
    np.testing.assert_array_equal(MapDataset.read(tmp_path / "d.fits.gz").counts.data, many.data)


def test_bytes_are_the_same_in_another_process(tmp_path):
    code = "import sys, time; sys.path.insert(0, sys.argv[1]); import test_fits as t\nt.write(sys.argv[2])"
    path = tmp_path / "other" / "renamed.fits.gz"
    path.parent.mkdir()
    write(tmp_path / "d.fits.gz")
    here = Path(__file__).resolve()
    source = {"PYTHONPATH": str(here.parents[2] / "src"), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(here.parent), str(path)], check=True, env=source)
    assert path.read_bytes() == (tmp_path / "d.fits.gz").read_bytes()
    assert path.read_bytes()[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
    gzip.decompress(path.read_bytes())  # checks CRC and length


def test_images_open_where_viewers_look(tmp_path):
    geom = GEOMETRIES["galactic-car"]
    data = np.random.default_rng(1).normal(size=(1, *geom.shape))
    data[0, 2, 3] = np.nan
    first = Cube(data, "", geom, (energy_axis([1.0, 10.0]),))
    second = Cube(np.arange(3.0 * 22 * 14).reshape(3, *geom.shape), "m2 s", geom, (ENERGY,))
    write_image_fits(tmp_path / "i.fits.gz", {"significance": first, "exposure": second}, {"KEY": "ab"})
    with fits.open(tmp_path / "i.fits.gz", checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["SIGNIFICANCE", "EXPOSURE", "EXPOSURE_BANDS"]
        np.testing.assert_array_equal(hdus[0].data, data[0])
        assert hdus[0].header["KEY"] == "ab"
    assert_same(Map.read(tmp_path / "i.fits.gz", hdu="EXPOSURE"), second)
    write_image_fits(tmp_path / "j.fits.gz", second)
    assert_same(Map.read(tmp_path / "j.fits.gz", hdu=0, hdu_bands="IMAGE_BANDS"), second)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda maps: maps.pop("irf_exposure"), r"missing: \['irf_exposure'\]"),
        (lambda maps: maps.update(acceptance=maps["background"]), r"missing: \['acceptance_off', 'counts_off'\]"),
        (lambda maps: maps.update(alpha=maps["background"]), "alpha: not a map of a dataset"),
        (lambda maps: maps.update(exposure=maps["counts"]), "exposure: expected the axes"),
        (lambda maps: maps.update(make_maps(GEOMETRIES["off-centre"]), counts=maps["counts"]), "its companions are on"),
        (
            lambda maps: maps.update(
                mask_safe=Cube(maps["mask_safe"].data[:2], "", GEOMETRIES["icrs-tan"], (energy_axis([0.7, 1.3, 4]),))
            ),
            "mask_safe: has other energies",
        ),
    ],
)
def test_maps_that_make_no_dataset_are_refused(tmp_path, change, match):
    maps = make_maps(GEOMETRIES["icrs-tan"])
    change(maps)
    with pytest.raises(ValueError, match=match):
        write_dataset_fits(tmp_path / "d.fits.gz", maps, GTI_S, LIVETIME_S)
    assert not list(tmp_path.iterdir())


def test_gti_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gti_s: expected shape \(n, 2\)"):
        write_dataset_fits(tmp_path / "d.fits.gz", make_maps(GEOMETRIES["icrs-tan"]), GTI_S[0], LIVETIME_S)


def test_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no image"):
        write_image_fits(tmp_path / "i.fits", {})
    assert not list(tmp_path.iterdir())


def test_failure_while_maps_are_written_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "d.fits.gz").write_bytes(b"old")

    def fail(*_):
        raise ValueError("broken")

    monkeypatch.setattr(cubeflow_fits._Gzip, "write", fail)
    with pytest.raises(ValueError, match="broken"):
        write(tmp_path / "d.fits.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["d.fits.gz"]
    assert (tmp_path / "d.fits.gz").read_bytes() == b"old"


def test_large_maps_are_copied_to_the_disk_with_the_same_bytes(tmp_path, monkeypatch):
    write(tmp_path / "a.fits.gz")
    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 0)
    write(tmp_path / "b.fits.gz")
    assert (tmp_path / "a.fits.gz").read_bytes() == (tmp_path / "b.fits.gz").read_bytes()


ENTRIES = [("crab-fov", "MapDataset", "dataset.fits.gz", 0.0), ("x" * 60, "MapDatasetOnOff", "a b.fits.gz", None)]


def test_gammapy_verifies_the_checksum_of_the_list():
    from gammapy.utils.scripts import from_yaml

    content = from_yaml(datasets_yaml(ENTRIES).decode(), checksum=True)  # a wrong checksum is a warning, an error here
    assert [tuple(each.values()) for each in content["datasets"]] == [each[:3] for each in ENTRIES]
    assert list(content["datasets"][0]) == ["name", "type", "filename"]


def test_gammapy_reads_the_models_of_the_backgrounds(tmp_path, caplog):
    from gammapy.modeling.models import FoVBackgroundModel, Models

    (tmp_path / "models.yaml").write_bytes(models_yaml([*ENTRIES, ("msh", "MapDataset", "b.fits.gz", 0.03)]))
    models = Models.read(tmp_path / "models.yaml", checksum=True)
    assert [model.datasets_names for model in models] == [["crab-fov"], ["msh"]]
    for model in models:
        expected = FoVBackgroundModel(dataset_name=model.datasets_names[0], name=model.name)
        for ours, theirs in zip(model.parameters, expected.parameters, strict=True):
            assert (ours.name, ours.value, ours.unit, ours.frozen) == (
                theirs.name,
                theirs.value,
                theirs.unit,
                theirs.frozen,
            )
    assert not caplog.messages  # nothing is left to defaults
    free, known = (model.parameters["norm"].prior for model in models)
    assert free is None
    assert (known.tag[0], known.mu.value, known.sigma.value, known.weight) == ("GaussianPrior", 1.0, 0.03, 1)
    (tmp_path / "none.yaml").write_bytes(models_yaml(ENTRIES[1:]))
    assert len(Models.read(tmp_path / "none.yaml", checksum=True)) == 0


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_gammapy_is_told_what_the_exposure_is(tmp_path):
    """As its own makers tell it, so that nothing is corrected twice for the cut."""
    import astropy.units as u
    from gammapy.datasets import MapDataset

    maps = make_maps(GEOMETRIES["icrs-tan"])
    for is_pointlike in (True, False):
        path = tmp_path / f"{is_pointlike}.fits.gz"
        write_dataset_fits(path, maps, GTI_S, LIVETIME_S, is_pointlike=is_pointlike)
        dataset = MapDataset.read(path)
        exposures = dataset.exposure, dataset.psf.exposure_map, dataset.edisp.exposure_map
        for exposure in exposures:
            assert exposure.meta["is_pointlike"] == is_pointlike
            assert u.Quantity(exposure.meta["livetime"]) == LIVETIME_S * u.s


@pytest.mark.parametrize("alignment", ["RADEC", "ALTAZ"])
def test_a_background_response_is_read_as_it_was_written(tmp_path, alignment):
    rng = np.random.default_rng(4)
    edges = np.geomspace(0.5, 20.0, 4), np.linspace(-2.0, 2.5, 7), np.linspace(-1.0, 1.0, 5)
    response = Background3D(*edges, rng.random((3, 6, 4)), alignment)
    other = Background3D(*edges, rng.random((3, 6, 4)), alignment)
    path = tmp_path / "background.fits.gz"
    pairs = [(response, 0.1 * response.rate, {"ZEN_PNT": 20.0}), (other, 0.1 * other.rate, {"ZEN_PNT": 40.0})]
    write_background_fits(path, pairs, {"KEY": "0" * 64})
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus[1:]] == ["BACKGROUND_1", "BACKGROUND_2"]
        assert hdus[1].header["FOVALIGN"] == alignment
        assert hdus[2].header["ZEN_PNT"] == 40.0
        assert hdus[1].columns["BKG"].unit == "s-1 MeV-1 sr-1"
        table = hdus[1].data
        # (DETY, DETX, energy), DETX to the west: the second node from the east in the first row from the south
        assert table["BKG"][0][0, 1, 2] == pytest.approx(1e-6 * response.rate[2, 4, 0], rel=1e-12)
        assert table["BKG_ERR"] == pytest.approx(0.1 * table["BKG"])
        assert table["DETX_LO"][0][0] == pytest.approx(-2.5)
    table = open_table(read_hdus(path)[1])
    found = read_bkg_3d(table, Notes())
    assert found.alignment == alignment
    for name in ("energy_edges_tev", "lon_edges_deg", "lat_edges_deg", "rate"):
        assert getattr(found, name) == pytest.approx(getattr(response, name), rel=1e-12)
