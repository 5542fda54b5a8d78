"""``cubeflow crate``: describe the folder of a target as an RO-Crate, for archives. Needs the library rocrate."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cubeflow.errors import FailedError, MistakeError
from cubeflow.pipeline.certificate import read_certificate
from cubeflow.pipeline.tasks import CRATE, FOLDER
from cubeflow.plan.clean import CLAIM, files_below
from cubeflow.plan.digests import DigestCache
from cubeflow.plan.verify import INPUTS, verify_folder
from cubeflow.store.atomic import file_sha256, write_atomic

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
MEDIA = {".h5": "application/x-hdf5", ".gz": "application/gzip", ".json": "application/json", ".svg": "image/svg+xml"}


def write_crate(folder: Path, terms: str | None) -> Path:
    """Write ``ro-crate-metadata.json`` beside the products of a folder, after all that is there has been verified.

    It lists products and certificates, options, programs, and inputs by digest, with the names of files where the
    results still know them. `terms` is the address of the licence. The same files give the same bytes. MistakeError
    without rocrate or results, FailedError if any of these is damaged, or a cube has no certificate.
    """
    found = verify_folder(folder)
    loose = {path: "no certificate speaks of it" for path in found.orphans if path.name == "cube.h5"}
    for path, problem in {**found.damaged, **loose}.items():
        raise FailedError(f"{path}: {problem}; expected results that cubeflow verify finds nothing wrong with")
    claims = [path for path in files_below(folder) if CLAIM.fullmatch(path.name)]
    certificates = {path: content for path in claims if (content := read_certificate(path)) is not None}
    paths = {*claims, *(path.parent / name for path in claims for name in certificates[path]["files"])}
    names = {os.path.relpath(path, folder) for path in paths}
    files = []
    for name in sorted(name for name in names if not name.startswith("..") and (folder / name).exists()):
        about = {"@id": name, "@type": "File", "name": name, "sha256": file_sha256(folder / name)}
        media = MEDIA.get(Path(name).suffix, "text/plain")
        files.append({**about, "encodingFormat": media, "contentSize": str((folder / name).stat().st_size)})
    known = DigestCache.load(folder.absolute().parent / FOLDER / "digests.json").files
    of_file = {sha256: Path(path).name for path, (_, _, sha256) in known.items()}
    inputs = [
        {"@id": f"#sha256-{digest}", "@type": "CreativeWork", "name": of_file.get(digest, digest), "sha256": digest}
        for kind, digests in found.unproven.items()
        for digest in (digests if kind in INPUTS.values() else ())
    ]
    for path, content in sorted(certificates.items()):
        about = {"@id": f"#options-{content['key']}", "@type": "PropertyValue"}
        text = json.dumps(content["options"], sort_keys=True)
        inputs.append({**about, "name": f"options of {os.path.relpath(path, folder)}", "value": text})
    programs = [
        {"@id": f"#{name}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in next(iter(certificates.values()))["software"].items()
    ]
    when = datetime.fromtimestamp(max(path.stat().st_mtime for path in claims), UTC).isoformat(timespec="seconds")
    return _write(folder, [files, inputs, programs], when, terms)


def _write(folder: Path, entities: Sequence[Sequence[dict[str, str]]], when: str, terms: str | None) -> Path:
    """Write the crate of results, inputs and programs of a ``CreateAction``, as in a Process Run Crate."""
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise MistakeError("crate: expected the library rocrate: pip install 'cubeflow[crate]'") from error
    crate = ROCrate(version="1.1")
    results, objects, used = ([crate.add_jsonld(each) for each in group] for group in entities)
    run = {"@id": "#run", "@type": "CreateAction", "name": f"reduction of {folder.name}", "endTime": when}
    action, root = crate.add_jsonld(run), crate.root_dataset
    action["instrument"], action["object"], action["result"] = used, objects, results
    root["name"], root["datePublished"], root["hasPart"], root["mentions"] = folder.name, when, results, action
    root["description"] = f"Maps and cubes of {folder.name}, reduced with cubeflow"
    licence = {"@id": terms, "@type": "CreativeWork", "name": terms}
    root["license"] = crate.add_jsonld(licence) if terms else "not known"
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    root["conformsTo"] = crate.add_jsonld(profile)
    text = json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomic(path := folder / CRATE, text.encode())
    return path
