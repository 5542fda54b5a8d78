"""Damage of every kind of file that a plan trusts by its name."""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
from astropy.io import fits

from cubeflow.cli import main
from cubeflow.config import load_config
from cubeflow.errors import FailedError, MistakeError
from cubeflow.pipeline.tasks import PICTURES, REGIONS
from cubeflow.plan.clean import stale_files
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import finish, run_plan
from cubeflow.plan.verify import verify_files, verify_folder, verify_plan
from cubeflow.report.page import do_job
from cubeflow.store import artifact as store
from cubeflow.store.artifact import ArtifactNewer
from cubeflow.store.atomic import file_sha256
from cubeflow.store.keys import seal

from .conftest import do_all, small_config

WITHIN = '"observations": {"within": "5 deg"}, "geometry"'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    content = small_config(folder, simulate={"runs": 2, "duration": "300 s"})
    own = {"acceptance": {"model": "self"}, "exclusion": str(folder / "crab.reg"), "stack": {"by": "run"}}
    content["targets"]["m"] = content["targets"]["t"] | own
    (folder / "crab.reg").write_text("icrs\ncircle(83.633, 22.014, 0.3)\n")
    path = folder / "config.yaml"
    path.write_text(json.dumps(content))
    plan = make_plan(load_config([path]), print)
    do_all(plan)
    return path, plan


def looked_at(plan):
    return verify_files(plan.results / file for task in plan.all_tasks for file in plan.files(task)).files


def damaged(plan):
    return {path.name: problem for path, problem in looked_at(plan).items() if problem is not None}


def test_all_that_was_made_is_read(made):
    _, plan = made
    found = looked_at(plan)
    assert set(found.values()) == {None}
    made_files = {path for path in plan.results.rglob("*") if path.is_file() and ".cubeflow" not in path.parts}
    assert made_files == set(found)
    assert {*PICTURES, *REGIONS, "report.html"} <= {path.name for path in found}


def test_pages_that_are_no_longer_made_are_stale(made):
    """The page of a target that was the only one, or of several; not those of others, and no pictures of others."""
    config, plan = made
    assert stale_files(plan) == []
    written = config.read_text()
    content = json.loads(written)
    content["targets"].pop("m")
    config.write_text(json.dumps(content))
    alone = make_plan(load_config([config]), print)
    config.write_text(written)
    alone.write()
    job = next(job.name for job in alone.jobs if job.kind == "report")
    do_job(alone.path, job, print, alone.results)
    folder = plan.results / "t"
    label = next(path.parent for path in folder.glob("*/significance.svg"))
    page, picture, others = folder / "report.html", label / "excess.png", folder / "talk/excess.png"
    (certificate,) = folder.glob("report-*.json")
    others.parent.mkdir()
    for path in (picture, others):
        path.write_bytes(b"PNG")
    try:
        (shared,) = plan.results.glob("made-*.json")
        assert stale_files(alone) == [shared, plan.results / "report.html"]
        content["targets"] = {"other": content["targets"]["t"]}
        (config.parent / "other.json").write_text(json.dumps(content))
        assert stale_files(make_plan(load_config([config.parent / "other.json"]), print)) == []
        kept = (plan.results / "report.html").read_bytes()
        (plan.results / "report.html").write_text("mine")
        assert stale_files(alone) == [shared]
        (plan.results / "report.html").write_bytes(kept)
        assert stale_files(plan) == [certificate, page]
        page.write_text("<!doctype html><title>mine</title>")
        assert stale_files(plan) == [certificate]
    finally:
        for path in (picture, others, page, certificate):
            path.unlink()
        others.parent.rmdir()


ANY_KIND = [
    *("t/obs/*/reduced-*.h5", "t/obs/*/background-fov-*.h5", "t/stack/*/*.h5", "t/*/cube.h5", "t/*/dataset.fits.gz"),
    *("t/runs.csv", "t/*/counts.svg", "t/exclusion.reg", "report.html"),
    *("t/*/made-*.json", "t/made-*.json", "t/*/figures-*.json", "made-*.json"),
]


@pytest.mark.parametrize("pattern", ANY_KIND)
def test_one_byte_is_found(made, pattern):
    _, plan = made
    path = next(plan.results.glob(pattern))
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        assert list(damaged(plan)) == [path.name]
    finally:
        path.write_bytes(content)
    assert damaged(plan) == {}


def test_artifact_under_the_name_of_another(made):
    _, plan = made
    one, other = sorted(plan.results.glob("t/obs/*/reduced-*.h5"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    try:
        assert damaged(plan)[one.name].startswith("has key ")
    finally:
        one.write_bytes(content)


def key_of(record):
    """Key that follows from what a file says, formed without the code that is tested."""
    options = {
        name: key_of(each) if isinstance(each, dict) and "inputs" in each else each
        for name, each in record["options"].items()
    }
    content = {name: record[name] for name in ("inputs", "kind", "version")} | {"options": options}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def records(folder):
    """Key and record of each file below a folder that has them."""
    for path in folder.rglob("*"):
        if path.suffix == ".h5":
            made = store.read_artifact(path, [])
            yield made.key, {"kind": made.kind, "version": made.algorithm, **made.provenance}
        elif path.suffix == ".json" and ".cubeflow" not in path.parts:
            content = json.loads(path.read_text())
            yield content["key"], content


def test_every_key_follows_from_its_file_down_to_the_files_of_the_runs(made):
    _, plan = made
    found = list(records(plan.results))
    assert {record["kind"] for _, record in found} == {
        *("off", "model", "reduced", "background", "stack", "export", "series", "table", "figures", "report")
    }
    assert [key for key, _ in found] == [key_of(record) for _, record in found]
    known, leaves = {key for key, _ in found}, set()
    for _, record in found:
        for part in (record, *(each for each in record["options"].values() if isinstance(each, dict))):
            inputs = part.get("inputs", [])
            leaves |= set(inputs.values() if isinstance(inputs, dict) else inputs) - known
    inputs = [*(plan.results.parent / "store").glob("obs_*"), plan.results.parent / "crab.reg"]
    assert leaves == {file_sha256(path) for path in inputs}


def test_a_folder_proves_itself_without_its_inputs(made, capsys, tmp_path):
    """Of a target alone the model is not here, and nothing is where it was made."""
    _, plan = made
    shutil.copytree(plan.results, tmp_path / "results")
    found = verify_folder(tmp_path / "results")
    assert (found.damaged, found.inputs, found.files) == ({}, 0, len(looked_at(plan)))
    files = {"files of runs": 2, "exclusion files": 1}
    assert {name: len(digests) for name, digests in found.unproven.items()} == files
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(tmp_path / "results/m")])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "known by their digests or keys only: 1 artifacts and products\n" in said
    (tmp_path / "results/m/fov/notes.txt").write_text("mine")
    assert verify_folder(tmp_path / "results/m").orphans == (tmp_path / "results/m/fov/notes.txt",)
    with pytest.raises(MistakeError, match="found no artifact or certificate"):
        verify_folder(plan.results.parent / "store")
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--set-aside", str(tmp_path / "results")])
    assert ended.value.code == 2
    assert "--set-aside takes a configuration, not a folder" in capsys.readouterr().err


def sealed(path, change):
    """Change the content of a certificate and give it the checksum that belongs to that."""
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    path.write_text(json.dumps({**content, "sha256": seal(content)}))


def exchange(product, certificate, content):
    """Write another product, and say so in its certificate."""
    product.write_bytes(content)
    about = {"bytes": len(content), "sha256": file_sha256(product)}
    sealed(certificate, lambda each: each["files"].update({product.name: about}))


def rewritten(path, **changes):
    """Artifact with other content and a right checksum."""
    artifact = replace(store.read_artifact(path), **changes)
    store.write_artifact(path, artifact)


def one(folder, pattern):
    return sorted(folder.glob(pattern))[0]


def forged_option(folder, pattern="t/obs/*/reduced-*.h5"):
    path = one(folder, pattern)
    made = store.read_artifact(path, []).provenance
    rewritten(path, provenance={**made, "options": {**made["options"], "forged": 1}})
    return [path]


def another_input(folder):
    path = one(folder, "t/obs/*/reduced-*.h5")
    made = store.read_artifact(path, []).provenance
    rewritten(path, provenance={**made, "inputs": dict.fromkeys(made["inputs"], "0" * 64)})
    return [path]


def another_run_under_the_key(folder):
    """Everything is sound but that the options and inputs are those of another run."""
    path, other = sorted(folder.glob("t/obs/*/reduced-*.h5"))
    key = store.read_artifact(path, []).key
    shutil.copy(other, path)
    rewritten(path, key=key)
    return [path]


def no_record(folder):
    path = one(folder, "t/obs/*/background-*.h5")
    rewritten(path, provenance={})
    return [path]


def other_values_in_a_stack(folder):
    """The sum has its key and a right checksum, and the export knows what it has read."""
    path = one(folder, "t/stack/fov/*.h5")
    rewritten(path, attributes={**store.read_artifact(path, []).attributes, "livetime_s": 1.0})
    return [path, one(folder, "t/fov/made-*.json"), one(folder, "t/made-*.json")]


def product_with_its_digest(names, folder):
    """Its certificate is told, and not those of what was made from it."""
    product, *certificates = names
    exchange(folder / product, one(folder, certificates[0]), b"another")
    return [one(folder, each) for each in certificates]


def answer_in_the_report(folder):
    certificate = one(folder, "t/fov/figures-*.json")
    sealed(certificate, lambda content: content["section"].update(significance=99.0))
    return [certificate, one(folder, "made-*.json")]


def cube_of_another_target(folder):
    certificate, cube = one(folder, "t/fov/made-*.json"), folder / "t/fov/cube.h5"
    exchange(cube, certificate, (folder / "m/fov/cube.h5").read_bytes())
    return [cube, certificate, one(folder, "t/fov/figures-*.json")]


def option_in_a_certificate(folder):
    certificate = one(folder, "t/fov/made-*.json")
    sealed(certificate, lambda content: content["options"].update(part="another"))
    return [certificate]


def input_of_a_light_curve(folder):
    certificate = one(folder, "m/fov/series-*.json")
    sealed(certificate, lambda content: content["inputs"].update(dict.fromkeys(content["inputs"], "1" * 64)))
    return [certificate]


def part_of_a_light_curve(folder):
    certificate = one(folder, "m/fov/parts/*/made-*.json")
    exchange(certificate.with_name("models.yaml"), certificate, b"components: []")
    return [certificate, one(folder, "m/fov/series-*.json")]


def tables_of_another_model(folder):
    path = one(folder, "models/self-m/background-*.fits.gz")
    with fits.open(path) as hdus:
        for hdu in hdus:
            hdu.header["KEY"] = "ab" * 32
        hdus.writeto(path, overwrite=True, checksum=True)
    return [path]


def certificate_under_another_name(folder):
    path = one(folder, "t/fov/made-*.json")
    path.rename(path.with_name(f"made-{'1' * 16}.json"))
    return [path.with_name(f"made-{'1' * 16}.json")]


PRODUCTS = [
    ("t/fov/datasets.yaml", "t/fov/made-*.json", "t/fov/figures-*.json"),
    ("t/runs.csv", "t/made-*.json", "t/fov/figures-*.json", "made-*.json"),
    ("t/fov/counts.svg", "t/fov/figures-*.json", "made-*.json"),
]
FORGERIES = [
    *(partial(product_with_its_digest, names) for names in PRODUCTS),
    *(forged_option, another_input, another_run_under_the_key, no_record, other_values_in_a_stack),
    *(answer_in_the_report, cube_of_another_target, option_in_a_certificate),
    *(input_of_a_light_curve, part_of_a_light_curve, tables_of_another_model, certificate_under_another_name),
]
PATTERNS = ("models/self-m/off/*.h5", "models/self-m/model-*.h5", "t/obs/*/background-*.h5", "t/stack/fov/*.h5")


@pytest.mark.parametrize("forge", [*FORGERIES, *(partial(forged_option, pattern=each) for each in PATTERNS)])
def test_what_was_changed_with_its_checksum_is_found(made, tmp_path, forge):
    """By who changes a file and what stands in it about its content, down to the last checksum."""
    _, plan = made
    folder = tmp_path / "results"
    shutil.copytree(plan.results, folder)
    assert verify_folder(folder).damaged == {}
    changed = forge(folder)
    found = verify_folder(folder)
    assert set(found.damaged) >= set(changed)


def test_exit_status_says_it(made, capsys):
    config, plan = made
    path = plan.results / "t" / "runs.csv"
    content = path.read_bytes()
    for text, status, said in ((content, 0, " 0 damaged, 0 not made"), (b"x", 1, "runs.csv: has another content")):
        path.write_bytes(text)
        with pytest.raises(SystemExit) as ended:
            main(["verify", "-c", str(config)])
        assert ended.value.code == status
        assert said in capsys.readouterr().out
    path.write_bytes(content)


def test_damaged_cube_is_set_aside_when_it_is_read_and_made_again(made):
    config, plan = made
    path = plan.results / "t" / "fov" / "cube.h5"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FailedError, match=r"cube\.h5: damaged .*; set aside as cube.h5.corrupt, start again"):
        finish(plan, print)
    run_plan(make_plan(load_config([config]), print), print)
    assert path.read_bytes() == content
    finish(plan, print)
    path.with_name("cube.h5.corrupt").unlink()


@pytest.mark.parametrize("pattern", ANY_KIND)
def test_what_is_set_aside_the_next_start_makes_again(made, pattern):
    """Also an artifact below a stack that is there, which nothing needs."""
    config, plan = made
    path = next(plan.results.glob(pattern))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = verify_plan(plan, sets_aside=True)
    aside = path.with_name(f"{path.name}.corrupt")
    assert set(found.damaged) == {path}
    assert found.damaged[path].endswith(f"set aside as {aside.name}")
    assert not path.exists()
    again = make_plan(load_config([config]), print)
    assert again.needed
    do_all(again)
    assert path.read_bytes() == content
    assert not make_plan(load_config([config]), print).needed
    aside.unlink()
    assert damaged(plan) == {}


def test_newer_artifact_is_not_set_aside(made, monkeypatch):
    _, plan = made
    monkeypatch.setattr(store, "SCHEMA", store.SCHEMA - 1)
    before = sorted(plan.results.rglob("*"))
    with pytest.raises(ArtifactNewer, match="has schema"):
        verify_plan(plan, sets_aside=True)
    assert sorted(plan.results.rglob("*")) == before


def test_orphans_and_what_is_not_made_are_named(made, capsys):
    config, plan = made
    path = next(plan.results.glob("t/obs/*/reduced-*.h5"))
    orphan = path.with_name("reduced-0123456789abcdef.h5")
    path.rename(orphan)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["verify", "-c", str(config), "--json"])
        assert ended.value.code == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["absent"], found["orphans"], found["damaged"]) == ([str(path)], [str(orphan)], {})
        assert (found["inputs"], found["files"]) == (3, len(looked_at(plan)))
    finally:
        orphan.rename(path)


def test_input_exchanged_behind_size_and_times_is_found(made, capsys):
    """As on a file system whose times tell nothing: what is remembered is a digest of other content."""
    config, plan = made
    cache, path = plan.cache, next((plan.results.parent / "store").glob("obs_100001*"))
    status, taken, digest = cache.files[str(path)]
    cache.files[str(path)] = status, taken + 10 * 10**9, "0" * 64
    cache._is_changed = True
    cache.save()
    assert make_plan(load_config([config]), print).cache.digest(path) == "0" * 64, "it is believed"
    for arguments, status in ((["verify"], 1), (["verify", "--set-aside"], 1), (["verify"], 0)):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "-c", str(config)])
        assert ended.value.code == status
        said = f"{path}: has another content than it had, with the same size and times"
        assert (said in capsys.readouterr().out) == (status == 1)
    assert path.exists()
    assert make_plan(load_config([config]), print).cache.digest(path) == digest


def test_wrong_position_makes_nothing_stale(made, capsys):
    """Who mistypes a position and cleans must not lose the artifacts of all runs."""
    config, plan = made
    wrong = config.with_name("wrong.yaml")
    wrong.write_text(config.read_text().replace("83.633", "183.633").replace('"geometry"', WITHIN))
    before = sorted(path for path in plan.results.rglob("*.h5"))
    with pytest.raises(SystemExit) as ended:
        main(["clean", "-c", str(wrong), "--yes"])
    assert ended.value.code == 2
    assert "no run is left for any target" in capsys.readouterr().err
    assert sorted(path for path in plan.results.rglob("*.h5")) == before
    assert stale_files(make_plan(load_config([wrong]), print)) == []
