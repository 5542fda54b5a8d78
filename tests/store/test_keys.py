import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.maps import energy_axis, make_geometry, rad_axis
from cubeflow.maps.sphere import Position
from cubeflow.pipeline.tasks import PlannedExclusion, StackTask, Target
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.background import NoBackground
from cubeflow.products.exclusion import Areas, Disc, ExclusionFile, Polygon, Shape
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.reduced import ReduceOptions
from cubeflow.products.ring_background import AdaptiveRingOptions, RingOptions
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.sky_model import Source
from cubeflow.products.spectrum import LogParabola, PowerLaw, TableSpectrum
from cubeflow.store.keys import canonical_json, from_plain, make_key, short, to_plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
GEOMETRY = make_geometry("galactic", "CAR", 184.55745, -5.78436, (3.0, 2.0), 0.02)
REDUCE = ReduceOptions(
    geometry=GEOMETRY,
    irf_geometry=GEOMETRY.coarse(0.2),
    energy=energy_axis([1.0, 3.0, 10.0]),
    energy_true=energy_axis([0.5, 2.0, 20.0], "energy_true"),
    rad=rad_axis(0.66, 3),
    offset_max_deg=2.0,
    gti_filter=True,
    duplicates="refuse",
    time_mjd=((53345.25, 53346.0), (53350.0, 53351.5)),
    split_s=600.0,
    acceptance=AcceptanceOptions(),
    safe_mask=SafeMaskOptions(),
    spectrum=LogParabola(2.4, 0.2),
)
POSITION = Position(lon_deg=83.63, lat_deg=22.01)
SOURCE = Source(position=POSITION, amplitude=3.45e-7, sigma_deg=0.1, spectrum=PowerLaw(2.6))
BACKGROUNDS = {
    "fov": FovOptions(energy_groups=(1.0, 10.0), sky_model=(SOURCE,)),
    "ring": RingOptions(r_in_deg=0.5, width_deg=0.3),
    "wide": AdaptiveRingOptions(r_in_deg=0.5, width_deg=0.3, r_out_max_deg=1.7),
    "none": NoBackground(),
}
AREAS = Areas(
    (Disc(83.6, 22.0, 0.3), Shape("ellipse", 83.6, 22.0, (0.3, 0.2), 20.0, (0.1, 0.05))),
    (Polygon(((83.0, 21.0), (84.0, 21.0), (83.5, 22.0))),),
)
TARGET = Target(
    "crab",
    (83.633, 22.014),
    REDUCE,
    BACKGROUNDS,
    (
        PlannedExclusion(ExclusionFile(Path("a/b.reg"), energy_max_tev=0.3), "ab" * 32, AREAS),
        PlannedExclusion(ExclusionFile(Path("mask.fits")), "cd" * 32, None),
    ),
    SignificanceOptions(),
)


class Block(NamedTuple):
    key: str
    size: int


def test_canonical_form_is_the_one_written_by_hand():
    content = {"b": (1, 2.50, True), "a": {"z": None, "ä": "é"}, "c": 1e-7, "d": Path("x/y")}
    assert canonical_json(content) == b'{"a":{"z":null,"\\u00e4":"\\u00e9"},"b":[1,2.5,true],"c":1e-07,"d":"x/y"}'


@given(PLAIN)
def test_canonical_json_is_exact_and_does_not_depend_on_the_order(content):
    text = canonical_json(content)
    assert json.loads(text) == content
    if isinstance(content, dict):
        assert canonical_json(dict(reversed(content.items()))) == text


@pytest.mark.parametrize(
    "odd",
    [1 * u.deg, np.float64(1), np.int64(1), np.zeros(1), {1}, b"x", Decimal(1), object(), {1: 2}, np.nan, -np.inf],
    ids=lambda odd: type(odd).__name__,
)
def test_what_is_not_plain_is_refused_with_its_position(odd):
    with pytest.raises(ValueError, match=r"^\$\.ring\[1\]: expected "):
        canonical_json({"ring": [0, odd]})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offset_max_deg": np.float64(2)}, r"^\$\.offset_max_deg: expected plain values by strings, got float64"),
        ({"time_mjd": ((1.0, np.inf),)}, r"^\$\.time_mjd\[0\]\[1\]: expected a finite number, got inf"),
        ({"geometry": replace(GEOMETRY, lon_deg=np.float64(83))}, r"^\$\.geometry\.lon_deg: expected plain"),
    ],
)
def test_options_that_are_not_plain_are_refused_with_the_field(changes, match):
    with pytest.raises(ValueError, match=match):
        to_plain(replace(REDUCE, **changes))


def test_key_is_the_sha256_of_the_canonical_form():
    key = make_key("background", 3, SignificanceOptions((0.5,)), {"reduced": "ab"})
    options = b'{"background_systematic":null,"bands_tev":[],"radius_deg":[0.5]}'
    text = b'{"inputs":{"reduced":"ab"},"kind":"background","options":' + options + b',"version":3}'
    assert key == hashlib.sha256(text).hexdigest()
    assert short(key) == key[:16]


def test_key_changes_with_each_part_and_with_the_order_of_a_sequence():
    base = ("ring", 3, {"r_in": 0.5}, ["a", "b"])
    others = [("fov", *base[1:]), ("ring", 4, *base[2:]), ("ring", 3, "ab", base[3]), (*base[:3], ["b", "a"])]
    assert len({make_key(*parts) for parts in [base, *others, (*base[:3], {"0": "a", "1": "b"})]}) == 6


def test_equal_options_have_equal_keys_and_others_have_not():
    assert make_key("x", 1, REDUCE, []) == make_key("x", 1, replace(REDUCE), [])
    others = [{"offset_max_deg": 1.5}, {"split_s": None}, {"split_s": "gti"}, {"spectrum": PowerLaw()}]
    others += [{"energy": energy_axis([1.0, 3.0, 11.0])}, {"safe_mask": SafeMaskOptions(position="target")}]
    assert len({make_key("x", 1, replace(REDUCE, **changes), []) for changes in [{}, *others]}) == len(others) + 1
    assert len({make_key("x", 1, options, []) for options in BACKGROUNDS.values()}) == len(BACKGROUNDS)


@pytest.mark.parametrize(
    ("version", "inputs", "match"),
    [("3", [], "version must be an integer"), (True, [], "version must"), (1, "ab", "inputs"), (1, [b""], "inputs")],
)
def test_key_refuses_wrong_parts(version, inputs, match):
    with pytest.raises(ValueError, match=match):
        make_key("ring", version, {}, inputs)


@pytest.mark.parametrize(
    "options",
    [
        REDUCE,
        replace(REDUCE, split_s="night", time_mjd=None),
        replace(REDUCE, split_s=None, spectrum=TableSpectrum((1.0, 2.0), (4.0, 0.1))),
        *BACKGROUNDS.values(),
        FovOptions(energy_groups=2),
        TARGET,
        StackTask("crab", "fov", "ab" * 32, ("cd" * 32, "ef" * 32)),
        Block("ab", 3),
    ],
    ids=lambda options: type(options).__name__,
)
def test_options_come_back_from_their_json(options):
    back = from_plain(type(options), json.loads(canonical_json(options)))
    assert back == options
    assert canonical_json(back) == canonical_json(options)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda plain: plain.pop("name"), r"^Target: expected the fields \['backgrounds', .*, got \{"),
        (lambda plain: plain.update(more=1), r"^Target: expected the fields"),
        (
            lambda plain: plain["reduce"]["geometry"].update(nx=1.5),
            r"^Target\.reduce\.geometry\.nx: expected int, got 1",
        ),
        (lambda plain: plain["reduce"]["energy"]["edges"].append("2"), r"reduce\.energy\.edges\[3\]: expected float"),
        (lambda plain: plain["reduce"].update(split_s=True), r"^Target\.reduce\.split_s: expected one of"),
        (lambda plain: plain["reduce"].update(duplicates="keep"), r"^Target\.reduce\.duplicates: expected"),
        (
            lambda plain: plain["backgrounds"]["ring"].update(method="rings"),
            r"^Target\.backgrounds\.ring: expected one",
        ),
        (lambda plain: plain["backgrounds"]["fov"].update(energy_groups="x"), r"\.fov\.energy_groups: expected one of"),
        (
            lambda plain: plain["backgrounds"].update(x={"method": "ring"}),
            r"^Target\.backgrounds\.x: expected the fields",
        ),
        (
            lambda plain: plain["exclusions"][0]["file"].update(path=3),
            r"^Target\.exclusions\[0\]\.file\.path: expected Path, got 3",
        ),
        (lambda plain: plain["exclusions"][0]["areas"]["areas"][0].update(kind="dot"), r"areas\[0\]: expected one of"),
        (lambda plain: plain["exclusions"][0].update(sha256=3), r"^Target\.exclusions\[0\]\.sha256: expected str"),
        (lambda plain: plain["reduce"]["geometry"].update(frame="fk5"), r"^frame: expected one of"),
    ],
)
def test_json_that_does_not_fit_is_refused_with_the_field(change, match):
    plain = json.loads(canonical_json(TARGET))
    change(plain)
    with pytest.raises(ValueError, match=match):
        from_plain(Target, plain)


def test_tuples_of_a_fixed_length_have_it():
    plain = to_plain(TARGET)
    for position in ([1.0], [1.0, 2.0, 3.0]):
        with pytest.raises(ValueError, match=r"^Target\.position_deg: expected tuple, got \["):
            from_plain(Target, plain | {"position_deg": position})


def test_key_module_is_cheap_to_import():
    code = "import sys, cubeflow.store.keys; print({'numpy', 'h5py', 'astropy'} & set(sys.modules))"
    source = Path(__file__).resolve().parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(source)})
    assert done.stdout.strip() == "set()", done.stderr
