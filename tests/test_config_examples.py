"""The configurations in config/ are what they say."""

import json
from pathlib import Path

import pytest
from regions import Regions

from cubeflow.config import json_schema, load_config
from cubeflow.strict_yaml import read_yaml

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = sorted((REPOSITORY / "config").glob("*.yaml"))


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_valid_and_names_files_that_exist(path: Path) -> None:
    config = load_config(path)
    for target in config.targets.values():
        assert target.irf_geometry().nx * target.irf_geometry().pixel_deg >= target.map_geometry.width_deg[0]
        for exclusion in target.exclusion:
            assert len(Regions.read(exclusion, format="ds9")) > 0


def test_examples_do_not_share_results() -> None:
    results = [load_config(path).results for path in EXAMPLES]
    assert len(set(results)) == len(EXAMPLES)


def test_demo_is_the_one_of_the_design() -> None:
    config = load_config(REPOSITORY / "config" / "config.yaml")
    target = config.targets["crab"]
    assert config.simulate is not None
    assert config.data.store == "results/demo-dl3"
    assert list(config.targets) == ["crab"]
    assert target.observations.where == "ZEN_PNT < 60"
    assert list(target.backgrounds) == ["fov", "ring"]


def test_crab_example_has_the_published_geometry() -> None:
    target = load_config(REPOSITORY / "config" / "hess-crab.yaml").targets["crab"]
    assert target.observations.ids == (23523, 23526, 23559, 23592)
    assert target.geometry().shape == (350, 350)
    assert (target.energy_axis().n_bins, target.energy_axis().edges[-1]) == (8, 20.0)
    assert (target.energy_true_axis().n_bins, target.energy_true_axis().edges[0]) == (20, 0.3)
    assert target.offset_max_deg == 2.0


def test_overrides_of_the_survey_example() -> None:
    targets = load_config(REPOSITORY / "config" / "hess-all.yaml").targets
    assert list(targets) == ["crab", "msh1552", "pks2155", "rxj1713"]
    assert targets["rxj1713"].to_plain("backgrounds")["ring"]["r_in_deg"] == 0.9
    assert targets["crab"].to_plain("backgrounds")["ring"]["r_in_deg"] == 0.5
    assert targets["pks2155"].energy.limits_tev == (0.3, 10.0)
    assert targets["rxj1713"].icrs_deg == pytest.approx((258.39, -39.755), abs=0.01)


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
    assert schema["$defs"]["Stack"]["properties"]["batch"]["description"].startswith("Mean number of runs in a batch")


def test_schema_accepts_the_examples_and_refuses_unknown_keys() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for path in EXAMPLES:
        check.validate(read_yaml(path).content)
    wrong = dict(read_yaml(EXAMPLES[0]).content, stak={"batch": 1})
    assert not check.is_valid(wrong)
    assert not check.is_valid(dict(read_yaml(EXAMPLES[0]).content, offset_max=2))
