from types import SimpleNamespace

import numpy as np
import pytest

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background3D
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import PsfKing
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps import energy_axis, log_edges, make_geometry, sphere
from cubeflow.observation import EventList, Pointing, RunRefused
from cubeflow.products.safe_mask import (
    SafeMaskOptions,
    count_cut,
    make_mask_safe,
    threshold_aeff_max,
    threshold_bkg_peak,
    threshold_edisp_bias,
)

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (5.2, 4.1), 0.2)
POINTING = Pointing(83.9, 22.5)
ENERGY = energy_axis(log_edges(0.1, 10.0, 8))
EDGES = np.geomspace(0.01, 100.0, 41)
E_NODES = nodes_from_edges(EDGES[:-1], EDGES[1:], log=True)
O_NODES = nodes_from_edges([0.0, 1.0, 2.5], [0.0, 1.0, 2.5], log=False)
MIGRA = np.linspace(0.0, 3.0, 301)


def rising_area(slopes=(1.0, 1.0, 1.0)):
    """Linear in ln E up to 10 TeV, then flat; the slope may depend on offset."""
    u = np.clip((np.log(E_NODES.values) - np.log(0.1)) / np.log(100.0), 0.0, 1.0)
    return EffectiveArea(E_NODES, O_NODES, 1e5 * u[:, None] ** np.array(slopes), 0.35, 7.0)


def biased(height=1.0, offset_shift=0.0):
    """Bias ``height / (E / 0.1 TeV)``, narrow; below 0.05 TeV there is no dispersion."""
    centers = 0.5 * (MIGRA[1:] + MIGRA[:-1])
    energy = E_NODES.values[:, None, None]
    mean = 1.0 + np.minimum(height * 0.1 / energy, 1.5) + offset_shift * O_NODES.values
    density = np.exp(-0.5 * ((centers[:, None] - mean) / 0.03) ** 2) * (energy > 0.05)
    norm = (density * 0.01).sum(1, keepdims=True)
    return EnergyDispersion(E_NODES, O_NODES, MIGRA, density / np.where(norm > 0, norm, 1.0))


def peaked_background(peak=0.6):
    """Rate per ln E that peaks at an energy."""
    centers = np.sqrt(EDGES[1:] * EDGES[:-1])
    rate = np.exp(-0.5 * (np.log(centers / peak) / 0.8) ** 2) / centers
    field = np.linspace(-3.0, 3.0, 5)
    return Background3D(EDGES, field, field, np.broadcast_to(rate[:, None, None], (40, 4, 4)).copy())


def run(**responses):
    parts = {"aeff": None, "edisp": None, "background": None, **responses}
    return SimpleNamespace(obs_id=7, pointing=POINTING, **parts)


def test_offset_max_cuts_pixel_centres():
    made = make_mask_safe(run(), GEOM, ENERGY, 1.3, SafeMaskOptions(("offset-max",)))
    assert made.data.dtype == bool
    np.testing.assert_array_equal(made.data[3], GEOM.offset_deg(83.9, 22.5) < 1.3)
    assert make_mask_safe(run(), GEOM, ENERGY, 1.3, SafeMaskOptions(())).data.all()


def test_aeff_default_keeps_whole_bins():
    expected = [lo >= 0.35 and hi <= 7.0 for lo, hi in zip(ENERGY.edges[:-1], ENERGY.edges[1:], strict=True)]
    assert sum(expected) == 4
    made = make_mask_safe(run(aeff=rising_area()), GEOM, ENERGY, 9.0, SafeMaskOptions(("aeff-default",)))
    np.testing.assert_array_equal(made.data[:, 4, 4], expected)


@pytest.mark.parametrize("missing", [None, 0.0])
def test_missing_thresholds_do_not_cut(missing):
    area = EffectiveArea(E_NODES, O_NODES, np.ones((40, 3)), missing, missing)
    assert make_mask_safe(run(aeff=area), GEOM, ENERGY, 9.0, SafeMaskOptions(("aeff-default",))).data[:, 4, 4].all()


def test_a_threshold_at_an_edge_keeps_the_bin():
    edge = ENERGY.edges[2] * (1 + 1e-12)
    area = EffectiveArea(E_NODES, O_NODES, np.ones((40, 3)), edge, None)
    assert make_mask_safe(run(aeff=area), GEOM, ENERGY, 9.0, SafeMaskOptions(("aeff-default",))).data[2, 4, 4]


def test_aeff_max_in_closed_form():
    # Area linear in ln E from 0 at 0.1 to its maximum at 10 TeV: 25 % at 0.1 x 100^0.25. Nodes bound the error.
    threshold = threshold_aeff_max(rising_area(), 25.0, [0.0, 0.7])
    np.testing.assert_allclose(threshold, 0.1 * 100**0.25, rtol=0.02)


def test_aeff_max_ignores_bumps_below_and_falls_above():
    area = np.zeros((40, 3))
    area[3] = 0.5  # a bump at low energies
    area[10:20] = 1.0
    area[20:] = 0.01  # a fall at high energies
    threshold = threshold_aeff_max(EffectiveArea(E_NODES, O_NODES, area), 10.0, [1.0])[0]
    assert E_NODES.values[9] < threshold < E_NODES.values[10]


def test_aeff_max_at_the_ends():
    flat, none = np.ones((40, 3)), np.zeros((40, 3))
    assert threshold_aeff_max(EffectiveArea(E_NODES, O_NODES, flat), 10.0, [0.3])[0] == pytest.approx(0.01)
    assert threshold_aeff_max(EffectiveArea(E_NODES, O_NODES, none), 10.0, [0.3])[0] == np.inf
    assert threshold_aeff_max(rising_area(), 10.0, [9.0])[0] == np.inf


def test_edisp_bias_in_closed_form():
    # bias = 0.1 TeV / E is 10 % at 1 TeV of true, 1.1 TeV of reconstructed energy.
    np.testing.assert_allclose(threshold_edisp_bias(biased(), 10.0, [0.0, 1.7]), 1.1, rtol=0.01)


def test_edisp_bias_at_the_ends():
    lowest = E_NODES.values[E_NODES.values > 0.05][0]
    assert threshold_edisp_bias(biased(height=0.0), 10.0, [0.5])[0] == pytest.approx(lowest)
    assert threshold_edisp_bias(biased(height=1.0, offset_shift=0.3), 10.0, [2.0])[0] == np.inf
    assert threshold_edisp_bias(biased(), 10.0, [5.0])[0] == np.inf


def test_bkg_peak_is_the_fullest_bin_per_logarithm():
    threshold = threshold_bkg_peak(peaked_background(0.6), ENERGY, 2.0)
    index = int(np.searchsorted(ENERGY.edges, 0.6)) - 1
    assert threshold == ENERGY.edges[index]
    uneven = energy_axis([0.1, 0.5, 0.7, 10.0])  # the widest bin has the most counts, not the highest rate
    assert threshold_bkg_peak(peaked_background(0.6), uneven, 2.0) == 0.5
    empty = Background3D(EDGES, np.array([-1.0, 1.0]), np.array([-1.0, 1.0]), np.zeros((40, 1, 1)))
    assert threshold_bkg_peak(empty, ENERGY, 2.0) == np.inf


def test_each_pixel_has_the_threshold_of_its_own_offset():
    observation = run(aeff=rising_area((1.0, 2.0, 4.0)))
    made = make_mask_safe(observation, GEOM, ENERGY, 9.0, SafeMaskOptions(("aeff-max",), aeff_percent=20.0))
    offset = GEOM.offset_deg(POINTING.ra_deg, POINTING.dec_deg)
    for j, i in ((3, 2), (12, 11), (19, 24)):
        threshold = threshold_aeff_max(observation.aeff, 20.0, [offset[j, i]])[0]
        assert np.min(np.abs(np.log(np.array(ENERGY.edges) / threshold))) > 1e-3
        np.testing.assert_array_equal(made.data[:, j, i], np.array(ENERGY.edges[:-1]) >= threshold)
    assert not np.array_equal(made.data[:, 3, 2], made.data[:, 12, 11])


def test_at_the_target_the_run_has_one_threshold():
    observation = run(aeff=rising_area((1.0, 2.0, 4.0)), edisp=biased())
    target = (84.9, 23.4)
    options = SafeMaskOptions(("aeff-max", "edisp-bias"), 20.0, 10.0, "target")
    made = make_mask_safe(observation, GEOM, ENERGY, 9.0, options, target)
    at = [sphere.separation_deg(sphere.unit_vectors(83.9, 22.5), sphere.unit_vectors(*target))]
    threshold = max(
        threshold_aeff_max(observation.aeff, 20.0, at)[0], threshold_edisp_bias(observation.edisp, 10.0, at)[0]
    )
    expected = np.array(ENERGY.edges[:-1]) >= threshold
    covered = GEOM.offset_deg(83.9, 22.5) <= 3.25  # half a spacing beyond the last node of the tables
    assert not covered.all()
    np.testing.assert_array_equal(made.data, expected[:, None, None] & covered)


@pytest.mark.parametrize("name", ["aeff", "edisp", "psf"])
@pytest.mark.parametrize("methods", [(), ("offset-max", "aeff-default")])
def test_pixels_that_a_response_does_not_cover_are_not_safe(name, methods):
    """A table of bins that begins above offset 0, and ends below the largest offset."""
    short = nodes_from_edges([0.3, 1.0], [1.0, 1.7], log=False)
    table = np.ones((40, 2))
    made = {
        "aeff": EffectiveArea(E_NODES, short, table),
        "edisp": EnergyDispersion(E_NODES, short, np.array([0.5, 2.0]), table[:, None] / 1.5),
        "psf": PsfKing(E_NODES, short, 2 * table, 0.1 * table),
    }[name]
    mask = make_mask_safe(run(**{"aeff": rising_area(), name: made}), GEOM, ENERGY, 2.0, SafeMaskOptions(methods)).data
    offset = GEOM.offset_deg(83.9, 22.5)
    np.testing.assert_array_equal(mask[5], (offset >= 0.3) & (offset <= 1.7))


@pytest.mark.parametrize(
    "options",
    [
        SafeMaskOptions(),
        SafeMaskOptions(("aeff-default", "bkg-peak")),
        SafeMaskOptions(("aeff-default", "aeff-max", "edisp-bias"), 20.0, 15.0),
        SafeMaskOptions(("aeff-max", "edisp-bias"), 20.0, 15.0, "target"),
    ],
)
def test_events_in_bins_that_a_threshold_cuts_are_counted(options):
    """Those within the thresholds, between 0.35 and 7 TeV as far as the tables say, in bins that are not safe."""
    rng = np.random.default_rng(4)
    energy = 10 ** rng.uniform(-1.2, 1.2, 3000)
    ra, dec = 83.9 + rng.uniform(-2.2, 2.2, 3000), 22.5 + rng.uniform(-2.0, 2.0, 3000)
    events = EventList(energy, ra, dec, np.zeros(3000))
    observation = run(aeff=rising_area((1.0, 1.5, 2.0)), edisp=biased(), background=peaked_background())
    target = 84.9, 23.4
    mask = make_mask_safe(observation, GEOM, ENERGY, 1.9, options, target)
    expected = 0
    image = GEOM.offset_deg(83.9, 22.5) < 1.9
    for number in range(3000):
        k = np.searchsorted(ENERGY.edges, energy[number], side="right") - 1
        x, y = (int(value[0]) for value in GEOM.pixel_index(ra[[number]], dec[[number]]))
        if not 0 <= k < ENERGY.n_bins or x < 0 or not image[y, x] or mask.data[k, y, x]:
            continue
        at = target if options.position == "target" else (ra[number], dec[number])
        offset = [sphere.separation_deg(sphere.unit_vectors(83.9, 22.5), sphere.unit_vectors(*at))]
        thresholds = [0.0]
        if "aeff-default" in options.methods:
            thresholds.append(0.35 if energy[number] < 7.0 else np.inf)
        if "bkg-peak" in options.methods:
            thresholds.append(threshold_bkg_peak(observation.background, ENERGY, 1.9))
        if "aeff-max" in options.methods:
            thresholds.append(threshold_aeff_max(observation.aeff, 20.0, offset)[0])
        if "edisp-bias" in options.methods:
            thresholds.append(threshold_edisp_bias(observation.edisp, 15.0, offset)[0])
        expected += energy[number] >= max(thresholds)
    assert expected > 20
    assert count_cut(observation, events, mask, 1.9, options, target) == pytest.approx(expected, abs=1)
    assert count_cut(observation, events.select(energy < 0), mask, 1.9, options, target) == 0


def test_one_bin_that_a_threshold_cuts_loses_all():
    """The more, the coarser the bins are: with a single one from below the threshold nothing is left."""
    energy, everywhere = energy_axis([0.1, 10.0]), np.full(50, 83.9)
    events = EventList(np.geomspace(0.2, 9.0, 50), everywhere, everywhere - 61.4, np.zeros(50))
    observation = run(aeff=rising_area())
    mask = make_mask_safe(observation, GEOM, energy, 1.9, SafeMaskOptions())
    assert not mask.data.any()
    within = np.count_nonzero((events.energy_tev >= 0.35) & (events.energy_tev < 7.0))
    assert count_cut(observation, events, mask, 1.9, SafeMaskOptions()) == within


def test_the_position_of_the_target_must_be_given():
    options = SafeMaskOptions(("aeff-max",), position="target")
    with pytest.raises(ValueError, match="position target needs the position"):
        make_mask_safe(run(aeff=rising_area()), GEOM, ENERGY, 9.0, options)


def test_conditions_must_all_hold():
    observation = run(aeff=rising_area(), edisp=biased(), background=peaked_background())
    names = ("offset-max", "aeff-default", "aeff-max", "edisp-bias", "bkg-peak")
    one_by_one = [make_mask_safe(observation, GEOM, ENERGY, 1.5, SafeMaskOptions((name,))).data for name in names]
    together = make_mask_safe(observation, GEOM, ENERGY, 1.5, SafeMaskOptions(names)).data
    np.testing.assert_array_equal(together, np.logical_and.reduce(one_by_one))
    assert together.any()


@pytest.mark.parametrize("method", ["aeff-default", "aeff-max", "edisp-bias", "bkg-peak"])
def test_a_run_without_the_response_is_refused(method):
    with pytest.raises(RunRefused, match=rf"run 7: safe mask {method} needs"):
        make_mask_safe(run(), GEOM, ENERGY, 2.0, SafeMaskOptions((method,)))


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="got 'aeff-maximum'"):
        SafeMaskOptions(("aeff-maximum",))
