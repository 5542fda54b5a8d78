"""Whether results still are what was written, and follow from what they were made of: this looks at the content."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from cubeflow.dl3.files import FileRefused
from cubeflow.dl3.hdus import read_hdus
from cubeflow.errors import FailedError, MistakeError
from cubeflow.pipeline.certificate import read_certificate
from cubeflow.pipeline.tasks import CRATE, FOLDER, FOUND, gadf_file
from cubeflow.plan.clean import CLAIM, SET_ASIDE, files_below, stale_files
from cubeflow.plan.lock import Lock
from cubeflow.plan.make import Plan
from cubeflow.store.artifact import ArtifactNewer, open_artifact, set_aside
from cubeflow.store.atomic import file_sha256
from cubeflow.store.keys import Recipe, short

RUNS = "files of runs"
INPUTS = {"reduced": RUNS, "off": RUNS, "background-options": "exclusion files", "off-options": "exclusion files"}
CHANGED = "has another content than it had, with the same size and times"


@dataclass(frozen=True)
class Verdict:
    """What there is of a plan that has read all inputs, or below a folder, and what is wrong with it."""

    inputs: int  # number of input files that were read
    files: int  # and of those that were made
    damaged: Mapping[Path, str]  # what is wrong, by file
    absent: tuple[Path, ...]  # files of the plan that are not made
    orphans: tuple[Path, ...]  # files that the plan does not need, or of which no certificate speaks
    unproven: Mapping[str, tuple[str, ...]]  # keys and digests of what is not here, by what it is


@dataclass
class Proof:
    """Files that were looked at, and what follows from what."""

    files: dict[Path, str | None] = field(default_factory=dict)  # what is wrong; None for a file that is right
    made: set[str] = field(default_factory=set)  # keys of those that are right
    inputs: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # keys and digests, by what they are
    read: dict[Path, dict[Path, str]] = field(default_factory=dict)  # digests that certificates have of other files

    def add(self, path: Path) -> None:
        """Look at an artifact or certificate, and at the products of that; at nothing else. Raises ArtifactNewer."""
        try:
            if CLAIM.fullmatch(path.name):
                self._add_certificate(path)
            elif path.suffix == ".h5" and path.name != "cube.h5":
                self._add_artifact(path)
            elif path.suffix == ".gz" and path.parent.parent.name == "models":
                hdus = read_hdus(path)
                for hdu in hdus:
                    hdu.check_sums()
                is_named = path.name == Path(gadf_file("", str(hdus[0].header.get("KEY")))).name
                self.files[path] = None if is_named else "has another KEY than that of its name"
        except ArtifactNewer:  # it is whole, and not for this version to set aside
            raise
        except (FailedError, FileRefused) as error:
            self.files[path] = str(error).removeprefix(f"{path}: ")

    def compare(self) -> None:
        """Compare files with the digests that the certificates of what was made from them have."""
        right = {path for path, problem in self.files.items() if problem is None}
        for path, digests in self.read.items():
            for other in (each for each in digests if each in right and file_sha256(each) != digests[each]):
                self.files[other] = f"has another content than when {path} was made from it"
                self.files[path] = f"was made from another content of {other}"

    def _add_artifact(self, path: Path, key: str = "") -> None:
        """Look at an artifact; `key` is what its certificate says."""
        with open_artifact(path) as opened:
            made = opened.artifact
        is_named = made.key == key or (not key and path.stem.endswith(short(made.key)))
        self.files[path] = None if is_named else f"has key {made.key}, expected that of its name or certificate"
        self._add_recipe(path, made.key, {"kind": made.kind, "version": made.algorithm, **made.provenance})

    def _add_certificate(self, path: Path) -> None:
        content = read_certificate(path)
        if content is None or not path.stem.endswith(short(content["key"])):
            self.files[path] = "not as it was written, or under another name"
            return
        self.files[path] = None
        self._add_recipe(path, content["key"], content)
        places = {name: Path(os.path.normpath(path.parent / name)) for name in (*content["read"], *content["files"])}
        self.read[path] = {places[name]: sha256 for name, sha256 in content["read"].items()}
        for name, about in content["files"].items():
            if (product := places[name]).exists():
                is_same = file_sha256(product) == about["sha256"]
                self.files[product] = None if is_same else "has another content than its certificate says"
                if product.suffix == ".h5" and is_same:
                    self._add_artifact(product, content["key"])

    def _add_recipe(self, path: Path, key: str, record: Mapping[str, object]) -> None:
        """Form a key again from what a file holds of its options and inputs."""
        try:
            recipe = Recipe.of(record)
            follows = recipe.key == key
            for each in (recipe, *(each for each in recipe.options.values() if isinstance(each, Recipe))):
                values = each.inputs.values() if isinstance(each.inputs, Mapping) else each.inputs
                self.inputs[INPUTS.get(each.kind, "artifacts and products")] |= set(values)
        except (KeyError, TypeError, AttributeError, ValueError):
            follows = False
        if self.files[path] is None and not follows:
            self.files[path] = "its key does not follow from the options and inputs that it names"
        elif follows:
            self.made.add(key)

    def verdict(self, n_inputs: int, absent: Iterable[Path], orphans: Iterable[Path]) -> Verdict:
        """What was found."""
        damaged = {path: problem for path, problem in self.files.items() if problem is not None}
        unproven = {name: tuple(sorted(keys - self.made)) for name, keys in self.inputs.items() if keys - self.made}
        return Verdict(n_inputs, len(self.files), damaged, tuple(absent), tuple(orphans), unproven)


def verify_plan(plan: Plan, sets_aside: bool) -> Verdict:
    """Look at every byte that a plan trusts; if asked, set damaged files aside and note what inputs are now.

    Then the next start makes again what was damaged. LockedError if a workflow of this configuration is at work then.
    """
    with Lock(plan.results, plan.config).held() if sets_aside else nullcontext():
        paths = [plan.results / file for task in plan.all_tasks for file in plan.files(task)]
        proof = verify_files(paths)
        absent = sorted(set(paths) - set(proof.files))
        if sets_aside:
            for path, problem in proof.files.items():
                if problem is not None:
                    proof.files[path] = f"{problem}; set aside as {set_aside(path).name}"
            plan.cache.save()
    found = proof.verdict(len(plan.cache.seen), absent, stale_files(plan))
    return replace(found, damaged={**found.damaged, **dict.fromkeys(map(Path, plan.cache.exchanged), CHANGED)})


def verify_folder(folder: Path) -> Verdict:
    """Look at all results below a folder, without configuration, plan and inputs; MistakeError if there are none."""
    ours = (path for path in files_below(folder) if path.is_file() and not SET_ASIDE.search(path.name))
    paths = [path for path in ours if path.relative_to(folder).parts[0] not in (FOLDER, "logs", "benchmarks")]
    paths = [path for path in paths if path.name not in (CRATE, *FOUND)]  # what people ask for beside results
    proof = verify_files(paths)
    if not proof.files:
        raise MistakeError(f"{folder}: expected the folder of a target or of results, found no artifact or certificate")
    return proof.verdict(0, (), sorted(set(paths) - set(proof.files)))


def verify_files(paths: Iterable[Path]) -> Proof:
    """Look at those files that are there: artifacts by themselves, products by their certificate.

    An artifact is checked against its own checksum, its name, and the key that follows from the options and inputs that
    it holds; a certificate likewise, and its products against it; what it was made from against digests that it has.
    """
    proof = Proof()
    for path in filter(Path.exists, paths):
        proof.add(path)
    proof.compare()
    return proof
