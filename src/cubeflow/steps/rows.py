"""What the leaf stacks of a target say of its runs, read leaf after leaf into columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from sys import intern
from typing import Any

from cubeflow.products.profiles import Profiles, sum_profiles
from cubeflow.steps.cells import BLOCK_ROWS, Cells, Columns, Value
from cubeflow.steps.kept import read_stack

Row = dict[str, Any]

SEVERITY = ("ok", "dropped", "skipped", "refused")


@dataclass(frozen=True, eq=False)
class TargetRows:
    """What the leaf stacks of a target say of its runs.

    Parameters
    ----------
    columns : mapping of str to Cells
        Of the selected runs in order of id: columns of the run by their names, those of a background as
        ``<label>_<name>``.
    used : dict of str to int
        Number of runs, or pieces of runs, in the stack of each label.
    profiles : dict of str to Profiles or None
        Sum over the runs of each label; None without any.
    """

    columns: Mapping[str, Cells]
    used: dict[str, int]
    profiles: dict[str, Profiles | None]

    def __len__(self) -> int:
        return max((len(cells) for cells in self.columns.values()), default=0)

    def rows(self, *names: str) -> Iterator[Row]:
        """Rows of some columns, one by one; None where there is no value."""
        chosen = [self.columns.get(name, Cells(len(self))) for name in names]
        for start in range(0, len(self), BLOCK_ROWS):
            block = [cells[start : start + BLOCK_ROWS] for cells in chosen]
            yield from (dict(zip(names, row, strict=True)) for row in zip(*block, strict=True))


def target_rows(manifest: Mapping[str, Any], folder: Path) -> TargetRows:
    """Rows of all selected runs of a target.

    The leaves of all labels of a batch are read together: its rows are put into columns, and their profiles, many
    numbers, are added up.

    Parameters
    ----------
    manifest : mapping
        ``runs-<key>.table.json`` of the plan.
    folder : Path
        Results of the target.
    """
    columns, leaves = Columns(), manifest["leaves"]
    refused = {(int(obs_id), -1): _refused(int(obs_id), reason) for obs_id, reason in manifest["refused"].items()}
    used, profiles = dict.fromkeys(leaves, 0), dict[str, Profiles | None].fromkeys(leaves)
    for names in zip_longest(*leaves.values()):
        rows: dict[tuple[int, int], Row] = {}
        for label, leaf in zip(leaves, names, strict=True):
            parts = [] if leaf is None else _leaf_rows(folder / "stack" / label / f"{leaf}.h5")
            for row in parts:
                place = row["obs_id"], row.get("run", {}).get("piece", -1)
                _merge(rows.setdefault(place, refused.pop(place, {})), row, label)
            good = [row["background"] for row in parts if row["status"] == "ok"]
            used[label] += len(good)
            profiles[label] = sum_profiles((each["profiles"] for each in good if "profiles" in each), profiles[label])
        columns.add(list(rows.values()))
    columns.add(list(refused.values()))
    return TargetRows(columns.sorted_by("obs_id", "piece"), used, profiles)


def _refused(obs_id: int, reason: str) -> Row:
    return {"obs_id": obs_id, "status": "refused", "reason": reason}


def _leaf_rows(path: Path) -> list[Row]:
    """Rows in a leaf stack."""
    rows: list[Row] = read_stack(path, names=[]).attributes["rows"]
    return rows


def _merge(merged: dict[str, Value], row: Row, label: str) -> None:
    """Add the row of one label to the row of its run; the worst status of its labels is the run's."""
    merged["obs_id"] = row["obs_id"]
    for name, value in row.get("run", {}).items():
        merged[name] = intern(_text(value)) if isinstance(value, (list, dict)) else value
    for name, value in {"status": row["status"], **row.get("background", {})}.items():
        if name == "profiles":  # many numbers, for the report
            continue
        if name == "offset_deg":  # of the run from the target, whatever the background
            merged[name] = value
        elif isinstance(value, list):
            merged |= {f"{label}_{name}_{index}": item for index, item in enumerate(value)}
        else:
            merged[f"{label}_{name}"] = value
    if SEVERITY.index(row["status"]) >= SEVERITY.index(str(merged.get("status", "ok"))):
        merged["status"], merged["reason"] = row["status"], row["reason"] or merged.get("reason", "")


def _text(value: list[Any] | dict[str, Any]) -> str:
    """Names, or names with numbers, in one cell."""
    return " ".join(value if isinstance(value, list) else (f"{key}={count}" for key, count in sorted(value.items())))
