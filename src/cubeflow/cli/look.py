"""Verbs that look: what is wrong with a store, what a file holds, how two results differ."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from cubeflow.cli.group import FILE, JSON, print_json
from cubeflow.errors import FailedError, RunsLeftOut

PATH = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("source", metavar="STORE_OR_CONFIG")
@click.option("--obs-id", "-i", "obs_ids", type=int, multiple=True, help="Only this run; may be repeated.")
@click.option("--root", "roots", multiple=True, help="Folder outside the store with files of it; may be repeated.")
@JSON
def check(source: str, obs_ids: tuple[int, ...], roots: tuple[str, ...], as_json: bool) -> None:
    """Read the runs of a store, and say what is wrong with them.

    All of them, or those that a configuration selects: what deviates, what was repaired and what is refused, and why.
    Files that nobody reads are listed, too. Exit status 3 if any run is refused, or a file that may hold one.

    Example: cubeflow check ../shared/data/hess-dl3-dr1
             cubeflow check config/hess-crab.yaml
    """
    from cubeflow.cli.show import show_check
    from cubeflow.tools.check import check_runs, open_source

    store, options, chosen = open_source(source, roots)
    runs = list(check_runs(store, options, set(obs_ids) or chosen))
    if as_json:
        files = {"problems": store.problems, "left_out": store.left_out}
        print_json({"store": store.path, **files, "runs": [asdict(run) for run in runs]})
    else:
        show_check(runs, store.left_out, [line for line in store.problems if line not in store.left_out])
    sys.exit(RunsLeftOut.status if store.left_out or any(run.reason for run in runs) else 0)


@click.command()
@click.argument("file", type=FILE)
@JSON
def inspect(file: Path, as_json: bool) -> None:
    """Show what FILE holds: an artifact, a FITS file or a run table.

    Of an artifact: kind, key, and of each map geometry, axes, unit and totals; its results, and what it was made of.

    Example: cubeflow inspect results/crab/fov/cube.h5
             cubeflow inspect --json results/crab/runs.ecsv
    """
    from cubeflow.cli.show import show_file
    from cubeflow.tools.inspect import describe_file

    show = print_json if as_json else show_file
    show(describe_file(file))


@click.command()
@click.argument("folder", metavar="TARGET_FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--license", "terms", help="Address of the licence, or of the terms of use, of the products.")
def crate(folder: Path, terms: str | None) -> None:
    """Describe the results of a target for an archive.

    Writes ro-crate-metadata.json (RO-Crate) beside them, with products, certificates, options, programs and inputs,
    these by digest. All that is there is verified before.

    Example: cubeflow crate results/crab --license https://creativecommons.org/licenses/by/4.0/
    """
    from cubeflow.tools.crate import write_crate

    click.echo(write_crate(folder, terms))


@click.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--rtol", default=0.0, show_default=True, help="Values this close, relative to the larger, are equal.")
@JSON
def diff(first: Path, second: Path, rtol: float, as_json: bool) -> None:
    """Compare two artifacts or two folders of results.

    Bin by bin and key by key. Of a folder, all artifacts and cubes (HDF5) are compared, and the bytes of FITS files and
    run tables; not stacks, pictures, report and certificates. Says how far the values differ and where, and what of
    configuration, inputs and versions differs, which is why. Exit status: 0 if they are the same, 1 if they differ.

    Example: cubeflow diff old/results results
             cubeflow diff --rtol 1e-6 results/crab/fov/cube.h5 results/crab/ring/cube.h5
    """
    from cubeflow.cli.show import show_difference
    from cubeflow.tools.diff import compare

    found = compare(first, second, rtol)
    if as_json:
        print_json(found)
    else:
        show_difference(found, (str(first), str(second)))
    sys.exit(0 if found["same"] else FailedError.status)
