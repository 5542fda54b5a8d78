"""Why a target has no runs, in one line that says what to change."""

from __future__ import annotations

from cubeflow.dl3.index import Store
from cubeflow.plan.model import TargetPlan
from cubeflow.steps.names import Place
from cubeflow.steps.survey import offsets_of


def why_no_runs(store: Store, target: TargetPlan) -> str:
    """Reason, with the selection and the run whose pointing is closest to the target."""
    spec, selection = target.spec, target.spec.selection
    if target.refused:
        first = target.refused[0]
        return (
            f"{spec.name}: all of {len(target.refused)} runs are refused; the first, run {first.obs_id}: {first.reason}"
        )
    asked = {
        "ids": selection.ids,
        "exclude": selection.exclude or None,
        "within": None if selection.within_deg is None else f"{selection.within_deg:g} deg",
        "where": selection.where,
    }
    chosen = ", ".join(f"{name}: {value}" for name, value in asked.items() if value is not None) or "everything"
    text = f"{spec.name}: none of the {len(store.runs)} runs is selected; observations asks for {chosen}"
    offsets = offsets_of(store, Place(spec.name, spec.ra_deg, spec.dec_deg))
    if not offsets:
        return text
    obs_id, offset = next(iter(offsets.items()))
    return f"{text}. The run closest to the target, {obs_id}, points {offset:.2f} deg away"
