"""Verbs that look at results: what a file holds, and how two results differ."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cubeflow.cli.shared import DIFFERENT, JSON, print_json

PATH = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dense", is_flag=True, help="Make the maps of a factored artifact again, and show these.")
@JSON
def inspect(file: Path, dense: bool, as_json: bool) -> None:
    """Show what FILE holds: an artifact, a FITS file or a run table.

    Of an artifact: kind, key, and of each map geometry, axes, unit, totals and size; its results, and what it was
    made of. With `artifacts.form: factored` the files of a run hold what its maps are made from; --dense shows those.

    Example: cubeflow inspect results/crab/fov/cube.h5
             cubeflow inspect --dense results/crab/obs/23523/reduced.h5
             cubeflow inspect --json results/crab/runs.ecsv
    """
    from cubeflow.cli.show import show_file
    from cubeflow.steps.inspect import describe_file

    about = describe_file(file, dense)
    if as_json:
        print_json(about)
    else:
        show_file(about)


@click.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--rtol", default=0.0, show_default=True, help="Values this close, relative to the larger, are equal.")
@JSON
def diff(first: Path, second: Path, rtol: float, as_json: bool) -> None:
    """Compare two artifacts or two folders of results, bin by bin and key by key.

    Says how far the values differ and where, and what of configuration, inputs and versions differs, which is why.
    Exit status: 0 if they are the same, 1 if they differ.

    Example: cubeflow diff old/results results
             cubeflow diff --rtol 1e-6 results/crab/fov/cube.h5 results/crab/ring/cube.h5
    """
    from cubeflow.cli.show import show_difference
    from cubeflow.steps.diff import compare

    found = compare(first, second, rtol)
    if as_json:
        print_json(found)
    else:
        show_difference(found, (str(first), str(second)))
    sys.exit(0 if found["same"] else DIFFERENT)
