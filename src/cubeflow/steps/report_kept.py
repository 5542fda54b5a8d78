"""What the report keeps of each label: a label whose cube and runs are the same is not drawn again.

Drawing takes longer than all else that one more run asks for, and a report shows every label of every target.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cubeflow.plan import versions
from cubeflow.report.page import Figure, LabelSection
from cubeflow.report.skymap import Field
from cubeflow.steps.report_label import LabelInput, detail, make_label
from cubeflow.steps.report_plan import IMAGES
from cubeflow.storage.atomic import write_atomic
from cubeflow.storage.keys import make_key

Made = tuple[LabelSection, Mapping[str, Any]]


def keep_label(given: LabelInput, field: Field, n_finals: int) -> Made:
    """Section of a label and the summary of its cube, as `make_label`; drawn only if it was not drawn before.

    Its pictures are written either way: Snakemake removes them before a report is made again.
    """
    path = given.folder.parent / ".cubeflow" / "drawn" / given.target / f"{given.label}.json"
    key = drawn_key(given, n_finals)
    kept = _read(path, key)
    if kept is None:
        section, summary = make_label(given, field, n_finals)
        _write(path, key, section, summary, {name: _picture(given, name).read_bytes() for name in IMAGES})
        return section, summary
    for name, content in kept["pictures"].items():
        write_atomic(_picture(given, name), base64.b64decode(content))
    return _section(kept["section"]), kept["summary"]


def drawn_key(given: LabelInput, n_finals: int) -> str:
    """Key of all that a label's pictures and words are made of."""
    label = [given.target, given.label, given.method]
    content = {
        "cube": given.manifest["key"],
        "table": given.table_key,
        "label": label,
        "detail": list(detail(n_finals)),
    }
    return make_key("drawn", versions.REPORT, content, {})


def _picture(given: LabelInput, name: str) -> Path:
    return given.folder / given.label / f"{name}.png"


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """What was kept; None unless it is whole and has this key."""
    try:
        checksum, _, text = path.read_bytes().partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != checksum:
            return None
        kept: dict[str, Any] = json.loads(text)
    except (OSError, ValueError):
        return None
    return kept if kept["key"] == key else None


def _write(
    path: Path, key: str, section: LabelSection, summary: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> None:
    """Keep what was made, behind its checksum."""
    parts = {**vars(section), "figures": [vars(figure) for figure in section.figures]}
    encoded = {name: base64.b64encode(content).decode() for name, content in pictures.items()}
    text = json.dumps({"key": key, "section": parts, "summary": dict(summary), "pictures": encoded}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def _section(parts: Mapping[str, Any]) -> LabelSection:
    """Undo `_write`."""
    pairs = {name: [(first, second) for first, second in parts[name]] for name in ("facts", "links")}
    return LabelSection(**{**parts, **pairs, "figures": [Figure(**figure) for figure in parts["figures"]]})
