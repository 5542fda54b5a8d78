"""The verb ``check``: what is wrong with a store."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cubeflow.cli.shared import REFUSED
from cubeflow.cli.show import make_console, print_table

if TYPE_CHECKING:
    from cubeflow.steps.check import CheckedRun


@click.command()
@click.argument("source", metavar="STORE_OR_CONFIG")
@click.option("--obs-id", "-i", "obs_ids", type=int, multiple=True, help="Only this run; may be repeated.")
@click.option("--root", "roots", multiple=True, help="Folder outside the store with files of it; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def check(source: str, obs_ids: tuple[int, ...], roots: tuple[str, ...], as_json: bool) -> None:
    """Read all runs of a store, or some, and say what deviates, what was repaired and what is refused, and why.

    Exit status 3 if any run is refused.

    Example: cubeflow check ../shared/data/hess-dl3-dr1
    """
    from cubeflow.steps.check import check_runs, open_source

    store, options = open_source(source, roots)
    runs = list(check_runs(store, options, obs_ids))
    if as_json:
        plain = {"store": store.path, "problems": list(store.problems), "runs": [asdict(run) for run in runs]}
        click.echo(json.dumps(plain, indent=1))
    else:
        _print(runs, store.problems)
    sys.exit(REFUSED if store.problems or any(run.reason for run in runs) else 0)


def _print(runs: Sequence[CheckedRun], problems: Sequence[str]) -> None:
    """Tables of runs, of refusals and of quirks."""
    from cubeflow.steps.check import count_quirks, quirk_description

    console = make_console()
    refused = [(run.obs_id, run.reason) for run in runs if run.reason]
    print_table(console, "Runs", ("run", "object", "events", "livetime / s", "quirks", "repairs"), _rows(runs))
    quirks = [(name, count, quirk_description(name)) for name, count in count_quirks(runs).items()]
    print_table(console, "Quirks", ("quirk", "runs", "what files do, and how it is read"), quirks)
    print_table(console, "Refused", ("run", "why"), refused)
    print_table(console, "Files that belong to no run", ("why",), [(problem,) for problem in problems])
    console.print(f"{len(runs)} runs, {len(refused)} refused, {len(problems)} files that belong to no run")


def _rows(runs: Sequence[CheckedRun]) -> list[tuple[object, ...]]:
    """Runs that are not refused."""
    return [
        (
            run.obs_id,
            run.object_name,
            run.n_events,
            f"{run.livetime_s:.1f}",
            len(run.quirks),
            " ".join(f"{name}={count}" for name, count in run.repairs.items()),
        )
        for run in runs
        if not run.reason
    ]
