"""Maps from the factored form against those of the reduction, bit by bit, for every kind of response."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import Psf3Gauss, PsfKing, PsfTable
from cubeflow.irf.rad_max import RadMax
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps import energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.observation import EventList, Gti, Observation, Pointing, Site
from cubeflow.steps.expand import FormMistake, dense_reduced, factored_reduced, read_dense, reduced_of
from cubeflow.steps.factors import check_size, edisp_at, needed_responses, unpack
from cubeflow.steps.reduce import reduce_observation
from cubeflow.steps.setup import ReduceSetup
from cubeflow.storage.artifact import Artifact, ArtifactDamaged, read_artifact, write_artifact

KEY = "ab" * 32
GEOM = make_geometry("galactic", "CAR", 184.5, -5.8, (3.4, 2.6), 0.1)
SETUP = ReduceSetup(
    geometry=GEOM,
    irf_geometry=GEOM.coarse(0.4),
    energy=energy_axis(log_edges(0.3, 20.0, 5)),
    energy_true=energy_axis(log_edges(0.2, 50.0, 7), "energy_true"),
    rad=rad_axis(0.5, 11),
    offset_max_deg=1.7,
    interpolation="log",
    gti_filter=True,
    trim=True,
    duplicates="refuse",
    time_mjd=None,
    split=None,
    safe_mask={"methods": ["offset-max", "aeff-default"], "aeff_percent": 10.0, "bias_percent": 10.0},
    spectrum={"type": "power-law", "index": 2.3},
)
RNG = np.random.default_rng(11)
EDGES = np.geomspace(0.1, 40.0, 30)
ENERGY = nodes_from_edges(EDGES[:-1], EDGES[1:], log=True)
OFFSET = nodes_from_edges([0.0, 0.5, 1.3], [0.0, 0.5, 1.3], log=False)
RAD_EDGES = np.linspace(0.0, 0.6, 14)
RAD = nodes_from_edges(RAD_EDGES[:-1], RAD_EDGES[1:], log=False)
MIGRA = np.linspace(0.2, 4.0, 41)
FIELD = np.linspace(-2.4, 2.4, 8)
COARSE = np.geomspace(0.1, 100.0, 9)


def single(*shape: int) -> np.ndarray:
    """Random values that are exact in single precision."""
    return RNG.random(shape).astype(np.float32).astype(float)


def dispersion() -> EnergyDispersion:
    """Random density with columns that are empty."""
    density = RNG.random((29, 40, 3)) * (RNG.random((29, 1, 3)) > 0.1)
    norm = density.sum(axis=1, keepdims=True) * (MIGRA[1] - MIGRA[0])
    return EnergyDispersion(ENERGY, OFFSET, MIGRA, density / np.where(norm > 0, norm, 1.0))


PSFS = {
    "table": PsfTable(ENERGY, OFFSET, RAD, single(29, 3, 13)),
    "3gauss": Psf3Gauss(ENERGY, OFFSET, *(single(29, 3) * scale for scale in (1, 0.1, 0.3, 0.2, 0.1, 0.4))),
    "king": PsfKing(ENERGY, OFFSET, 1.5 + single(29, 3), 0.1 * single(29, 3)),
    "none": None,
}
RATE = 1e6 * single(8, 7, 7)
RATE[2, 3, 4] = 0.0
BACKGROUNDS = {
    "3d": Background3D(COARSE, FIELD, FIELD, RATE),
    "altaz": Background3D(COARSE, FIELD, FIELD, RATE, "ALTAZ"),
    "2d": Background2D(COARSE, OFFSET, 0.96 * single(8, 3)),
    "none": None,
}


def observation(psf: str = "table", background: str = "3d", **changes) -> Observation:
    """Run with some events, also outside the map and the good times."""
    times = RNG.uniform(0.0, 2000.0, 400)
    directions = RNG.normal(83.6, 1.0, 400), RNG.normal(22.0, 0.9, 400)
    events = EventList(RNG.uniform(0.1, 30.0, 400), *directions, times)
    whole = Observation(
        obs_id=7,
        events=events,
        gti=Gti(np.array([10.0, 900.1]), np.array([800.0, 1700.3])),
        pointing=Pointing(83.2, 22.4),
        deadc=0.937,
        aeff=EffectiveArea(ENERGY, OFFSET, 1e5 * single(29, 3), 0.4, None),
        edisp=dispersion(),
        psf=PSFS[psf],
        background=BACKGROUNDS[background],
        rad_max=RadMax(ENERGY, OFFSET, single(29, 3)),
        site=Site(16.5, -23.3, 1835.0),
        quirks=("theta-nodes",),
        repairs={"psf_negative": 2},
    )
    return replace(whole, **changes)


def expanded(run: Observation, setup: ReduceSetup, path):
    """Reduced run, and what is read of its factored form."""
    made = reduce_observation(run, setup)
    datasets, attributes = factored_reduced(made, setup)
    write_artifact(path, Artifact("reduced", KEY, 1, datasets, attributes, {"config": setup.to_plain()}))
    return made, reduced_of(path, read_artifact(path), setup)


def assert_same(one, other) -> None:
    assert sorted(one.maps) == sorted(other.maps)
    for name, cube in one.maps.items():
        again = other.maps[name]
        assert (cube.unit, cube.geom, cube.axes, cube.data.dtype) == (
            again.unit,
            again.geom,
            again.axes,
            again.data.dtype,
        )
        assert cube.data.tobytes() == again.data.tobytes(), name
    assert one.gti_s.tobytes() == other.gti_s.tobytes()
    assert (one.livetime_s, dict(one.row)) == (other.livetime_s, dict(other.row))


@pytest.mark.parametrize("psf", PSFS)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_maps_are_the_same_to_the_bit(tmp_path, psf, background):
    made, again = expanded(observation(psf, background), SETUP, tmp_path / "reduced.h5")
    assert_same(made, again)
    assert made.maps["counts"].data.sum() > 50
    assert ("psf" in made.maps, "acceptance" in made.maps) == (psf != "none", background != "none")


@pytest.mark.parametrize(
    "change",
    [
        {"trim": False},
        {"gti_filter": False},
        {"interpolation": "linear"},
        {"energy_true": energy_axis(log_edges(0.01, 300.0, 12), "energy_true")},  # beyond the tables
        {"energy_true": energy_axis(log_edges(0.2, 30.0, 60), "energy_true")},  # finer than the tables
        {"energy_true": energy_axis([0.9, 1.7], "energy_true")},
        {"safe_mask": {**SETUP.safe_mask, "methods": ["aeff-max", "edisp-bias", "bkg-peak"]}},
        {"safe_mask": {**SETUP.safe_mask, "methods": ["edisp-bias"], "position": "target"}},
    ],
)
def test_maps_are_the_same_for_any_setup(tmp_path, change):
    assert_same(*expanded(observation(), replace(SETUP, **change), tmp_path / "reduced.h5"))


def test_a_run_with_an_effective_area_alone(tmp_path):
    run = observation("none", "none", edisp=None, rad_max=None, site=None, point_like=True)
    made, again = expanded(run, SETUP, tmp_path / "reduced.h5")
    assert_same(made, again)
    assert sorted(made.maps) == ["counts", "exposure", "irf_exposure", "mask_safe"]


def test_a_run_without_an_event(tmp_path):
    nothing = observation().events.select(np.zeros(400, bool))
    made, again = expanded(observation(events=nothing), SETUP, tmp_path / "reduced.h5")
    assert_same(made, again)
    assert not made.maps["counts"].data.any()


@pytest.mark.parametrize("bins", [5, 60])
def test_the_smaller_table_has_the_same_kernels(bins):
    table = dispersion()
    centers, edges = energy_axis(log_edges(0.05, 60.0, bins)).centers, np.geomspace(0.2, 30.0, 9)
    smaller, offset = edisp_at(table, centers), np.linspace(0.0, 2.0, 40)
    assert smaller.kernel(centers, edges, offset).tobytes() == table.kernel(centers, edges, offset).tobytes()
    for one, other in zip(smaller.node_kernels(centers, edges), table.node_kernels(centers, edges), strict=True):
        assert one.tobytes() == other.tobytes()
    assert np.count_nonzero(smaller.density) <= min(bins, 29) * 40 * 3


def test_the_mask_that_needs_all_of_the_dispersion_is_kept(tmp_path):
    setup = replace(SETUP, safe_mask={**SETUP.safe_mask, "methods": ["edisp-bias"]})
    made, again = expanded(observation(), setup, tmp_path / "reduced.h5")
    assert_same(made, again)
    artifact = read_artifact(tmp_path / "reduced.h5")
    mask = artifact.datasets["mask_safe"]
    np.testing.assert_array_equal(mask.data, made.maps["mask_safe"].data)
    assert "mask_safe" not in content()[0]
    for wrong in (
        mask.data,
        mask.to_float32().cutout(mask.geom.cutout(0, 0, 3, 3)),
        replace(mask, data=mask.data + 0.0),
    ):
        datasets = {**artifact.datasets, "mask_safe": wrong}
        with pytest.raises(ValueError, match=r"mask_safe: expected truth values on the map of the counts"):
            unpack(datasets, artifact.attributes["factors"], made.row, setup)


def test_the_dispersion_is_kept_at_the_energies_of_the_maps():
    assert len(needed_responses(observation(), SETUP)["edisp"].energy_true) == 7


def content():
    """Arrays, plain values and row of a run in the factored form."""
    made = reduce_observation(observation(), SETUP)
    datasets, attributes = factored_reduced(made, SETUP)
    return dict(datasets), attributes["factors"], attributes["row"]


DAMAGES = {
    "no counts": lambda arrays, plain: arrays.pop("counts.index"),
    "fewer counts": lambda arrays, plain: arrays.update({"counts.value": arrays["counts.value"][1:]}),
    "index behind the map": lambda arrays, plain: arrays.update({"counts.index": arrays["counts.index"] + 10**6}),
    "negative index": lambda arrays, plain: arrays.update({"counts.index": arrays["counts.index"] - 10**6}),
    "index twice": lambda arrays, plain: arrays.update({"counts.index": arrays["counts.index"] // 2}),
    "negative counts": lambda arrays, plain: arrays.update({"counts.value": -arrays["counts.value"]}),
    "broken counts": lambda arrays, plain: arrays.update({"counts.value": arrays["counts.value"] / 2}),
    "no good time": lambda arrays, plain: arrays.update({"gti_s": np.zeros((0, 2))}),
    "time backwards": lambda arrays, plain: arrays.update({"gti_s": arrays["gti_s"][::-1]}),
    "time not a number": lambda arrays, plain: arrays.update({"gti_s": arrays["gti_s"] * np.nan}),
    "time of another shape": lambda arrays, plain: arrays.update({"gti_s": arrays["gti_s"].ravel()}),
    "pointing": lambda arrays, plain: plain.update({"pointing_deg": [83.6, 122.0]}),
    "pointing elsewhere": lambda arrays, plain: plain.update({"pointing_deg": [3.6, -22.0]}),
    "pointing as text": lambda arrays, plain: plain.update({"pointing_deg": "ab"}),
    "deadc": lambda arrays, plain: plain.update({"deadc": 1.5}),
    "site": lambda arrays, plain: plain.update({"site": [1.0, 2.0]}),
    "no site": lambda arrays, plain: plain.update({"site": None}),
    "no effective area": lambda arrays, plain: plain["responses"].pop("aeff"),
    "another response": lambda arrays, plain: plain["responses"].update({"events": {}}),
    "responses as list": lambda arrays, plain: plain.update({"responses": ["aeff"]}),
    "not a number": lambda arrays, plain: arrays.update({"aeff.area_m2": arrays["aeff.area_m2"] * np.float32(np.nan)}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_in_one_line(tmp_path, damage):
    arrays, plain, row = content()
    if damage == "no site":
        plain["responses"]["background"]["alignment"] = "ALTAZ"
    DAMAGES[damage](arrays, plain)
    path = tmp_path / "reduced.h5"
    write_artifact(path, Artifact("reduced", KEY, 1, arrays, {"row": row, "factors": plain}))
    with pytest.raises(ArtifactDamaged, match=r"reduced.h5: its factors do not fit together: .+") as caught:
        reduced_of(path, read_artifact(path), SETUP)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "inputs", "missing"), [({}, {"reduced": KEY}, "label"), ({"label": "fov"}, {}, "reduced")]
)
def test_a_background_that_does_not_say_whose_it_is_is_damaged(tmp_path, attributes, inputs, missing):
    path = tmp_path / "background-fov.h5"
    about = {"factors": {}, "row": {}, **attributes}
    write_artifact(
        path, Artifact("background", KEY, 1, {"exclusion": np.ones((2, 3), bool)}, about, {"inputs": inputs})
    )
    with pytest.raises(ArtifactDamaged, match=f"background-fov.h5: its factors do not fit together: no '{missing}'"):
        read_dense(path)


def test_maps_that_fill_the_memory_are_refused():
    check_size(SETUP)
    with pytest.raises(ValueError, match=r"maps of \d+ values, the limit is 268435456"):
        check_size(replace(SETUP, geometry=replace(GEOM, nx=10**9, ny=10**9, pixel_deg=1e-3), offset_max_deg=90.0))
    with pytest.raises(ValueError, match=r"the limit is"):
        check_size(replace(SETUP, trim=False, irf_geometry=replace(GEOM, pixel_deg=1e-9)))


def test_maps_that_were_read_have_no_factors():
    read = replace(reduce_observation(observation(), SETUP), source=None)
    with pytest.raises(FormMistake, match=r"artifacts.form: .*expected a run that was reduced"):
        factored_reduced(read, SETUP)
    assert sorted(dense_reduced(read)[0]) == sorted([*read.maps, "gti_s"])


def test_a_response_of_another_class_has_no_factors():
    class Wide:
        def evaluate(self, energy_tev, offset_deg, rad_deg):
            return np.ones((len(energy_tev), len(offset_deg), len(rad_deg)))

    made = reduce_observation(observation(psf="none"), SETUP)
    with pytest.raises(FormMistake, match=r"artifacts.form: psf: responses of class Wide have no .*; expected dense"):
        factored_reduced(replace(made, source=replace(made.source, psf=Wide())), SETUP)


def test_unpack_leaves_what_it_is_given():
    arrays, plain, row = content()
    before = {name: array.tobytes() for name, array in arrays.items()}
    unpack(arrays, plain, row, SETUP)
    assert {name: array.tobytes() for name, array in arrays.items()} == before
