"""Both forms in which runs are kept: the same stacks, cubes and FITS files, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

import cubeflow
from cubeflow.cli import main
from cubeflow.errors import FailedError
from cubeflow.plan.estimate import disk_mb
from cubeflow.steps.batch import open_batch, reduce_batch
from cubeflow.steps.diff import compare
from cubeflow.steps.inspect import describe_file
from cubeflow.storage.artifact import Artifact, ArtifactDamaged, read_artifact, write_artifact

RUNS = range(100001, 100005)
BROKEN = 100003
ARTIFACTS = ("reduced", "background-fov", "background-ring")


def leaves(project) -> dict[str, bytes]:
    """Bytes of all stacks."""
    return {
        path.relative_to(project.results).as_posix(): path.read_bytes() for path in project.results.rglob("stack/*/*")
    }


def obs(project, run: int, name: str) -> Path:
    return project.results / "one" / "obs" / str(run) / f"{name}.h5"


def is_factored(path: Path) -> bool:
    return "factors" in read_artifact(path, names=[]).attributes


def refuse_run(project, run: int) -> None:
    """Make a run one that is refused: its pointing is no number."""
    path = project.store / f"obs_{run}.fits.gz"
    with fits.open(path) as hdus:
        hdus["EVENTS"].header["RA_PNT"] = 999.0
        hdus.writeto(project.folder / "broken.fits.gz")
    shutil.move(project.folder / "broken.fits.gz", path)


def built_in(project, form: str, **changes: Any):
    """Project that was built with one form."""
    project.put(RUNS)
    refuse_run(project, BROKEN)
    project.write(artifacts={"form": form}, **changes)
    project.build()
    return project


@pytest.fixture(scope="module")
def dense(make_project, tmp_path_factory):
    """Results of the dense form; one of four runs is refused."""
    return built_in(make_project(tmp_path_factory.mktemp("forms") / "dense"), "dense")


@pytest.fixture(scope="module")
def template(make_project, tmp_path_factory):
    """Results of the factored form."""
    return built_in(make_project(tmp_path_factory.mktemp("forms") / "factored"), "factored")


@pytest.fixture
def factored(template, tmp_path):
    return template.copy(tmp_path / "factored")


def test_stacks_cubes_and_fits_are_the_same(dense, template):
    assert leaves(template) == leaves(dense)
    assert template.finals() == dense.finals()
    assert len(template.finals()) == 9
    assert {is_factored(obs(template, run, name)) for run in RUNS if run != BROKEN for name in ARTIFACTS} == {True}
    assert not any(is_factored(obs(dense, run, name)) for run in RUNS if run != BROKEN for name in ARTIFACTS)
    assert not obs(template, BROKEN, "reduced").exists()


def test_the_files_of_a_run_are_small(dense, template):
    sizes = [sum(obs(project, 100001, name).stat().st_size for name in ARTIFACTS) for project in (dense, template)]
    assert sizes[1] < 5e5


@pytest.mark.parametrize("observations", [{"split": "gti"}, {"time": [["2004-01-01", "2034-01-01"]]}])
def test_pieces_and_selected_time(make_project, tmp_path, observations):
    made = [
        built_in(make_project(tmp_path / form), form, observations=observations, backgrounds={"fov": {"method": "fov"}})
        for form in ("dense", "factored")
    ]
    assert leaves(made[1]) == leaves(made[0])
    assert made[1].finals() == made[0].finals()


@pytest.mark.parametrize(
    "backgrounds",
    [
        {"none": {"method": "none"}},
        {"fov": {"method": "fov", "min_counts": 10**6, "on_failure": "drop"}},
        {"a": {"method": "adaptive-ring", "r_in": "0.5 deg", "width": "0.3 deg", "r_out_max": "1.2 deg"}},
    ],
)
def test_other_methods(make_project, tmp_path, monkeypatch, backgrounds):
    made = []
    for form in ("dense", "factored"):
        project = make_project(tmp_path / form)
        project.put([100001, 100002])
        project.write(artifacts={"form": form}, backgrounds=backgrounds)
        workflow = project.plan().workflow
        monkeypatch.chdir(project.folder)
        for batch in workflow.index["one"]["unmade"]:
            reduce_batch(open_batch(Path(workflow.manifest("one", batch)), lambda line: None))
        made.append(leaves(project))
    assert made[0]
    assert made[1] == made[0]


def test_another_form_makes_nothing_again(dense, factored, tmp_path):
    for project, form in ((factored, "dense"), (dense.copy(tmp_path / "dense"), "factored")):
        before = project.stamps()
        project.write(artifacts={"form": form})
        planned = project.build()
        assert project.stamps() == before
        assert not planned.workflow.index["one"]["again"]


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_a_leaf_is_made_again_from_what_is_kept(factored, dense, form, monkeypatch):
    before = factored.stamps("one/obs/**/*")
    for path in (factored.results / "one" / "stack").rglob("*.h5"):
        path.unlink()
    factored.write(artifacts={"form": form})
    monkeypatch.setattr("cubeflow.steps.run.read_observation", lambda *_: pytest.fail("a run was read"))
    factored.build()
    assert factored.stamps("one/obs/**/*") == before
    assert leaves(factored) == leaves(dense)


def test_new_files_have_the_new_form(factored, dense):
    obs(factored, 100001, "reduced").unlink()
    obs(factored, 100002, "background-ring").unlink()
    factored.write(artifacts={"form": "dense"})
    factored.build()
    for run, name in ((100001, "reduced"), (100002, "background-ring")):
        assert obs(factored, run, name).read_bytes() == obs(dense, run, name).read_bytes()
    assert is_factored(obs(factored, 100001, "background-ring"))
    # A dense run beside a factored background, and the other way round.
    for run in (100001, 100002):
        one, other = (cubeflow.load(obs(project, run, "background-ring")) for project in (factored, dense))
        np.testing.assert_array_equal(one.maps["counts_off"].data, other.maps["counts_off"].data)


@pytest.mark.parametrize("name", ARTIFACTS)
def test_load_gives_the_same_objects(dense, template, name):
    one, other = (cubeflow.load(obs(project, 100002, name)) for project in (template, dense))
    assert (one.kind, one.key, one.attributes, one.provenance) == (
        other.kind,
        other.key,
        other.attributes,
        other.provenance,
    )
    assert sorted(one.maps) == sorted(other.maps)
    assert sorted(one.arrays) == sorted(other.arrays)
    for each, cube in other.maps.items():
        again = one.maps[each]
        assert (again.geom, again.axes, again.unit, again.data.dtype) == (
            cube.geom,
            cube.axes,
            cube.unit,
            cube.data.dtype,
        )
        assert again.data.tobytes() == cube.data.tobytes()
    for each, array in other.arrays.items():
        assert one.arrays[each].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ARTIFACTS)
def test_inspect_shows_either(dense, template, name):
    held, shown, expected = (
        describe_file(obs(template, 100002, name)),
        describe_file(obs(template, 100002, name), dense=True),
        describe_file(obs(dense, 100002, name), dense=True),
    )
    assert (held["form"], shown["form"], expected["form"]) == ("factored", "factored", "dense")
    assert sorted(shown["datasets"]) == sorted(expected["datasets"])
    assert shown["attributes"] == expected["attributes"]
    for each, about in expected["datasets"].items():
        assert shown["datasets"][each] == {part: about[part] for part in shown["datasets"][each]}
        assert shown["datasets"][each]["totals"] == about["totals"]
    assert set(held["datasets"]) != set(shown["datasets"])


def test_inspect_and_diff_as_commands(dense, template):
    path = str(obs(template, 100001, "reduced"))
    plain, maps = (CliRunner().invoke(main, ["inspect", *more, path]) for more in ((), ("--dense",)))
    assert (plain.exit_code, maps.exit_code) == (0, 0)
    assert "kind reduced, factored" in plain.output
    assert "psf.sigma_1" in plain.output
    assert "exposure_reco" in maps.output
    found = CliRunner().invoke(main, ["diff", str(dense.results), str(template.results)])
    assert found.exit_code == 0, found.output


def test_diff_sees_what_differs(dense, template, tmp_path):
    path = obs(template, 100001, "reduced")
    artifact = read_artifact(path)
    datasets = dict(artifact.datasets)
    datasets["aeff.area_m2"] = np.asarray(datasets["aeff.area_m2"]) * np.float32(2)
    changed = Artifact("reduced", artifact.key, 1, datasets, artifact.attributes, artifact.provenance)
    write_artifact(tmp_path / "reduced.h5", changed)
    found = compare(obs(dense, 100001, "reduced"), tmp_path / "reduced.h5")
    names = {each["name"]: each["max_rel"] for each in found["files"][0]["datasets"]}
    assert sorted(names) == ["exposure", "exposure_reco", "irf_exposure"]
    assert names["exposure"] == pytest.approx(0.5)


def forge(path: Path, **changes: Any) -> None:
    """Write an artifact anew, with its key and a valid checksum, and other content."""
    artifact = read_artifact(path)
    content = {"datasets": artifact.datasets, "attributes": artifact.attributes, "provenance": artifact.provenance}
    parts = content | {name: content[name] | part for name, part in changes.items()}
    write_artifact(path, Artifact(artifact.kind, artifact.key, artifact.algorithm, **parts))


def test_a_forged_run_is_set_aside_and_made_again(factored, dense):
    path = obs(factored, 100001, "reduced")
    forge(path, datasets={"counts.index": np.arange(3, dtype=np.int64)})
    for leaf in (factored.results / "one" / "stack").rglob("*.h5"):
        leaf.unlink()
    factored.build()
    assert path.with_name("reduced.h5.corrupt").exists()
    assert leaves(factored) == leaves(dense)
    assert is_factored(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"provenance": {"config": {}}}, "no 'geometry'"),
        ({"provenance": {"config": None}}, ".+"),
        ({"provenance": {"config": "offset_max_deg"}}, ".+"),
        ({"datasets": {"exclusion": np.ones((2, 3), bool)}}, ".+"),
        ({"datasets": {"exclusion": np.ones(4)}}, "exclusion: expected truth values"),
        ({"provenance": {"inputs": {}}}, "no 'reduced'"),
    ],
)
def test_a_forged_file_is_refused_in_one_line(factored, changes, reason):
    name = "reduced" if "geometry" in reason else "background-fov"
    path = obs(factored, 100001, name)
    forge(path, **changes)
    with pytest.raises(ArtifactDamaged, match=rf"{name}.h5: its factors do not fit together: {reason}") as caught:
        cubeflow.load(path)
    assert "\n" not in str(caught.value)


def test_a_background_needs_its_own_run(factored):
    shutil.copy(obs(factored, 100002, "reduced"), obs(factored, 100001, "reduced"))
    with pytest.raises(FailedError, match=r"reduced.h5: has key .*, expected"):
        cubeflow.load(obs(factored, 100001, "background-fov"))


def test_the_plan_knows_the_size(factored):
    spec = factored.plan().targets[0].spec
    assert disk_mb(spec, 100, 0) == int(100 * 5e5 / 2**20)
