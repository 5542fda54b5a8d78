"""Faults 24 to 29: instrument response tables."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

pytestmark = pytest.mark.faults
GOOD, BAD = 100001, 100002


def put(index, value):
    return lambda values: values.__setitem__(index, value)


def scale(factor):
    def change(values):
        values *= factor

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put((0, 1, 3), np.nan), "1 of 24 values are NaN"),
        (put((0, 0, 0), np.inf), "1 of 24 values are NaN or infinite"),
        (scale(0.0), "zero everywhere"),
        (put((0, 1, 7), -1.0), "negative at"),
    ],
)
def test_fault_24_effective_area(bench, rejects, change, words):
    bench.values("EFFECTIVE AREA", "EFFAREA", change)
    rejects("EFFECTIVE AREA", "EFFAREA", words)


def test_fault_24_negative_below_the_threshold_is_clipped(bench, accepts):
    """As if the area were 0 there."""
    bench.values("EFFECTIVE AREA", "EFFAREA", put((0, slice(0, 2), 0), 0.0))
    accepts(same=False)
    expected = bench.data()["exposure"]
    shutil.rmtree(bench.results)
    bench.values("EFFECTIVE AREA", "EFFAREA", put((0, slice(0, 2), 0), -7.0))
    accepts(same=False, quirks=["aeff-negative-below-threshold"], aeff_negative=2)
    np.testing.assert_array_equal(bench.data()["exposure"], expected)


def test_fault_25_background_nan(bench, rejects):
    bench.values("BACKGROUND", "BKG", put((0, 2, 3, 4), np.nan))
    rejects("BACKGROUND", "BKG", "1 of 320 values are NaN")


def test_fault_25_background_negative_is_clipped(bench, accepts):
    bench.values("BACKGROUND", "BKG", put((0, 2, 3, 4), 0.0))
    accepts(same=False)
    expected = bench.data()["acceptance"]
    shutil.rmtree(bench.results)
    bench.values("BACKGROUND", "BKG", put((0, 2, 3, 4), -1e-9))
    accepts(same=False, background_negative=1)
    np.testing.assert_array_equal(bench.data()["acceptance"], expected)


def test_fault_25_background_all_zero_leaves_counts(bench, undisturbed):
    """There is no norm, so the label leaves the run out and says why; counts and exposure are there."""
    bench.values("BACKGROUND", "BKG", scale(0.0))
    outcome = bench.run()
    row = outcome.rows[BAD]
    assert outcome.status == 0
    assert (row["status"], row["fov_norm_0"]) == ("dropped", "")
    assert "not normalised" in row["reason"]
    assert "background_empty_energies=5" in row["repairs"]
    for name in ("counts", "exposure"):
        np.testing.assert_array_equal(bench.data()[name], undisturbed.data()[name])


@pytest.mark.parametrize(
    ("hdu", "column", "value"),
    [
        ("ENERGY DISPERSION", "MATRIX", np.nan),
        ("POINT SPREAD FUNCTION", "SIGMA_1", np.nan),
        ("POINT SPREAD FUNCTION", "SCALE", np.inf),
    ],
)
def test_fault_26_dispersion_and_psf_nan(bench, rejects, hdu, column, value):
    bench.values(hdu, column, lambda values: values.reshape(-1).__setitem__(3, value))
    rejects(hdu, column, "NaN or infinite")


def test_fault_26_dispersion_negative_is_clipped(bench, accepts):
    """As if the density were 0 there."""
    few = (0, slice(None), slice(0, 3), 4)
    bench.values("ENERGY DISPERSION", "MATRIX", put(few, 0.0))
    normalised = accepts_any(bench)
    expected = bench.data()["edisp"]
    shutil.rmtree(bench.results)
    bench.values("ENERGY DISPERSION", "MATRIX", put(few, -0.5))
    row = accepts_any(bench)
    assert row["repairs"] == f"edisp_negative=9 {normalised['repairs']}".strip()
    np.testing.assert_array_equal(bench.data()["edisp"], expected)


def accepts_any(bench):
    """Row of the bad run, which is done."""
    outcome = bench.run()
    assert (outcome.status, outcome.rows[BAD]["status"]) == (0, "ok"), outcome.text
    return outcome.rows[BAD]


def test_fault_26_dispersion_is_normalised(bench, accepts, undisturbed):
    bench.values("ENERGY DISPERSION", "MATRIX", scale(1.5))
    accepts(same=False, quirks=["edisp-not-normalised"], edisp_renormalised=24)
    np.testing.assert_allclose(bench.data()["edisp"], undisturbed.data()["edisp"], atol=1e-6)


def test_fault_26_dispersion_without_norm_is_masked(bench, accepts, undisturbed):
    """One true energy, 2.1 TeV, at all offsets: up to its neighbours these stand alone, others are as before."""
    bench.values("ENERGY DISPERSION", "MATRIX", put((0, slice(None), slice(None), 3), 0.0))
    accepts(same=False, edisp_without_norm=3)
    edisp, before = bench.data()["edisp"], undisturbed.data()["edisp"]
    assert np.isfinite(edisp).all()
    assert edisp.sum(axis=1).max() <= 1 + 1e-6
    assert not np.allclose(edisp[1], before[1], rtol=0.01)
    np.testing.assert_array_equal(edisp[3], before[3])  # from 8 TeV, where the next node is 4.9 TeV


@pytest.fixture
def table_store(bench, stores):
    """Two runs with a tabulated PSF; ``write(edit)`` changes the tables of the bad one."""

    def write(edit=lambda run: None):
        shutil.rmtree(bench.store)
        shutil.rmtree(bench.results, ignore_errors=True)
        rows = []
        for obs_id in (GOOD, BAD):
            stores.write_run(bench.store, obs_id, edit if obs_id == BAD else None)
            rows += stores.index_rows(obs_id, f"run_{obs_id}.fits.gz")
        stores.write_index(bench.store, rows)
        outcome = bench.run()
        assert outcome.rows[GOOD]["status"] in ("ok", "dropped"), outcome.text
        return outcome.rows[BAD]

    return write


def change_psf(function):
    def edit(run):
        values, unit = run["psf"].columns["RPSF"]
        run["psf"].columns["RPSF"] = (function(values.copy()), unit)

    return edit


def test_fault_26_tabulated_psf(bench, table_store):
    table_store()
    expected = bench.data()["psf"]
    row = table_store(change_psf(lambda values: np.where(values > values.max() * 1e-12, values, -1.0)))
    assert "psf_negative=" in row["repairs"]
    np.testing.assert_allclose(bench.data()["psf"], expected, rtol=1e-5, atol=1e-6 * expected.max())
    row = table_store(change_psf(lambda values: values * np.float32(1.2)))
    assert "psf_off_norm=15" in row["repairs"]
    np.testing.assert_allclose(bench.data()["psf"], expected, rtol=1e-5)
    row = table_store(change_psf(lambda values: values * np.nan))
    assert (row["status"], "NaN" in row["reason"]) == ("refused", True)


def test_fault_26_tabulated_psf_without_norm(bench, table_store):
    """Cells without PSF: no PSF there, in the cells beside it as before."""
    table_store()
    expected = bench.data()["psf"]

    def first_energy(values):
        values[..., 0] = 0.0
        return values

    row = table_store(change_psf(first_energy))
    assert "psf_without_norm=3" in row["repairs"]
    psf = bench.data()["psf"]
    assert np.isfinite(psf).all()
    np.testing.assert_allclose(psf[-1], expected[-1], rtol=1e-5)


def permuted(hdus):
    """Background table with axis columns DETX, DETY, ENERG: the array transposed, and energies descending."""
    old = hdus["BACKGROUND"]
    order = ("DETY", "ENERG", "DETX")
    columns = []
    for axis in order:
        flip = slice(None, None, -1) if axis == "ENERG" else slice(None)
        for end in ("LO", "HI"):
            column = old.columns[f"{axis}_{end}"]
            values = old.data[f"{axis}_{end}"][:, flip]
            columns.append(fits.Column(column.name, column.format, unit=column.unit, array=values))
    rate = old.data["BKG"][0]  # (dety, detx, energy)
    rate = rate[:, :, ::-1].transpose(1, 2, 0)[np.newaxis]  # first axis column fastest: (detx, energy, dety)
    dim = "(" + ",".join(str(n) for n in rate.shape[:0:-1]) + ")"
    columns.append(fits.Column("BKG", "320E", unit=old.columns["BKG"].unit, dim=dim, array=rate))
    table = fits.BinTableHDU.from_columns(columns, name="BACKGROUND")
    for key in ("HDUCLASS", "HDUCLAS1", "HDUCLAS2", "HDUCLAS3", "HDUCLAS4", "FOVALIGN"):
        table.header[key] = old.header[key]
    hdus["BACKGROUND"] = table


def test_fault_27_background_axes_permuted_and_energies_descending(bench, accepts, undisturbed):
    def asymmetric(hdus):
        rate = hdus["BACKGROUND"].data["BKG"]
        rate *= (1 + 0.1 * np.arange(8)[:, None, None] + 0.03 * np.arange(8)[:, None]).astype("f4")

    bench.edit(asymmetric)
    accepts(same=False)
    expected = bench.data()["acceptance"]
    shutil.rmtree(bench.results)
    bench.edit(permuted)
    accepts(same=False, quirks=["axis-descending"])
    np.testing.assert_array_equal(bench.data()["acceptance"], expected)


@pytest.mark.parametrize("tdim", ["(2,12)", "(4,6)", "(8,4)", "(24)", "x"])
def test_fault_28_tdim_disagrees(bench, rejects, tdim):
    bench.header("EFFECTIVE AREA", TDIM5=tdim)
    rejects("EFFECTIVE AREA", "EFFAREA")


def test_fault_28_an_array_the_other_way_round_is_read(bench, accepts):
    def turned(hdus):
        area = hdus["EFFECTIVE AREA"].data["EFFAREA"]
        area[0] = area[0].T.copy().reshape(area[0].shape)

    bench.edit(turned)
    bench.header("EFFECTIVE AREA", TDIM5="(3,8)")
    accepts(quirks=["axis-order-by-lengths"])


def test_fault_29_alignment(bench, accepts, rejects):
    """RADEC without the key; ALTAZ turns a lopsided field with the horizon; anything else is refused."""

    def lopsided(hdus):
        rate = hdus["BACKGROUND"].data["BKG"]
        rate *= (1 + 0.2 * np.arange(8)[:, None, None]).astype("f4")

    bench.edit(lopsided)
    accepts(same=False)
    radec = bench.data()["acceptance"]
    shutil.rmtree(bench.results)
    bench.header("BACKGROUND", FOVALIGN=None)
    accepts(same=False, quirks=["fovalign-missing"])
    np.testing.assert_array_equal(bench.data()["acceptance"], radec)
    shutil.rmtree(bench.results)
    bench.header("BACKGROUND", FOVALIGN="ALTAZ")
    accepts(same=False)
    altaz = bench.data()["acceptance"]
    covered = radec > 0
    assert np.abs(altaz[covered] / radec[covered] - 1).max() > 0.05
    shutil.rmtree(bench.results)
    bench.header("BACKGROUND", FOVALIGN="FOO")
    rejects("FOVALIGN = 'FOO'")
