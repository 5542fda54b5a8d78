"""Verbs that the rules of the workflow call, one for each step."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cubeflow.cli.shared import COMPRESSION, FILE, REFUSED, require_name, say

BATCH = "0123456789abcdef-01234567.json"
FINAL = "<label>-0123456789abcdef.final.json"
TABLE = "runs-0123456789abcdef.table.json"
PLAN = "0123456789abcdef.json"


@click.command()
@click.argument("manifest", type=FILE, callback=require_name(BATCH))
@click.option("--accept-refusals", is_flag=True, help="Exit with 0 although runs were refused.")
def reduce(manifest: Path, accept_refusals: bool) -> None:
    """Reduce the runs of a batch: their artifacts and the leaf stacks. Skips what is there.

    Example: cubeflow reduce results/crab/plan/0123456789abcdef-01234567.json
    """
    from cubeflow.steps.batch import open_batch, reduce_batch

    result = reduce_batch(open_batch(manifest, say))
    if result.refused and not accept_refusals:
        sys.exit(REFUSED)


@click.command()
@click.argument("manifest", type=FILE, callback=require_name(BATCH))
@click.option("--label", "-l", "labels", multiple=True, required=True, help="Label of a background; may be repeated.")
@click.option("--accept-refusals", is_flag=True, help="Exit with 0 although runs were refused.")
def background(manifest: Path, labels: tuple[str, ...], accept_refusals: bool) -> None:
    """Make the backgrounds of some labels for the runs of a batch, and no stacks.

    Example: cubeflow background results/crab/plan/0123456789abcdef-01234567.json -l ring
    """
    from cubeflow.steps.batch import open_batch, reduce_batch

    batch = open_batch(manifest, say)
    unknown = sorted(set(labels) - set(batch.manifest["backgrounds"]))
    if unknown:
        known = ", ".join(batch.manifest["backgrounds"])
        raise click.BadParameter(f"expected labels of backgrounds ({known}), got {', '.join(unknown)}")
    result = reduce_batch(batch, labels)
    if result.refused and not accept_refusals:
        sys.exit(REFUSED)


@click.command()
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("children", type=FILE, nargs=-1, required=True)
@COMPRESSION
def stack(output: Path, children: tuple[Path, ...], compression: str) -> None:
    """Stack the CHILDREN, in the order given, into the node OUTPUT.

    Example: cubeflow stack results/crab/stack/fov/NODE.h5 results/crab/stack/fov/LEAF-*.h5
    """
    from cubeflow.steps.tree import stack_node

    stack_node(output, children, compression, say)


@click.command()
@click.argument("final", type=FILE, callback=require_name(FINAL))
def export(final: Path) -> None:
    """Write the final products of a label: cube, FITS for gammapy, significance.

    Example: cubeflow export results/crab/plan/fov-0123456789abcdef.final.json
    """
    from cubeflow.steps.export import export_label

    export_label(final, say)


@click.command()
@click.argument("manifest", type=FILE, callback=require_name(TABLE))
def table(manifest: Path) -> None:
    """Write the run table of a target.

    Example: cubeflow table results/crab/plan/runs-0123456789abcdef.table.json
    """
    from cubeflow.steps.table import write_run_table

    write_run_table(manifest, say)


@click.command()
@click.argument("plan", type=FILE, callback=require_name(PLAN, "results/.cubeflow/plans"))
@click.argument("targets", nargs=-1, required=True)
@click.option("--accept-refusals", is_flag=True, help="Exit with 0 although runs were refused.")
def together(plan: Path, targets: tuple[str, ...], accept_refusals: bool) -> None:
    """Make some small TARGETS of a PLAN in one process, from their runs to their products. Skips what is there.

    Example: cubeflow together results/.cubeflow/plans/0123456789abcdef.json crab vela
    """
    from cubeflow.steps.together import make_together

    if not make_together(plan, targets, say, accept_refusals):
        sys.exit(REFUSED)


@click.command()
@click.argument("results", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path("results"))
@click.option("--manifest", type=FILE, help="Manifest of the report; by default the report is that of the last plan.")
def report(results: Path, manifest: Path | None) -> None:
    """Write RESULTS/report.html, and PNG images and DS9 regions beside the cubes.

    Example: cubeflow report results
    """
    from cubeflow.steps.report import write_report

    write_report(results, manifest, say)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--runs", type=click.IntRange(1, 100_000), default=6, show_default=True, help="Number of runs.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the random numbers.")
@click.option(
    "--duration", type=click.FloatRange(1.0), default=1680.0, show_default=True, help="Duration of a run in s."
)
@click.option("--first", type=click.IntRange(0), default=100001, show_default=True, help="Number of the first run.")
@click.option("--tiny", is_flag=True, help="Small responses, for stores of thousands of runs.")
def simulate(folder: Path, runs: int, seed: int, duration: float, first: int, tiny: bool) -> None:
    """Simulate a small DL3 store with a source like the Crab nebula.

    Example: cubeflow simulate results/demo-dl3 --runs 6
    """
    from cubeflow.dl3.simulate import simulate_store
    from cubeflow.dl3.simulate_plan import SimulationOptions

    options = SimulationOptions(seed=seed, n_runs=runs, duration_s=duration, first_obs_id=first, tiny=tiny)
    files = simulate_store(folder, options)
    say(f"{folder}: {len(files)} files")
