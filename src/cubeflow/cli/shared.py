"""What the verbs share: exit statuses, options, and how they speak."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FAILED, CONFIGURATION, REFUSED = 1, 2, 3
DIFFERENT = 1
QUIET = "cubeflow.quiet"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CONFIGFILE = click.option(
    "--configfile",
    "-c",
    "configfiles",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    default=(Path("config/config.yaml"),),
    show_default=True,
    help="Configuration; given more than once, later ones override earlier ones.",
)
COMPRESSION = click.option(
    "--compression",
    type=click.Choice(["blosc", "gzip", "none"]),
    default="blosc",
    show_default=True,
    help="Compression of the file that is written.",
)

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


NameCheck = Callable[[click.Context, click.Parameter, Path], Path]


def be_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Remember ``--quiet``."""
    ctx.meta[QUIET] = value


def say(line: str) -> None:
    """Print one line to standard error at once, for logs are read while jobs run; nothing with ``--quiet``."""
    ctx: Any = click.get_current_context(silent=True)
    if ctx is None or not ctx.meta.get(QUIET):
        click.echo(line, err=True)


def require_name(example: str, folder: str = "results/<target>/plan") -> NameCheck:
    """Callback that refuses a file which is not named like the manifests in the example."""
    pattern = re.escape(example).replace("0123456789abcdef", "[0-9a-f]{16}").replace("<label>", "[^/]+")
    pattern = pattern.replace("01234567", "[0-9a-f]{8}")

    def check(_: click.Context, __: click.Parameter, path: Path) -> Path:
        """Give the path back, or refuse it."""
        if not re.fullmatch(pattern, path.name):
            name = f"{folder}/{example}"
            raise click.BadParameter(
                f"expected a manifest named like {name}, as `cubeflow plan` writes them, got {path}"
            )
        return path

    return check


def print_json(content: object) -> None:
    """Print plain content as JSON to standard output."""
    click.echo(json.dumps(content, indent=1, sort_keys=True))
