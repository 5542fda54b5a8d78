"""From a target's specification and the runs of a store to its batches, tree and keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from cubeflow.dl3.index import RunEntry
from cubeflow.errors import MistakeError
from cubeflow.plan import versions
from cubeflow.plan.digests import DigestCache, HduDigests
from cubeflow.plan.inputs import InputError, index_content, input_digests
from cubeflow.plan.model import BatchPlan, Plain, Refusal, RunPlan, Selection, TargetPlan, TargetSpec
from cubeflow.plan.select import angular_distance_deg, parse_where
from cubeflow.plan.tree import Group, make_batches, make_tree
from cubeflow.storage.keys import KeyTemplate, make_key, short


class PlanError(MistakeError):
    """Nothing can be planned; the message names the key of the configuration and the way out."""


def plan_target(
    spec: TargetSpec,
    entries: Iterable[RunEntry],
    cache: DigestCache,
    refused: Mapping[int, str],
    infos: Mapping[int, Plain] | None = None,
) -> TargetPlan:
    """Plan one target.

    Parameters
    ----------
    spec : TargetSpec
        What is asked for.
    entries : iterable of RunEntry
        Runs of the store.
    cache : DigestCache
        Digests of the input files.
    refused : mapping of int to str
        Runs the index itself rules out, with the reason.
    infos : mapping of int to mapping, optional
        What the observation index says of these: a target names those only that it may have wanted.

    Returns
    -------
    TargetPlan
        With no batches if no run is left.

    Raises
    ------
    PlanError
        If an id asked for is not in the store.
    """
    selected, unselected = select_runs(spec, entries, refused)
    infos = infos or {}
    lost = (obs_id for obs_id in refused if _may_be_wanted(spec.selection, obs_id))
    refusals = [Refusal(obs_id, refused[obs_id]) for obs_id in lost if _may_be_near(spec, infos.get(obs_id, {}))]
    runs: dict[int, RunPlan] = {}
    context = _KeyContext(spec)
    for entry in selected:
        try:
            runs[entry.obs_id] = context.plan_run(entry, input_digests(entry, cache, spec.require))
        except InputError as error:
            refusals.append(Refusal(entry.obs_id, str(error)))
    batches = tuple(context.plan_batch(group, runs) for group in make_batches(sorted(runs), spec.batch))
    nodes, roots = plan_nodes(spec, batches)
    refusals.sort(key=lambda refusal: refusal.obs_id)
    return TargetPlan(spec, batches, nodes, roots, tuple(refusals), unselected)


def select_runs(
    spec: TargetSpec, entries: Iterable[RunEntry], refused: Mapping[int, str]
) -> tuple[list[RunEntry], int]:
    """Return the runs a target asks for, and how many it does not.

    Raises
    ------
    PlanError
        If an id asked for is neither in the store nor refused by the index.
    """
    selection = spec.selection
    entries = list(entries)
    if selection.ids is not None:
        absent = set(selection.ids) - {entry.obs_id for entry in entries} - set(refused)
        if absent:
            there = f"{len(entries)} runs" + (f", {entries[0].obs_id} to {entries[-1].obs_id}" if entries else "")
            raise PlanError(f"observations.ids: not in the store: {sorted(absent)}; it has {there}")
    test = parse_where(selection.where) if selection.where else None
    chosen = [entry for entry in entries if _is_selected(entry, spec, test)]
    return chosen, len(entries) - len(chosen)


def _may_be_wanted(selection: Selection, obs_id: int) -> bool:
    """Whether the ids alone leave a run in."""
    return (selection.ids is None or obs_id in selection.ids) and obs_id not in selection.exclude


def _may_be_near(spec: TargetSpec, info: Plain) -> bool:
    """Whether the pointing leaves a run in, as far as it is known."""
    if spec.selection.within_deg is None or not {"RA_PNT", "DEC_PNT"} <= info.keys():
        return True
    distance = angular_distance_deg((float(info["RA_PNT"]), float(info["DEC_PNT"])), (spec.ra_deg, spec.dec_deg))
    return not distance > spec.selection.within_deg


def _is_selected(entry: RunEntry, spec: TargetSpec, test: Callable[[Plain], bool] | None) -> bool:
    """Whether ids, pointing and the condition on the index leave a run in."""
    selection = spec.selection
    if not _may_be_wanted(selection, entry.obs_id):
        return False
    if selection.within_deg is not None:
        try:
            pointing = float(entry.obs_info["RA_PNT"]), float(entry.obs_info["DEC_PNT"])
        except KeyError as error:
            raise PlanError(
                f"observations.within: run {entry.obs_id} has no {error} in the observation index"
            ) from error
        if angular_distance_deg(pointing, (spec.ra_deg, spec.dec_deg)) > selection.within_deg:
            return False
    return test is None or test(entry.obs_info)


class _KeyContext:
    """Keys of one target; the digests of its configuration are formed once."""

    def __init__(self, spec: TargetSpec) -> None:
        self.reduce = make_key("reduce-config", versions.REDUCE, spec.reduce, {})
        self.labels = {
            label: make_key("background-config", versions.BACKGROUND, plain, {})
            for label, plain in spec.backgrounds.items()
        }
        self.backgrounds = {
            label: KeyTemplate("background", versions.BACKGROUND, {"config": config}, "reduced")
            for label, config in self.labels.items()
        }

    def plan_run(self, entry: RunEntry, inputs: HduDigests) -> RunPlan:
        """Keys of a run's artifacts, from the digests of its inputs."""
        content = {"config": self.reduce, "obs_id": entry.obs_id, "index": index_content(entry)}
        reduced = make_key("reduce", versions.REDUCE, content, inputs)
        backgrounds = {label: template.key(reduced) for label, template in self.backgrounds.items()}
        return RunPlan(entry.obs_id, inputs, reduced, backgrounds)

    def plan_batch(self, group: Group, runs: Mapping[int, RunPlan]) -> BatchPlan:
        """Name of a batch and of its leaf for each label, from the keys of its runs."""
        chosen = tuple(runs[obs_id] for obs_id in group.obs_ids)
        content = {"runs": [run.reduced_key for run in chosen], "config": self.reduce}
        name = short(make_key("batch", versions.STACK, content, {}))
        leaves = {label: f"{name}-{config[:8]}" for label, config in self.labels.items()}
        return BatchPlan(name, chosen, leaves)


def label_tag(plain: Plain) -> str:
    """Eight digits that stand for the configuration of a background in the names of its leaves."""
    return make_key("background-config", versions.BACKGROUND, plain, {})[:8]


def node_key(kind: str, children: Iterable[str]) -> str:
    """Key of a stack: of a leaf from its runs' background keys, of a node from its children's keys."""
    return make_key(f"stack-{kind}", versions.STACK, {"children": list(children)}, {})


def plan_nodes(
    spec: TargetSpec, batches: tuple[BatchPlan, ...]
) -> tuple[dict[str, dict[str, tuple[str, ...]]], dict[str, str]]:
    """Inner nodes (children by name) and the root of the tree, for each label."""
    nodes: dict[str, dict[str, tuple[str, ...]]] = {label: {} for label in spec.backgrounds}
    if not batches:
        return nodes, {}
    leaf_of = {batch.runs[0].obs_id: batch for batch in batches}
    tree = make_tree([Group(b.runs[0].obs_id, b.runs[-1].obs_id) for b in batches], spec.fanout)

    def name_of(group: Group, label: str) -> str:
        """Name of the leaf or node of a group; notes what its nodes are made of."""
        if not group.children:
            return leaf_of[group.first].leaves[label]
        children = tuple(name_of(child, label) for child in group.children)
        name = short(node_key("node", children))
        nodes[label][name] = children
        return name

    return nodes, {label: name_of(tree, label) for label in spec.backgrounds}
