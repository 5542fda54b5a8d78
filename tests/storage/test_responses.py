"""Responses that are packed and unpacked against the responses themselves, bit by bit."""

import dataclasses
import json

import numpy as np
import pytest

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import Psf3Gauss, PsfKing, PsfTable
from cubeflow.irf.rad_max import RadMax
from cubeflow.irf.table import Nodes, nodes_from_edges
from cubeflow.storage.keys import canonical_json
from cubeflow.storage.responses import pack_response, unpack_response

RNG = np.random.default_rng(5)
EDGES = np.geomspace(0.03, 70.0, 6)
ENERGY = nodes_from_edges(EDGES[:-1], EDGES[1:], log=True)
OFFSET = nodes_from_edges([0.0, 0.5, 1.7], [0.0, 0.5, 1.7], log=False)
RAD = nodes_from_edges([0.0, 0.1], [0.1, 0.25], log=False)
ALONE = nodes_from_edges([0.0], [0.0], log=False)  # reaches to infinity
FIELD = np.array([-2.0, -0.3, 0.4, 3.0])


def table(*shape):
    return RNG.random(shape)


RESPONSES = {
    "aeff": EffectiveArea(ENERGY, OFFSET, table(5, 3), 0.7, None),
    "edisp": EnergyDispersion(ENERGY, OFFSET, np.array([0.2, 0.9, 1.1, 3.0]), table(5, 3, 3)),
    "psf-table": PsfTable(ENERGY, OFFSET, RAD, table(5, 3, 2)),
    "psf-3gauss": Psf3Gauss(ENERGY, OFFSET, *(table(5, 3) for _ in range(6))),
    "psf-king": PsfKing(ENERGY, ALONE, 1 + table(5, 1), table(5, 1)),
    "background-3d": Background3D(EDGES, FIELD, FIELD[1:], table(5, 3, 2), "ALTAZ", "linear"),
    "background-2d": Background2D(EDGES, OFFSET, table(5, 3)),
    "rad_max": RadMax(ENERGY, OFFSET, table(5, 3)),
}


def parts(response):
    """Every field, arrays as bytes, axes as their parts."""
    for field in dataclasses.fields(response):
        value = getattr(response, field.name)
        if isinstance(value, Nodes):
            value = value.values.tobytes(), value.lower, value.upper, value.log
        yield field.name, value.tobytes() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", RESPONSES)
def test_what_was_packed_is_unpacked_to_the_bit(name):
    kind, response = name.split("-")[0], RESPONSES[name]
    tables, plain = pack_response(kind, response)
    made = unpack_response(kind, json.loads(canonical_json(plain)), tables)
    assert type(made) is type(response)
    assert dict(parts(made)) == dict(parts(response))
    assert all(array.ndim and array.dtype in (np.float32, np.float64) for array in tables.values())


@pytest.mark.parametrize(("factor", "dtype", "is_scaled"), [(1.0, "f4", False), (1e6, "f4", True), (0.96, "f8", False)])
def test_single_precision_only_where_it_is_exact(factor, dtype, is_scaled):
    rate = table(5, 3, 2).astype(np.float32).astype(float) * factor
    tables, plain = pack_response("background", Background3D(EDGES, FIELD, FIELD[1:], rate))
    assert tables["background.rate"].dtype == dtype
    assert ("background.rate" in plain["per_mev"]) == is_scaled
    np.testing.assert_array_equal(unpack_response("background", plain, tables).rate, rate)


def test_another_class_has_no_place():
    with pytest.raises(ValueError, match=r"psf: responses of class EffectiveArea have no factored form"):
        pack_response("psf", RESPONSES["aeff"])


def drop(tables, plain):
    del tables["edisp.density"]


def other_shape(tables, plain):
    tables["edisp.density"] = tables["edisp.density"][:, :, :1]


def not_finite(tables, plain):
    tables["edisp.density"] = np.where(tables["edisp.density"] > 0.5, np.nan, tables["edisp.density"])


def whole_numbers(tables, plain):
    tables["edisp.density"] = np.ones((5, 3, 3), int)


def falling_edges(tables, plain):
    plain["migra_edges"] = plain["migra_edges"][::-1]


def one_edge(tables, plain):
    plain["migra_edges"] = [1.0]


def edges_as_text(tables, plain):
    plain["migra_edges"] = ["0", "1", "2", "3"]


def falling_nodes(tables, plain):
    plain["energy_true"] = plain["energy_true"][::-1]


def no_nodes(tables, plain):
    plain["offset"] = plain["offset"][:2]


def nodes_as_text(tables, plain):
    plain["offset"] = ["a"] * 5


def not_a_number(tables, plain):
    plain["offset"] = [float("nan")] * 5


def energies_to_infinity(tables, plain):
    plain["energy_true"] = [None, *plain["energy_true"][1:]]


def other_class(tables, plain):
    plain["class"] = "os.system"


DAMAGES = [
    drop,
    other_shape,
    not_finite,
    whole_numbers,
    falling_edges,
    one_edge,
    edges_as_text,
    falling_nodes,
    no_nodes,
]
DAMAGES += [nodes_as_text, not_a_number, energies_to_infinity, other_class]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused(damage):
    tables, plain = pack_response("edisp", RESPONSES["edisp"])
    damage(tables, plain)
    with pytest.raises((ValueError, KeyError)):
        unpack_response("edisp", plain, tables)


@pytest.mark.parametrize(
    ("name", "value"), [("alignment", "UP"), ("alignment", ["RADEC"]), ("alignment", None), ("class", 3)]
)
def test_other_words_are_refused(name, value):
    tables, plain = pack_response("background", RESPONSES["background-3d"])
    with pytest.raises(ValueError, match=r"background"):
        unpack_response("background", {**plain, name: value}, tables)


@pytest.mark.parametrize("value", ["0.3", True, float("inf"), [1.0]])
def test_thresholds_are_numbers(value):
    tables, plain = pack_response("aeff", RESPONSES["aeff"])
    with pytest.raises(ValueError, match=r"aeff.lo_thres_tev: got"):
        unpack_response("aeff", {**plain, "lo_thres_tev": value}, tables)
