"""Where the HDUs of a run lie, as JSON beside the manifest of its batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cubeflow.dl3.index import HduRef, RunEntry


def entry_to_plain(entry: RunEntry) -> dict[str, Any]:
    """Run as plain JSON, without its values in the observation index, and without what the plan has compared."""
    hdus = [{**ref._asdict(), "path": str(ref.path), "size": None, "md5": None} for ref in entry.hdus]
    return {"obs_id": entry.obs_id, "hdus": hdus, "quirks": list(entry.quirks)}


def entry_from_plain(plain: Mapping[str, Any]) -> RunEntry:
    """Undo `entry_to_plain`."""
    hdus = tuple(HduRef(**{**ref, "path": Path(ref["path"])}) for ref in plain["hdus"])
    return RunEntry(plain["obs_id"], hdus, quirks=tuple(plain["quirks"]))
