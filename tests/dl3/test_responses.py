"""Response tables: axes, orders, units, signs and norms."""

import numpy as np
import pytest

from cubeflow.observation import RunRefused


def edit_column(name, column, function):
    def edit(run):
        values, unit = run[name].columns[column]
        run[name].columns[column] = (function(values.copy()), unit)

    return edit


def put(index, value):
    def change(values):
        values[(0, *index)] = value
        return values

    return change


def set_unit(name, column, unit, scale=1.0):
    def edit(run):
        run[name].columns[column] = (run[name].columns[column][0] * np.float32(scale), unit)

    return edit


# effective area


@pytest.mark.parametrize(("unit", "scale"), [("cm2", 1e4), ("m**2", 1.0), ("km2", 1e-6)])
def test_area_units(read, stores, unit, scale):
    obs = read(set_unit("aeff", "EFFAREA", unit, scale))
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    assert obs.quirks == (("unit-not-fits",) if unit == "m**2" else ())


def test_negative_area_below_threshold_is_clipped(read):
    obs = read(edit_column("aeff", "EFFAREA", put((1, 0), -5.0)))
    assert obs.aeff.area_m2[0, 1] == 0
    assert obs.quirks == ("aeff-negative-below-threshold",)
    assert obs.repairs == {"aeff_negative": 1}


def test_negative_area_above_threshold_or_without_one(read):
    with pytest.raises(RunRefused, match=r"\[AEFF\]: column EFFAREA: negative at 1.5\d* TeV, LO_THRES is 0.5"):
        read(edit_column("aeff", "EFFAREA", put((1, 2), -5.0)))
    with pytest.raises(RunRefused, match="LO_THRES is None"):
        read(edit_column("aeff", "EFFAREA", put((1, 0), -5.0)), aeff={"LO_THRES": None})


@pytest.mark.parametrize(("value", "match"), [(np.nan, "1 of 15 values are NaN"), (np.inf, "1 of 15 values are NaN")])
def test_area_not_finite(read, value, match):
    with pytest.raises(RunRefused, match=match):
        read(edit_column("aeff", "EFFAREA", put((0, 3), value)))


def test_area_zero_everywhere(read):
    with pytest.raises(RunRefused, match="column EFFAREA: zero everywhere"):
        read(edit_column("aeff", "EFFAREA", np.zeros_like))


@pytest.mark.parametrize("threshold", [None, 0, -1.0, ""])
def test_no_real_threshold(read, threshold):
    obs = read(aeff={"LO_THRES": threshold})
    assert obs.aeff.lo_thres_tev is None
    assert obs.quirks == ("thresholds-missing",)


def test_thresholds_as_text(read):
    obs = read(aeff={"LO_THRES": "0.7", "HI_THRES": " 2E1 "})
    assert (obs.aeff.lo_thres_tev, obs.aeff.hi_thres_tev) == (0.7, 20.0)
    assert obs.quirks == ("thresholds-as-text",)
    for value in ("x", "nan", True):
        with pytest.raises(RunRefused, match=rf"\[AEFF\]: LO_THRES = {value!r}, expected a number"):
            read(aeff={"LO_THRES": value})


# axes


def test_nodes_instead_of_bins(read):
    def edit(run):
        for side in ("LO", "HI"):
            run["aeff"].columns[f"THETA_{side}"] = (np.array([[0.0, 1.0, 2.0]], dtype="f4"), "deg")

    obs = read(edit)
    np.testing.assert_array_equal(obs.aeff.offset.values, [0.0, 1.0, 2.0])
    assert obs.quirks == ("theta-nodes",)


def test_descending_energies_give_the_same_table(read, stores):
    def edit(run):
        for column in ("ENERG_LO", "ENERG_HI"):
            values, unit = run["aeff"].columns[column]
            run["aeff"].columns[column] = (values[:, ::-1], unit)
        values, unit = run["aeff"].columns["EFFAREA"]
        run["aeff"].columns["EFFAREA"] = (values[..., ::-1], unit)

    obs = read(edit)
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    assert obs.quirks == ("axis-descending",)


def test_axis_units(read):
    def edit(run):
        for side in ("LO", "HI"):
            run["aeff"].columns[f"ENERG_{side}"] = (run["aeff"].columns[f"ENERG_{side}"][0] * np.float32(1e3), "GeV")
            run["aeff"].columns[f"THETA_{side}"] = (np.deg2rad(run["aeff"].columns[f"THETA_{side}"][0]), "rad")

    obs, plain = read(edit), read()
    np.testing.assert_allclose(obs.aeff.energy_true.values, plain.aeff.energy_true.values, rtol=1e-6)
    np.testing.assert_allclose(obs.aeff.offset.values, plain.aeff.offset.values, rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "values", "match"),
    [
        ("ENERG_LO", [[0.1, 0.5, 0.4, 7, 20]], "0.5 is followed by 0.4, expected growing values"),
        ("ENERG_LO", [[0.0, 0.4, 1.6, 6.3, 25]], "lowest value 0, expected above 0"),
        ("ENERG_LO", [[0.1, 0.4, np.nan, 6.3, 25]], "1 of 5 values are NaN"),
        ("ENERG_LO", [[0.1, 0.4, 2.6, 6.3, 25]], "bin 0 ends at 0.398107, the next begins at 0.4"),
        ("ENERG_LO", [[0.1, 0.4]], "2 and 5 values, expected as many"),
    ],
)
def test_bad_axes(read, column, values, match):
    with pytest.raises(RunRefused, match=match):
        read(edit_column("aeff", column, lambda _: np.array(values, dtype="f4")))


def test_missing_axis(read):
    with pytest.raises(RunRefused, match=r"\[AEFF\]: no columns THETA_LO, THETA_HI"):
        read(lambda run: run["aeff"].columns.pop("THETA_LO"))


def test_true_energy_columns_of_ctools(read, stores):
    def edit(run):
        columns = run["edisp"].columns
        run["edisp"].columns = {name.replace("ENERG", "ETRUE"): value for name, value in columns.items()}

    obs = read(edit)
    np.testing.assert_allclose(obs.edisp.density, stores.edisp(), rtol=1e-6)
    assert obs.quirks == ("edisp-etrue-columns",)


def test_shape_that_disagrees_with_the_axes(read):
    with pytest.raises(RunRefused, match=r"column EFFAREA: shape \(2, 5\), but its axes have \(3, 5\); they fit in no"):
        read(edit_column("aeff", "EFFAREA", lambda values: values[:, :2]))


@pytest.mark.parametrize("turn", [(2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize(("name", "column"), [("edisp", "MATRIX"), ("psf", "RPSF"), ("bkg", "BKG")])
def test_an_order_that_the_lengths_alone_tell_is_read(read, stores, monkeypatch, name, column, turn):
    monkeypatch.setattr(stores, "BKG_ENERGY", np.geomspace(0.1, 100, 6))
    monkeypatch.setattr(stores, "rate_per_mev", lambda: 1e-6 * (1.0 + np.arange(5 * 6 * 4)).reshape(5, 6, 4))
    turned = tuple(axis + 1 for axis in turn)
    found, expected = read(edit_column(name, column, lambda values: values.transpose(0, *turned))), read()
    for part, values in (("edisp", "density"), ("psf", "density_sr"), ("background", "rate")):
        np.testing.assert_array_equal(getattr(getattr(found, part), values), getattr(getattr(expected, part), values))
    assert found.quirks == ("axis-order-by-lengths",)


def test_a_table_of_two_axes_the_other_way_round(read, stores):
    obs = read(edit_column("aeff", "EFFAREA", lambda values: values.transpose(0, 2, 1)))
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    assert obs.quirks == ("axis-order-by-lengths",)


def square_background(stores, turn):
    """Edit to a background of as many bins in DETX as in DETY, no two voxels alike, with its array turned."""

    def edit(run):
        run["bkg"] = stores.bkg_table(("ENERG", "DETX", "DETY"))
        columns = run["bkg"].columns
        for name in ("DETX_LO", "DETX_HI"):
            columns[name] = (columns[name][0][:, 1:-1], "deg")
        rate = columns["BKG"][0][:, :, 1:-1]  # (row, DETY, DETX, ENERG)
        columns["BKG"] = (rate.transpose(0, *(axis + 1 for axis in turn)), columns["BKG"][1])

    return edit


def test_equal_axes_the_other_way_round_and_orders_that_nothing_tells(read, stores, monkeypatch):
    monkeypatch.setattr(stores, "BKG_ENERGY", np.geomspace(0.1, 100, 4))
    monkeypatch.setattr(stores, "rate_per_mev", lambda: 1e-6 * (1.0 + np.arange(3 * 6 * 4)).reshape(3, 6, 4))
    expected = read(square_background(stores, (0, 1, 2)))
    assert expected.quirks == ()
    np.testing.assert_allclose(expected.background.rate, stores.rate_per_mev()[:, 1:-1] * 1e6, rtol=1e-6)
    # All columns in the order of numpy: (energy, DETX, DETY), as gammapy reads it, too.
    found = read(square_background(stores, (2, 1, 0)))
    np.testing.assert_array_equal(found.background.rate, expected.background.rate)
    assert found.quirks == ("axis-order-by-lengths",)
    match = r"column BKG: shape \(4, 3, 4\), but its axes have \(4, 4, 3\); they fit in 2 ways: which of them"
    with pytest.raises(RunRefused, match=match):
        read(square_background(stores, (0, 2, 1)))


def test_array_without_tdim(read, stores):
    obs = read(edit_column("aeff", "EFFAREA", lambda values: values.reshape(1, -1)))
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    assert obs.quirks == ("tdim-missing",)


def test_cref_that_orders_the_axes_otherwise_holds(read, stores):
    def edit(run):
        values, unit = run["aeff"].columns["EFFAREA"]
        run["aeff"].columns["EFFAREA"] = (values.transpose(0, 2, 1), unit)
        run["aeff"].header["CREF5"] = "(THETA_LO:THETA_HI,ENERG_LO:ENERG_HI)"

    obs = read(edit)
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)
    assert obs.quirks == ("axis-order-by-cref",)


def test_cref_that_names_other_columns_is_ignored(read, stores):
    obs = read(aeff={"CREF5": "(ETRUE_LO:ETRUE_HI,THETA_LO:THETA_HI)"})
    np.testing.assert_allclose(obs.aeff.area_m2, stores.aeff_m2(), rtol=1e-6)


def test_one_offset_bin(read):
    def edit(run):
        for name, column in (("aeff", "EFFAREA"), ("edisp", "MATRIX")):
            columns = run[name].columns
            for side in ("LO", "HI"):
                columns[f"THETA_{side}"] = (columns[f"THETA_{side}"][0][:, :1], "deg")
            columns[column] = (columns[column][0][:, 0], columns[column][1])

    obs = read(edit)
    assert (obs.aeff.area_m2.shape, obs.edisp.density.shape) == ((5, 1), (5, 12, 1))


# energy dispersion


def test_energy_dispersion_is_normalised_and_clipped(read, stores):
    def edit(run):
        values, unit = run["edisp"].columns["MATRIX"]
        values = values * np.float32(7)
        values[0, :, :, 4] = 0
        values[0, 0, 11, 1] = -0.5
        run["edisp"].columns["MATRIX"] = (values, unit)

    obs = read(edit)
    norm = (obs.edisp.density * np.diff(stores.MIGRA)[:, None]).sum(axis=1)
    np.testing.assert_allclose(norm[:4], 1, rtol=1e-6)
    assert np.all(obs.edisp.density[4] == 0)
    assert obs.edisp.density[1, 11, 0] == 0
    assert obs.quirks == ("edisp-not-normalised",)
    assert obs.repairs == {"edisp_negative": 1, "edisp_renormalised": 12, "edisp_without_norm": 3}


def test_probability_per_bin_on_uneven_bins(read, stores):
    edges = np.geomspace(0.2, 5, 13)

    def edit(run):
        density = np.exp(-0.5 * ((np.sqrt(edges[1:] * edges[:-1]) - 1) / 0.4) ** 2)
        per_bin = density * np.diff(edges)
        per_bin = np.broadcast_to((per_bin / per_bin.sum())[None, None, :, None], (1, 3, 12, 5))
        columns = run["edisp"].columns
        columns["MATRIX"] = (per_bin.astype("f4"), "")
        columns["MIGRA_LO"], columns["MIGRA_HI"] = (edges[None, :-1], ""), (edges[None, 1:], "")

    obs = read(edit)
    expected = np.exp(-0.5 * ((np.sqrt(edges[1:] * edges[:-1]) - 1) / 0.4) ** 2)
    expected /= (expected * np.diff(edges)).sum()
    np.testing.assert_allclose(obs.edisp.density[2, :, 1], expected, rtol=1e-6)
    assert "edisp-per-bin" in obs.quirks


@pytest.mark.parametrize("name", ["edisp", "psf", "bkg"])
def test_not_finite(read, name):
    column = {"edisp": "MATRIX", "psf": "RPSF", "bkg": "BKG"}[name]
    with pytest.raises(RunRefused, match=rf"column {column}: 1 of \d+ values are NaN"):
        read(edit_column(name, column, put((1, 1, 1), np.nan)))


@pytest.mark.parametrize(("name", "column"), [("edisp", "MATRIX"), ("psf", "RPSF")])
def test_zero_everywhere(read, name, column):
    with pytest.raises(RunRefused, match=f"column {column}: zero everywhere"):
        read(edit_column(name, column, np.zeros_like))


# point spread function


def test_psf_units_norms_and_signs(read, stores):
    def edit(run):
        values, _ = run["psf"].columns["RPSF"]
        values = values.copy()
        values[0, :, 2, 4] = 0
        values[0, 20, 0, 0] = -1
        values[0, :, 1, 1] *= 1.1
        run["psf"].columns["RPSF"] = (values * np.float32(np.deg2rad(1) ** 2), "deg^-2")

    obs = read(edit)
    expected = stores.psf()
    expected[4, 2] = 0
    expected[0, 0, 20] = 0
    expected[1, 1] *= 1.1
    np.testing.assert_allclose(obs.psf.density_sr, expected, rtol=1e-5)
    assert obs.repairs == {"psf_negative": 1, "psf_off_norm": 1, "psf_without_norm": 1}


def test_three_gaussians(read, stores):
    sigma = 0.05 + 0.01 * np.arange(15).reshape(5, 3)

    def edit(run):
        run["psf"] = stores.gauss_table(SIGMA_1=np.where(np.arange(15).reshape(5, 3) == 4, 0, sigma), SIGMA_2=2 * sigma)

    obs = read(edit)
    assert type(obs.psf).__name__ == "Psf3Gauss"
    np.testing.assert_allclose(obs.psf.sigma_2, 2 * sigma, rtol=1e-6)
    assert obs.psf.sigma_1[1, 1] == 0
    assert obs.quirks == ("sigma1-zero",)
    assert obs.repairs == {"psf_without_norm": 1}


def test_three_gaussians_in_radians_and_negative(read, stores):
    def in_radians(run):
        run["psf"] = stores.gauss_table()
        run["psf"].columns["SIGMA_1"] = (np.deg2rad(run["psf"].columns["SIGMA_1"][0]), "rad")

    np.testing.assert_allclose(read(in_radians).psf.sigma_1, 0.05, rtol=1e-6)

    def negative(run):
        run["psf"] = stores.gauss_table(SIGMA_2=-0.1)

    with pytest.raises(RunRefused, match=r"column SIGMA_2: lowest value -0.1 deg"):
        read(negative)


def test_king_profile(read, stores):
    def edit(run):
        run["psf"] = stores.king_table(2.5, 0.07)

    obs = read(edit)
    assert type(obs.psf).__name__ == "PsfKing"
    np.testing.assert_allclose(obs.psf.gamma, 2.5)
    np.testing.assert_allclose(obs.psf.sigma, 0.07, rtol=1e-6)

    def bad(run):
        run["psf"] = stores.king_table(0.9)

    with pytest.raises(RunRefused, match=r"column GAMMA: lowest value 0.9, expected above 1"):
        read(bad)


# background


@pytest.mark.parametrize(
    "order",
    [("ENERG", "DETX", "DETY"), ("DETX", "DETY", "ENERG"), ("DETY", "DETX", "ENERG"), ("DETY", "ENERG", "DETX")],
)
def test_background_axes_in_any_order_give_the_same_cube(read, stores, order):
    def edit(run):
        run["bkg"] = stores.bkg_table(order)

    obs = read(edit)
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev(), rtol=1e-6)
    assert obs.quirks == ()


@pytest.mark.parametrize(("fovalign", "alignment"), [("RADEC", "RADEC"), ("ALTAZ", "ALTAZ"), (None, "RADEC")])
def test_background_alignment(read, stores, fovalign, alignment):
    obs = read(bkg={"FOVALIGN": fovalign})
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev(), rtol=1e-6)
    assert obs.background.alignment == alignment
    assert obs.quirks == (("fovalign-missing",) if fovalign is None else ())


def test_longitude_that_grows_east_by_its_header(read, stores):
    obs = read(lambda run: run.update(bkg=stores.bkg_table(("ENERG", "DETX", "DETY"), "REVERSE_LON_RADEC")))
    # The table holds the west first; its header says that it is the east.
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev()[:, ::-1], rtol=1e-6)
    assert (obs.background.alignment, obs.quirks) == ("RADEC", ("fovalign-reversed",))


def test_unknown_alignment(read):
    with pytest.raises(RunRefused, match="FOVALIGN = 'FOO', expected one of RADEC, ALTAZ, REVERSE_LON_RADEC"):
        read(bkg={"FOVALIGN": "FOO"})


def test_longitude_of_an_uneven_grid_is_turned(read, stores):
    edges = np.array([-3.0, -2.0, -1.5, -1.0, 0.0, 1.0, 3.0])

    def edit(run):
        run["bkg"].columns["DETX_LO"] = (edges[None, :-1], "deg")
        run["bkg"].columns["DETX_HI"] = (edges[None, 1:], "deg")

    obs = read(edit)
    np.testing.assert_allclose(obs.background.lon_edges_deg, -edges[::-1])
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev(), rtol=1e-6)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("1/s/MeV/sr", 1.0), ("s-1 TeV-1 sr-1", 1e6), ("", 1.0), ("s-1 MeV-1 deg-2", np.deg2rad(1) ** 2)],
)
def test_background_units(read, stores, unit, scale):
    obs = read(set_unit("bkg", "BKG", unit, scale))
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev(), rtol=1e-6)
    assert obs.repairs == ({} if unit else {"unit_missing": 1})


def test_background_column_bgd_with_descending_energies(read, stores):
    def edit(run):
        columns = {("BGD" if name == "BKG" else name): value for name, value in run["bkg"].columns.items()}
        for name in ("ENERG_LO", "ENERG_HI", "BGD"):
            columns[name] = (columns[name][0][..., ::-1], columns[name][1])
        run["bkg"].columns = columns

    obs = read(edit)
    np.testing.assert_allclose(obs.background.rate, 1e6 * stores.rate_per_mev(), rtol=1e-6)
    assert obs.quirks == ("axis-descending", "bkg-column-bgd")


def test_background_negative_and_empty(read):
    def edit(run):
        values = run["bkg"].columns["BKG"][0].copy()
        values[..., 3] = 0
        values[0, 0, 0, 0] = -1
        run["bkg"].columns["BKG"] = (values, "s-1 MeV-1 sr-1")

    obs = read(edit)
    assert obs.background.rate.min() == 0
    assert obs.repairs == {"background_empty_energies": 1, "background_negative": 1}
    assert obs.quirks == ("background-empty-energies",)
    empty = read(edit_column("bkg", "BKG", np.zeros_like))
    assert empty.repairs == {"background_empty_energies": 4}
    assert not np.any(empty.background.rate)


def test_radial_background(read, stores):
    def edit(run):
        run["bkg"] = stores.bkg_2d_table()

    obs = read(edit)
    assert type(obs.background).__name__ == "Background2D"
    np.testing.assert_allclose(obs.background.rate, np.arange(12, 0, -1).reshape(3, 4).T, rtol=1e-6)


def test_background_with_a_gap(read):
    def edit(run):
        values = run["bkg"].columns["DETX_LO"][0].copy()
        values[0, 3] += 0.2
        run["bkg"].columns["DETX_LO"] = (values, "deg")

    with pytest.raises(RunRefused, match=r"DETX_LO, DETX_HI: bin 2 ends at 0, the next begins at 0.2"):
        read(edit)


def test_no_array_column(read, stores):
    def edit(run):
        run["psf"] = stores.gauss_table()
        run["psf"].columns.pop("SIGMA_3")

    with pytest.raises(RunRefused, match=r"\[PSF\]: no column SIGMA_3; there are ENERG_LO"):
        read(edit)
