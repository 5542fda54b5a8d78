"""The configurations in config/ are what they say."""

import json
from pathlib import Path

import pytest
from regions import Regions

from cubeflow.config import json_schema, load_config
from cubeflow.config.read import read_yaml

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = sorted((REPOSITORY / "config").glob("*.yaml"))


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_valid_and_names_files_that_exist(path: Path) -> None:
    config = load_config(path)
    for target in config.targets.values():
        coarse = target.reduce_options().irf_geometry
        assert coarse.nx * coarse.pixel_deg >= target.geometry.width_deg[0]
        for exclusion in target.exclusion:
            assert len(Regions.read(exclusion.path, format="ds9")) > 0
        # One norm for all energies bends spectra.
        assert target.backgrounds["fov"].energy_groups == 4 < target.reduce_options().energy.n_bins


def test_examples_do_not_share_results() -> None:
    results = [load_config(path).results for path in EXAMPLES]
    assert len(set(results)) == len(EXAMPLES)


def test_demo_is_the_one_of_the_design() -> None:
    config = load_config(REPOSITORY / "config" / "config.yaml")
    target = config.targets["demo"]
    assert config.simulate is not None
    assert config.data.store == Path("results/demo-dl3")
    assert list(config.targets) == ["demo"]
    assert target.observations.where == "ZEN_PNT < 60"
    assert list(target.backgrounds) == ["fov", "ring"]


def test_crab_example_has_the_published_geometry() -> None:
    target = load_config(REPOSITORY / "config" / "hess-crab.yaml").targets["crab"]
    assert target.observations.ids == (23523, 23526, 23559, 23592)
    options = target.reduce_options()
    assert options.geometry.shape == (350, 350)
    assert (options.energy.n_bins, options.energy.edges[-1]) == (8, 20.0)
    assert (options.energy_true.n_bins, options.energy_true.edges[0]) == (20, 0.3)
    assert options.offset_max_deg == 2.0


def test_overrides_of_the_survey_example() -> None:
    targets = load_config(REPOSITORY / "config" / "hess-all.yaml").targets
    assert list(targets) == ["crab", "msh1552", "pks2155", "rxj1713"]
    assert targets["rxj1713"].backgrounds["ring"].r_in_deg == 0.9
    assert targets["crab"].backgrounds["ring"].r_in_deg == 0.5
    assert targets["pks2155"].energy.max_tev == 10.0
    assert targets["rxj1713"].position.icrs_deg == pytest.approx((258.39, -39.755), abs=0.01)


def test_schema_describes_every_key() -> None:
    schema = json_schema()
    sections = {"": schema, **schema["$defs"]}
    bare = [
        (name, key)
        for name, part in sections.items()
        for key, about in part.get("properties", {}).items()
        if not about.get("description")
    ]
    assert bare == []
    assert schema["$defs"]["StackOptions"]["properties"]["batch"]["description"].startswith(
        "Mean number of runs in a batch"
    )


def test_schema_accepts_the_examples_and_refuses_unknown_keys() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for path in EXAMPLES:
        check.validate(read_yaml(path).plain())
    wrong = dict(read_yaml(EXAMPLES[0]).plain(), stak={"batch": 1})
    assert not check.is_valid(wrong)
    assert not check.is_valid(dict(read_yaml(EXAMPLES[0]).plain(), offset_max=2))
