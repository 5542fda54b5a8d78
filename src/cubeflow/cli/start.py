"""Verbs to start with: a first configuration, and the schema of all configurations."""

from __future__ import annotations

from pathlib import Path

import click

from cubeflow.cli.group import NEW_FILE, print_json, say

TARGET = """Position ('83.633 22.014', '05h34m32s +22d00m52s', 'galactic 184.56 -5.78') or name: an object of the store,
or Crab, PKS 2155-304, RX J1713.7-3946, Mrk 421, ... Without it the objects of the store are listed."""
EXCLUSION = "Exclude the target and known sources from the background."


@click.command()
@click.argument("store")
@click.option("--target", "-t", help=TARGET)
@click.option("--output", "-o", type=NEW_FILE, help="File to write.  [default: config/<target>.yaml]")
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
@click.option("--exclusion/--no-exclusion", default=True, show_default=True, help=EXCLUSION)
def init(store: str, target: str | None, output: Path | None, force: bool, exclusion: bool) -> None:
    """Look at STORE, a folder of DL3 files, and write a commented configuration that runs as it is.

    Reads the index and a few runs: which see the target, from what energy on, to what offset, and how their files
    deviate from the format.

    Example: cubeflow init ../shared/data/hess-dl3-dr1 --target "PKS 2155-304"
             cubeflow init my-store -t "83.633 22.014" -o config/crab.yaml
    """
    from cubeflow.tools.init import init_config

    init_config(store, target, output, force, exclusion, say)


@click.command()
def schema() -> None:
    """Print the JSON schema of the configuration, for editors that complete and check while you type.

    Example: cubeflow schema > config/schema.json
    """
    from cubeflow.config.schema import json_schema

    print_json(json_schema())
