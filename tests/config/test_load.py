"""Models of the configuration: units, defaults, overrides, and the mistakes people make."""

import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from cubeflow.config import ConfigError, load_config, parse_config
from cubeflow.config.build import parse_quantity, parse_time
from cubeflow.config.load import load_from_command_line, merge
from cubeflow.config.read import make_node
from cubeflow.products.exclusion import ExclusionFile
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.ring_background import RingOptions
from cubeflow.products.spectrum import PowerLaw, TableSpectrum
from cubeflow.store.keys import canonical_json

MINIMAL = """\
data: {store: store}
targets:
  crab:
    position: {lon: 83.633 deg, lat: 22.014 deg}
    geometry: {width: 6 deg}
energy: {min: 1 TeV, max: 20 TeV, bins: 8}
energy_true: {min: 0.3 TeV, max: 40 TeV, bins: 20}
offset_max: 2 deg
gti_filter: true
backgrounds:
  fov: {method: fov}
  ring: {method: ring, r_in: 0.5 deg, width: 0.3 deg}
"""


def changed(old: str, new: str) -> str:
    assert MINIMAL.count(old) == 1, old
    return MINIMAL.replace(old, new)


def crab(text: str):
    return parse_config(text).targets["crab"]


# ---------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("0.02 deg", "deg", 0.02),
        ("1.2 arcmin", "deg", 0.02),
        ("500GeV", "TeV", 0.5),
        ("1e3 GeV", "TeV", 1.0),
        ("28 min", "s", 1680.0),
        (" 2 h ", "s", 7200.0),
        ("-5.5 hourangle", "deg", -82.5),
    ],
)
def test_quantities_become_plain_numbers(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    "text",
    [
        *(0.02, 1, True, None, "0.02", "deg", "0.02 TeV", "0.02 degs", "1 deg2", "0.02, deg", "nan deg", [], "1" * 99),
        *("1 dex(deg)", "2 mag(deg)", "3 dB(deg)"),
    ],
)
def test_anything_else_is_no_quantity(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected a quantity with a unit such as '0\.5 deg', got "):
        parse_quantity(text, "deg")


def test_a_quantity_is_finite() -> None:
    with pytest.raises(ValueError, match="expected a finite quantity, got '1e999 deg'"):
        parse_quantity("1e999 deg", "deg")


def test_times_agree_with_astropy() -> None:
    from astropy.time import Time

    for text in ("2004-12-06T01:30:00", "2004-12-06", "1999-02-28T23:59:59.5"):
        assert parse_time(text) == pytest.approx(Time(text, scale="tt").mjd, abs=1e-10)
    assert parse_time(53345.0625) == 53345.0625


@pytest.mark.parametrize("value", ["yesterday", "2004-12-06T01:30:00Z", "2004-13-06", True, -1, None, 1e9])
def test_no_time(value: object) -> None:
    with pytest.raises(ValueError, match="expected a TT time such as '2004-12-06T01:30:00' or an MJD"):
        parse_time(value)


# -------------------------------------------------------------------------------------------- defaults


def test_defaults() -> None:
    config = parse_config(MINIMAL)
    target = config.targets["crab"]
    assert (config.results, config.on_refused, config.simulate) == (Path("results"), "continue", None)
    assert (config.artifacts.compression, config.artifacts.keep) == ("blosc", "all")
    assert target.observations.ids is None
    assert target.exclusion == ()
    assert target.safe_mask.methods == ("offset-max", "aeff-default")
    assert (target.stack.batch, target.significance.radius_deg) == (16, (0.1,))
    assert target.spectrum == PowerLaw(2.0)
    assert target.backgrounds == {"fov": FovOptions(), "ring": RingOptions(r_in_deg=0.5, width_deg=0.3)}
    without = crab(re.sub(r"(?s)backgrounds:.*", "", MINIMAL))
    assert list(without.backgrounds) == ["fov"]


def test_objects_of_a_target() -> None:
    target = crab(MINIMAL)
    options = target.reduce_options()
    geometry = options.geometry
    assert (geometry.shape, geometry.pixel_deg, geometry.projection) == ((300, 300), 0.02, "TAN")
    assert (options.irf_geometry.shape, options.irf_geometry.pixel_deg) == ((30, 30), 0.2)
    np.testing.assert_allclose(options.energy.edges, np.logspace(0, np.log10(20), 9), rtol=1e-11)
    assert (options.energy.name, options.energy_true.name) == ("energy", "energy_true")
    assert options.rad.edges[-1] == 0.66
    assert (options.offset_max_deg, options.spectrum) == (2.0, PowerLaw())
    assert (
        crab(MINIMAL.replace("  ring: {method: ring, r_in: 0.5 deg, width: 0.3 deg}\n", "")).reduce_options() == options
    )


def test_edges_do_not_depend_on_the_last_digit_of_a_logarithm() -> None:
    edges = crab(MINIMAL).reduce_options().energy.edges
    assert all(edge == float(f"{edge:.11e}") for edge in edges)


def test_position_and_map_in_different_frames() -> None:
    from astropy.coordinates import SkyCoord

    text = changed("width: 6 deg", "width: [6 deg, 3 deg], frame: galactic, projection: CAR, pixel: 0.1 deg")
    geometry = crab(text).reduce_options().geometry
    expected = SkyCoord(83.633, 22.014, unit="deg").galactic
    assert geometry.lon_deg == pytest.approx(expected.l.deg, abs=1e-9)
    assert geometry.lat_deg == pytest.approx(expected.b.deg, abs=1e-9)
    assert geometry.shape == (30, 60)
    galactic = f"frame: galactic, lon: {expected.l.deg:.12f} deg, lat: {expected.b.deg:.12f} deg"
    assert crab(changed("lon: 83.633 deg, lat: 22.014 deg", galactic)).position.icrs_deg == pytest.approx(
        (83.633, 22.014)
    )
    assert crab(changed("lon: 83.633 deg", "lon: -276.367 deg")).position.icrs_deg == pytest.approx((83.633, 22.014))


def test_energy_bins_can_be_given_in_three_ways() -> None:
    edges = crab(changed("{min: 1 TeV, max: 20 TeV, bins: 8}", "{edges: [500 GeV, 1 TeV, 9 TeV]}")).energy.axis(
        "energy"
    )
    assert edges.edges == (0.5, 1.0, 9.0)
    decades = crab(changed("max: 20 TeV, bins: 8", "max: 100 TeV, bins_per_decade: 5")).energy.axis("energy")
    assert decades.n_bins == 10
    assert crab(changed("bins: 8", "bins_per_decade: 5")).energy.axis("energy").n_bins == 7  # 1.301 decades, rounded up


def test_energy_groups_stay_as_they_are_given() -> None:
    text = changed("{min: 1 TeV, max: 20 TeV, bins: 8}", "{edges: [1 TeV, 2 TeV, 4 TeV, 8 TeV]}")
    plain = crab(text.replace("method: fov", "method: fov, energy_groups: [1 TeV, 4 TeV, 8 TeV]"))
    assert plain.backgrounds["fov"].energy_groups == (1.0, 4.0, 8.0)
    assert crab(text).backgrounds["fov"].energy_groups == 1


def test_other_options() -> None:
    observations = "{time: [[2004-12-06T00:00:00, 53346]], split: 10 min, ids: [023523], within: 90 arcmin}"
    target = crab(MINIMAL + f"observations: {observations}\nexclusion: [a.reg, b.fits]\n")
    assert target.observations.time_mjd == ((53345.0, 53346.0),)
    assert target.observations.split_s == 600.0
    assert (target.observations.ids, target.observations.within_deg) == ((23523,), 1.5)
    assert target.exclusion == (ExclusionFile(Path("a.reg")), ExclusionFile(Path("b.fits")))
    assert crab(MINIMAL + "exclusion: null\n").exclusion == ()
    assert crab(MINIMAL + "exclusion: a.reg\n").exclusion == (ExclusionFile(Path("a.reg")),)
    at_some = "exclusion: {path: a.reg, energy_max: 300 GeV}\n"
    assert crab(MINIMAL + at_some).exclusion == (ExclusionFile(Path("a.reg"), None, pytest.approx(0.3)),)
    table = "spectrum: {type: table, energy: [1 TeV, 2 TeV], dnde: [4.0, 1e-1]}\n"
    assert crab(MINIMAL + table).spectrum == TableSpectrum((1.0, 2.0), (4.0, 0.1))


def test_sources_of_a_sky_model() -> None:
    source = "{position: {lon: 1 deg, lat: 2 deg}, amplitude: 3.45e-11 cm-2 s-1 TeV-1, spectrum: {type: power-law}}"
    (found,) = crab(changed("{method: fov}", f"{{method: fov, sky_model: [{source}]}}")).backgrounds["fov"].sky_model
    assert found.amplitude == pytest.approx(3.45e-7, rel=1e-14)
    assert (found.position.icrs_deg, found.sigma_deg, found.spectrum) == ((1.0, 2.0), 0.0, PowerLaw())


def test_everything_is_frozen() -> None:
    config = parse_config(MINIMAL)
    with pytest.raises(FrozenInstanceError):
        config.targets["crab"].energy.bins = 9


def test_data_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    text = changed("{store: store}", '{store: "${CUBEFLOW_DATA:-../shared/data}/hess"}')
    monkeypatch.delenv("CUBEFLOW_DATA", raising=False)
    assert parse_config(text).data.store == Path("../shared/data/hess")
    monkeypatch.setenv("CUBEFLOW_DATA", "/data")
    assert parse_config(text).data.store == Path("/data/hess")
    monkeypatch.delenv("CUBEFLOW_DATA")
    with pytest.raises(ConfigError, match=r"1:data\.store: CUBEFLOW_DATA is not set"):
        parse_config(changed("{store: store}", '{store: "${CUBEFLOW_DATA}/x"}'))


@pytest.mark.parametrize("written", ["~/dl3", "$HOME/dl3", "${HOME}/dl3", "${NOWHERE_AT_ALL:-/data}/dl3"])
def test_paths_are_those_that_a_shell_makes(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    shell = subprocess.run(["bash", "-c", f"echo {written}"], capture_output=True, text=True, check=True).stdout.strip()
    assert parse_config(changed("{store: store}", f'{{store: "{written}"}}')).data.store == Path(shell)


@pytest.mark.parametrize("written", ["$NOWHERE_AT_ALL/dl3", "${NOWHERE_AT_ALL}/dl3"])
def test_variable_that_is_not_set_is_named(written: str) -> None:
    with pytest.raises(ConfigError, match=r"1:data\.store: NOWHERE_AT_ALL is not set; set it or write a path"):
        parse_config(changed("{store: store}", f'{{store: "{written}"}}'))


# ------------------------------------------------------------------------------------------- overrides


def test_target_overrides_merge_key_by_key() -> None:
    text = MINIMAL + "stack: {batch: 4}\n"
    inner = "geometry: {width: 6 deg}\n    energy: {min: 2 TeV}\n    stack: {fanout: 3}\n    offset_max: 1.5 deg"
    config = parse_config(text.replace("geometry: {width: 6 deg}", inner))
    target = config.targets["crab"]
    assert target.energy.axis("energy").edges[0] == 2.0
    assert target.energy.axis("energy").n_bins == 8
    assert (target.stack.batch, target.stack.fanout, target.offset_max_deg) == (4, 3, 1.5)


def test_one_target_does_not_change_another() -> None:
    second = "  other:\n    position: {lon: 1 deg, lat: 2 deg}\n    geometry: {width: 1 deg}\n    energy: {bins: 3}\n"
    config = parse_config(changed("energy: {min: 1", second + "energy: {min: 1"))
    assert [target.energy.bins for target in config.targets.values()] == [8, 3]


def merged(base: dict, override: dict) -> dict:
    return merge(make_node(base, "base"), make_node(override, "override")).plain()


@pytest.mark.parametrize(
    ("base", "override", "expected"),
    [
        ({"energy": {"min": 1, "max": 2, "bins": 3}}, {"energy": {"bins": 4}}, {"min": 1, "max": 2, "bins": 4}),
        (
            {"energy": {"min": 1, "max": 2, "bins": 3}},
            {"energy": {"bins_per_decade": 4}},
            {"min": 1, "max": 2, "bins_per_decade": 4},
        ),
        ({"energy": {"min": 1, "max": 2, "bins": 3}}, {"energy": {"edges": [1, 2]}}, {"edges": [1, 2]}),
        ({"energy": {"edges": [1, 2]}}, {"energy": {"min": 1, "max": 3, "bins": 1}}, {"min": 1, "max": 3, "bins": 1}),
        ({"energy": {"edges": [1, 2]}}, {"energy": None}, None),
    ],
)
def test_ways_to_give_bins_replace_each_other(base: dict, override: dict, expected: object) -> None:
    assert merged(base, override)["energy"] == expected


def test_backgrounds_merge_by_label() -> None:
    base = {"backgrounds": {"a": {"method": "ring", "r_in": 1, "width": 2}, "b": {"method": "fov"}, "c": {"x": 1}}}
    override = {"backgrounds": {"a": {"r_in": 3}, "b": {"method": "ring", "r_in": 4}, "c": None, "d": {"y": 2}}}
    before = repr(base)
    assert merged(base, override)["backgrounds"] == {
        "a": {"method": "ring", "r_in": 3, "width": 2},
        "b": {"method": "ring", "r_in": 4},
        "d": {"y": 2},
    }
    assert repr(base) == before


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"observations": {"ids": ["1", "0023523"]}}, lambda config: config.observations.ids == (1, 23523)),
        (
            {"observations": {"time": [["53345.5", "2005-01-01T00:00"]]}},
            lambda config: len(config.observations.time_mjd) == 1,
        ),
        ({"energy": {"min": "2 TeV", "bins": "5"}}, lambda config: config.energy.bins == 5),
        ({"stack": {"batch": "4"}}, lambda config: config.stack.batch == 4),
        ({"targets": {"crab": {"gti_filter": "false"}}}, lambda config: not config.gti_filter),
        ({"backgrounds": {"ring": "null"}}, lambda config: list(config.backgrounds) == ["fov"]),
        ({"backgrounds": {"fov": {"norm_min": "1e-1"}}}, lambda config: config.backgrounds["fov"].norm_min == 0.1),
        ({"gti_filter": False}, lambda config: not config.gti_filter),
    ],
)
def test_words_of_the_command_line_are_read_as_in_a_file(tmp_path: Path, given, found) -> None:
    """Snakemake leaves everything inside a list or a mapping a string."""
    path = tmp_path / "a.yaml"
    path.write_text(MINIMAL)
    assert found(load_from_command_line([path], given).targets["crab"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"observations": {"ids": ["1", "x"]}}, "overrides:observations.ids[1]: expected a whole number, got 'x'"),
        ({"observations": {"ids": ["1.5"]}}, "overrides:observations.ids[0]: expected a whole number, got 1.5"),
        ({"observations": {"ids": ["1", "01"]}}, "overrides:observations.ids: expected each once, got 1 twice"),
        ({"stack": {"batch": "true"}}, "overrides:stack.batch: expected a whole number, got True"),
        ({"stack": {"batch": ".inf"}}, "overrides:stack.batch: expected a finite number, got .inf"),
        ({"energy": {"min": "2"}}, "overrides:energy.min: expected a quantity with a unit such as '1 TeV', got 2"),
    ],
)
def test_words_of_the_command_line_that_do_not_fit(tmp_path: Path, given, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(ConfigError) as error:
        load_from_command_line([path], given)
    assert str(error.value) == message


def test_a_word_that_looks_like_a_number_may_be_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(MINIMAL)
    assert load_from_command_line([path], {"data": {"store": "2024"}}).data.store == Path("2024")


def test_overrides_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "b.yaml").write_text("energy: {bins: 5}\nresults: other\n")
    config = load_config([tmp_path / "a.yaml", tmp_path / "b.yaml"], {"results": "last", "energy": {"max": "30 TeV"}})
    assert config.results == Path("last")
    assert config.targets["crab"].energy.max_tev == 30.0
    assert config.targets["crab"].energy.bins == 5
    with pytest.raises(ConfigError, match=r"^overrides:energy\.bins: expected a whole number, got 'x'$"):
        load_config(tmp_path / "a.yaml", {"energy": {"bins": "x"}})
    (tmp_path / "b.yaml").write_text("\nenergy: {bims: 5}\n")
    with pytest.raises(ConfigError, match=r"b\.yaml:2:energy\.bims: unknown key; did you mean 'bins'\?$"):
        load_config([tmp_path / "a.yaml", tmp_path / "b.yaml"])


# -------------------------------------------------------------------------------------------- mistakes

MISTAKES = [
    ("bins: 8", "bims: 8", "6:energy.bims: unknown key; did you mean 'bins'?"),
    ("gti_filter:", "gti_fliter:", "9:gti_fliter: unknown key; did you mean 'gti_filter'?"),
    ("gti_filter:", "zzz:", "9:zzz: unknown key; expected one of data, targets,"),
    ("width: 6 deg}", "width: 6 deg, pixel: 0.02}", "5:targets.crab.geometry.pixel: expected a quantity with a unit"),
    ("width: 6 deg", "width: 6 TeV", "5:targets.crab.geometry.width: expected a quantity with a unit such as"),
    ("width: 6 deg}", "width: 6 deg, pixel: -1 deg}", "5:targets.crab.geometry.pixel: expected a quantity above 0 deg"),
    ("width: 6 deg", "width: 0.01 deg", "5:targets.crab.geometry.pixel: expected at most the width 0.01 deg"),
    (
        "width: 6 deg",
        "width: [6 deg]",
        "5:targets.crab.geometry.width[1]: expected a quantity with a unit such as '0.5 deg', got nothing",
    ),
    ("width: 6 deg", "width: 6 deg, frame: fk5", "5:targets.crab.geometry.frame: expected 'icrs' or 'galactic', got"),
    (
        "geometry: {width: 6 deg}",
        "geometry: 6 deg",
        "5:targets.crab.geometry: expected keys (width, pixel, frame, projection) and values, got '6 deg'",
    ),
    ("geometry: {width: 6 deg}", "geometry:", "5:targets.crab.geometry: expected keys (width, pixel, frame, pro"),
    ("{width: 6 deg}", "{frame: icrs}", "5:targets.crab.geometry.width: expected a quantity with a unit such as '6 de"),
    ("gti_filter:", "geometry:", "9:geometry: expected below targets.<name>: each target has its own"),
    ("gti_filter:", "position:", "9:position: expected below targets.<name>: each target has its own"),
    ("offset_max: 2 deg", "significance: {position: 1}", "8:significance.position: unknown key; expected one of"),
    ("lat: 22.014 deg", "lat: 95 deg", "4:targets.crab.position.lat: expected at most 90 deg, got '95 deg'"),
    (
        ", lat: 22.014 deg",
        "",
        "4:targets.crab.position.lat: expected a quantity with a unit such as '0.5 deg', got nothing",
    ),
    ("min: 1 TeV", "min: 30 TeV", "6:energy.min: expected less than max = 20 TeV, got 30 TeV"),
    ("min: 1 TeV", "min: 0 TeV", "6:energy.min: expected a quantity above 0 TeV, got '0 TeV'"),
    ("bins: 8", "bins: 0", "6:energy.bins: expected at least 1, got 0"),
    (", bins: 8", "", "6:energy.bins: expected one of bins and bins_per_decade"),
    ("min: 1 TeV, ", "", "6:energy: expected edges, or min and max and bins"),
    (
        "{min: 1 TeV, max: 20 TeV, bins: 8}",
        "{edges: [2 TeV, 1 TeV]}",
        "6:energy.edges: expected two or more increasing",
    ),
    ("bins: 8", "bins: 8, edges: [1 TeV]", "6:energy: expected edges alone, got min, max, bins"),
    ("gti_filter: true", "gti_filter: yes", "9:gti_filter: expected true or false, got 'yes'"),
    (
        "method: ring",
        "method: rings",
        "12:backgrounds.ring.method: expected 'fov', 'ring', 'adaptive-ring' or 'none', got 'rings'",
    ),
    (
        "method: ring, ",
        "",
        "12:backgrounds.ring.method: expected 'fov', 'ring', 'adaptive-ring' or 'none', got nothing",
    ),
    ("r_in: 0.5 deg", "rin: 0.5 deg", "12:backgrounds.ring.rin: unknown key; did you mean 'r_in'?"),
    (
        "r_in: 0.5 deg",
        "r_in: 4 deg",
        "12:backgrounds.ring.r_in: expected less than twice offset_max = 2 deg (the ring is",
    ),
    (
        "width: 0.3 deg",
        "width: 0.01 deg",
        "12:backgrounds.ring.width: expected at least one pixel of 0.02 deg, got 0.01",
    ),
    (
        "{method: fov}",
        "{method: fov, energy_groups: 9}",
        "11:backgrounds.fov.energy_groups: expected a number from 1 to 8",
    ),
    (
        "{method: fov}",
        "{method: fov, energy_groups: [1 TeV, 3 TeV]}",
        "11:backgrounds.fov.energy_groups: 3 TeV is no edge",
    ),
    ("{method: fov}", "{method: fov, norm_min: 20}", "11:backgrounds.fov.norm_min: expected less than norm_max = 10"),
    ("  fov: {", "  obs: {", "11:backgrounds.obs: expected another label; this is a name in the results"),
    ("  fov: {", "  a/b: {", "11:backgrounds.a/b: expected a name of letters, digits"),
    ("  crab:", "  .crab:", "3:targets..crab: expected a name of letters, digits and _ + . - that starts with none of"),
    ("  crab:", "  -rf:", "3:targets.-rf: expected a name of letters"),
    ("  crab:", "  logs:", "3:targets.logs: expected another name; this is a file or folder of the results"),
    ("  crab:", "  Report.html:", "3:targets.Report.html: expected another name; this is a file or folder of"),
    ("  fov: {", "  STACK: {", "11:backgrounds.STACK: expected another label; this is a name in the results"),
    ("  fov: {", "  runs.csv: {", "11:backgrounds.runs.csv: expected another label; this is a name in the results"),
    ("  fov: {", "  Exclusion.reg: {", "11:backgrounds.Exclusion.reg: expected another label; this is a name in the"),
    ("  fov: {", f"  {'a' * 65}: {{", f"11:backgrounds.{'a' * 65}: expected a name of letters, digits"),
    ("  fov: {", f"  {'a' * 41}: {{", f"11:backgrounds.{'a' * 41}: expected a label of at most 40 letters, as"),
    ("  crab:", "  plan.json:", "3:targets.plan.json: expected another name; this is a file or folder of the results"),
    (
        "offset_max: 2 deg",
        "results: 'a/{x}'",
        "8:results: expected a path without braces, which Snakemake fills in, got",
    ),
    ("  fov: {", "  Ring: {", "12:backgrounds.ring: expected names that differ by more than capital letters; there is"),
    (
        "offset_max: 2 deg",
        "exclusion: {auto: {significance: 4, radius: 0.3 deg}}",
        "8:exclusion.auto: no key: cubeflow exclude finds a mask, round by round, and prints the line that uses it",
    ),
    ("offset_max: 2 deg", "artifacts: {form: dense}", "8:artifacts.form: no longer a key; expected keep: all, or keep"),
    ("offset_max: 2 deg", "artifacts: {keep: some}", "8:artifacts.keep: expected 'all' or 'none', got 'some'"),
    (
        "{method: fov}",
        "{method: fov, energy_groups: x}",
        "11:backgrounds.fov.energy_groups: expected a whole number",
    ),
    ("{method: fov}", "{method: fov, min_counts: 0}", "11:backgrounds.fov.min_counts: expected at least 1, got 0"),
    ("{store: store}", "{store: ''}", "1:data.store: expected a path, got ''"),
    ("offset_max: 2 deg", "results: ~me/out", "8:results: expected a path that does not start with - or ~name, got '~"),
    ("offset_max: 2 deg", "results: -out", "8:results: expected a path that does not start with - or ~name, got '-out"),
    ("offset_max: 2 deg", "simulate: {duration: 6 h}", "8:simulate.duration: expected at most 18000 s, got '6 h'"),
    ("{store: store}", "{}", "1:data.store: expected a path, got nothing"),
    ("data: {store: store}", "results: x", "data: expected keys (store, roots, pattern) and values, got nothing"),
    ("offset_max: 2 deg", "offset_max: [2 deg]", "8:offset_max: expected a quantity with a unit"),
    (
        "offset_max: 2 deg",
        "offset_max: 2 deg\nstack: [1]",
        "9:stack: expected keys (batch, fanout, mixed, by) and values, got [1]",
    ),
    (
        "offset_max: 2 deg",
        "safe_mask: {methods: [aeff]}",
        "8:safe_mask.methods[0]: expected 'offset-max', 'aeff-default'",
    ),
    ("offset_max: 2 deg", "observations: {ids: [1, 2, 1]}", "8:observations.ids: expected each once, got 1 twice"),
    ("offset_max: 2 deg", "observations: {ids: []}", "8:observations.ids: expected at least one, or null for all"),
    ("offset_max: 2 deg", "observations: {ids: 23523}", "8:observations.ids: expected a list, got 23523"),
    ("offset_max: 2 deg", "observations: {time: [[2, 1]]}", "8:observations.time: expected start before stop"),
    (
        "offset_max: 2 deg",
        "observations: {split: week}",
        "8:observations.split: expected 'gti', 'night' or a quantity with a unit such as '28 min', got 'week'",
    ),
    ("offset_max: 2 deg", "observations: {split: 0.5 s}", "8:observations.split: expected at least 1 s, got '0.5 s'"),
    ("offset_max: 2 deg", "spectrum: {type: line}", "8:spectrum.type: expected 'power-law',"),
    (
        "offset_max: 2 deg",
        "significance: {background_systematic: guess}",
        "8:significance.background_systematic: expected 'measured'",
    ),
    (
        "offset_max: 2 deg",
        "significance: {background_systematic: 0}",
        "8:significance.background_systematic: expected a number above 0, got 0",
    ),
    ("offset_max: 2 deg", "simulate: {run: 3}", "8:simulate.run: unknown key; did you mean 'runs'?"),
    ("offset_max: 2 deg", "results: .nan", "8:results: expected a finite number, got .nan"),
    ("targets:", "targets: []\nrest:", "2:targets: expected at least one target by name, got []"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[new for _, new, _ in MISTAKES])
def test_mistakes_name_line_and_key(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(old, new), "c.yaml")
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"c.yaml:{message}") for line in lines), lines
    assert all(line.startswith("c.yaml:") for line in lines)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("energy: {bin: 3}", "6:targets.crab.energy.bin: unknown key; did you mean 'bins'?"),
        ("energy: {min: 40 TeV}", "6:targets.crab.energy.min: expected less than max = 20 TeV, got 40 TeV"),
        ("data: {store: x}", "6:targets.crab.data: unknown key; expected one of energy, energy_true, position,"),
        ("backgrounds: {ring: {r_in: 9 deg}}", "6:targets.crab.backgrounds.ring.r_in: expected less than twice"),
        ("backgrounds: {fov: null, ring: null}", "6:targets.crab.backgrounds: expected at least 1 of them, got 0"),
    ],
)
def test_mistakes_in_overrides_name_the_target(inner: str, message: str) -> None:
    text = changed("geometry: {width: 6 deg}", f"geometry: {{width: 6 deg}}\n    {inner}")
    with pytest.raises(ConfigError, match=f"^c.yaml:{re.escape(message)}"):
        parse_config(text, "c.yaml")


def test_an_error_of_the_background_needs_one_that_can_have_it() -> None:
    for written, value in (("measured", "measured"), ("0.03", 0.03), ("null", None)):
        text = changed("offset_max: 2 deg", f"significance: {{background_systematic: {written}}}")
        assert parse_config(text).targets["crab"].significance.background_systematic == value
        if value is not None:
            text = text.replace("fov: {method: fov}", "other: {method: none}").replace("ring: {", "more: {")
            with pytest.raises(
                ConfigError, match="background_systematic: expected null, as no background is of method"
            ):
                parse_config(text)


def test_a_mistake_in_a_common_section_is_told_once() -> None:
    targets = "".join(
        f"  t{i}:\n    position: {{lon: 1 deg, lat: 2 deg}}\n    geometry: {{width: 1 deg}}\n" for i in range(30)
    )
    text = changed("bins: 8", "bins: 0").replace("targets:\n", f"targets:\n{targets}")
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert len(str(caught.value).splitlines()) == 1


def test_only_the_first_mistakes_are_told() -> None:
    targets = "".join(f"  t{i}: {{}}\n" for i in range(30))
    with pytest.raises(ConfigError, match=r"and 20 more$") as caught:
        parse_config(changed("targets:\n", f"targets:\n{targets}"))
    assert len(str(caught.value).splitlines()) == 11


def test_a_wrong_key_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(changed("bins: 8", "bims: 8"))
    command = "import sys; from cubeflow.config import load_config\ntry: load_config(sys.argv[1])\n"
    command += "except ValueError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", command, "c.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
    )
    assert done.stdout == "c.yaml:6:energy.bims: unknown key; did you mean 'bins'?\n"


@pytest.mark.parametrize("towards", [-np.inf, np.inf])
def test_no_option_depends_on_the_last_digit_of_a_processor(towards, monkeypatch):
    """Functions that processors compute differently in the last bit, moved by it, change nothing that is in a key."""
    text = changed("width: 6 deg", "width: 6 deg, frame: galactic, projection: CAR")
    plain = canonical_json(crab(text).reduce_options())
    for name in ("exp", "log", "log10", "sin", "cos", "arctan2", "geomspace", "linspace", "deg2rad", "rad2deg"):
        exact = getattr(np, name)

        def moved(*args, exact=exact):
            value = exact(*args)
            return np.where(value == 0, value, np.nextafter(value, towards))

        monkeypatch.setattr(np, name, moved)
    assert canonical_json(crab(text).reduce_options()) == plain


def test_targets_that_differ_in_capital_letters_alone():
    """They would share a folder on some file systems."""
    text = MINIMAL.replace("  crab:", "  Crab: {position: {lon: 1 deg, lat: 1 deg}, geometry: {width: 2 deg}}\n  crab:")
    with pytest.raises(ConfigError, match=r"targets.crab: expected names that differ by more than capital letters"):
        parse_config(text)


def nested(levels: int) -> dict[str, object]:
    made: dict[str, object] = {}
    for _ in range(levels):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (nested(5000), "overrides:a.a.a: expected at most 50 levels"),
        ({"energy": {"edges": [nested(5000)]}}, "expected at most 50 levels"),
        ({"energy": {"bins": 10**400}}, "overrides:energy.bins: expected a number of at most 64 digits"),
        ({"simulate": {"seed": -(10**400)}}, "overrides:simulate.seed: expected a number of at most 64 digits"),
        ({"irf_grid": {"pixel": "5e-324 deg"}}, "overrides:irf_grid.pixel: expected at least 1e-05 deg"),
        ({"irf_grid": {"rad_max": "5e-324 deg"}}, "overrides:irf_grid.rad_max: expected at least 1e-05 deg"),
        ({"irf_grid": {"pixel": "0 deg"}}, "overrides:irf_grid.pixel: expected a quantity above 0 deg"),
    ],
)
def test_overrides_that_no_file_could_hold(tmp_path, overrides, expected):
    """As from Python or another workflow: nested without end, numbers that no float holds, lengths of no size."""
    (tmp_path / "c.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_config(tmp_path / "c.yaml", overrides)


# ------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("written", "by_s"),
    [
        ("night", "night"),
        ("run", "run"),
        ("28 min", 1680.0),
        ("[53345, '2004-12-06T12:00:00', 53346]", (53345.0, 53345.5, 53346.0)),
        ("null", None),
    ],
)
def test_intervals_of_a_stack(written: str, by_s: object) -> None:
    assert crab(f"{MINIMAL}stack: {{by: {written}}}\n").stack.by_s == by_s


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "stack: {by: week}",
            "stack.by: expected 'night', 'month', 'run', a quantity with a unit such as '28 min' or a list",
        ),
        ("stack: {by: 0.5 s}", "stack.by: expected at least 1 s, got '0.5 s'"),
        (
            "stack: {by: [53345]}",
            "stack.by: expected two or more edges, each at least 1 s after the one before, got MJD",
        ),
        ("stack: {by: [53346, 53345]}", "stack.by: expected two or more edges"),
        ("stack: {by: [53345, 53345.000001]}", "stack.by: expected two or more edges"),
        ("stack: {by: [53345, tomorrow]}", "stack.by[1]: expected a TT time such as"),
        ("stack: {by: []}", "stack.by: expected two or more edges"),
        ("export: {per: interval}", "export.per: expected stack.by, which says what the intervals are; it is null"),
        ("export: {per: night}", "export.per: expected 'none'"),
        ("export: {fit_radius: 0.01 deg}", "export.fit_radius: expected at least one pixel of 0.02 deg, got 0.01 deg"),
    ],
)
def test_mistakes_about_intervals_and_datasets(section: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"{MINIMAL}{section}\n")
    assert message in str(caught.value)


# ----------------------------------------------------------------------------------------- event types

TYPES = "event_types: {1: {where: EVENT_TYPE == 1}, psf0: {where: EVENT_TYPE >= 2}}\n"


def test_each_type_of_events_is_a_target_in_the_place_of_its_own() -> None:
    more = "  other: {position: {lon: 1 deg, lat: 1 deg}, geometry: {width: 2 deg}, event_types: null}\n"
    config = parse_config(MINIMAL.replace("energy: {min: 1", f"{more}energy: {{min: 1") + TYPES)
    assert list(config.targets) == ["crab-1", "crab-psf0", "other"]
    assert [target.event_type for target in config.targets.values()] == ["1", "psf0", None]
    wheres = [target.reduce_options().events_where for target in config.targets.values()]
    keyed = [("event_types.1.where", "EVENT_TYPE == 1")], [("event_types.psf0.where", "EVENT_TYPE >= 2")]
    assert wheres == [*map(tuple, keyed), None]


def test_a_type_set_to_null_is_taken_out_for_a_target() -> None:
    text = MINIMAL.replace("energy: {min: 1", "    event_types: {1: null}\nenergy: {min: 1") + TYPES
    assert list(parse_config(text).targets) == ["crab-psf0"]


def test_both_conditions_on_events_hold() -> None:
    found = parse_config(f"{MINIMAL}{TYPES}events: {{where: GAMMANESS > 0.5 or ENERGY > 2}}\n").targets["crab-1"]
    both = ("events.where", "GAMMANESS > 0.5 or ENERGY > 2"), ("event_types.1.where", "EVENT_TYPE == 1")
    assert found.reduce_options().events_where == both


def test_types_may_be_numbers_where_another_workflow_gives_them(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(MINIMAL)
    config = load_config(tmp_path / "c.yaml", {"event_types": {1: {"where": "EVENT_TYPE == 1"}}})
    assert list(config.targets) == ["crab-1"]


TWO = "  crab-1: {position: {lon: 1 deg, lat: 1 deg}, geometry: {width: 2 deg}, event_types: null}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("event_types: {}\n", "c.yaml:13:event_types: expected at least 1 of them, got 0"),
        (
            "event_types: {1: EVENT_TYPE}\n",
            "c.yaml:13:event_types.1: expected keys (where) and values, got 'EVENT_TYPE'",
        ),
        ("event_types: {1: {}}\n", "c.yaml:13:event_types.1.where: expected a string, got nothing"),
        ("event_types: {a/b: {where: x}}\n", "expected a name of letters, digits and _ + . -"),
        ("event_types: {x.fits: {where: x}}\n", "expected another name; this is a file or folder of the results"),
        (
            f"{TYPES}acceptance: {{model: big}}\nmodels: {{big: {{energy: {{edges: [1 TeV, 2 TeV]}}}}}}\n",
            "expected self or null",
        ),
    ],
)
def test_mistakes_about_event_types(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL + text, "c.yaml")
    assert message in str(caught.value)


def test_two_targets_are_never_one_by_their_types() -> None:
    text = MINIMAL.replace("energy: {min: 1", f"{TWO}energy: {{min: 1") + TYPES
    with pytest.raises(ConfigError, match=r"event_types.1: expected another name, as there is a target 'crab-1'"):
        parse_config(text)
