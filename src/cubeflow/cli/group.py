"""The group of all verbs: how mistakes end, what every verb has, and the page of ``cubeflow --help``."""

from __future__ import annotations

import gc
import os
import sys
from inspect import cleandoc

import click

from cubeflow.cli.ending import ending_in_order
from cubeflow.cli.shared import CONFIGURATION, FAILED, be_quiet
from cubeflow.errors import FailedError, MistakeError


class Verbs(click.Group):
    """The verbs; a user's mistake ends in one line and an exit status, a bug keeps its traceback."""

    sections: dict[str, list[str]]

    def add_section(self, title: str, *verbs: click.Command) -> None:
        """Add verbs below a title of the help page; each gets the option ``--quiet``."""
        self.sections = {**getattr(self, "sections", {}), title: [str(verb.name) for verb in verbs]}
        for verb in verbs:
            verb.params.append(quiet_option())
            verb.help = cleandoc(verb.help or "").replace("\nExample:", "\n\b\nExample:")  # its lines stay as they are
            self.add_command(verb)

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb."""
        try:
            with ending_in_order():
                return super().invoke(ctx)
        except MistakeError as error:
            click.echo(str(error), err=True)
            sys.exit(CONFIGURATION)
        except BrokenPipeError:  # who reads has enough, as `head` has: click ends without a word
            raise
        except failures() as error:
            click.echo(f"cubeflow: {error}", err=True)
            sys.exit(FAILED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs of each section, in the order they were added."""
        width = max(len(name) for names in self.sections.values() for name in names)
        for title, names in self.sections.items():
            found = [(f"{name:{width}}", self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, verb.get_short_help_str(76 - width)) for name, verb in found if verb])


def failures() -> tuple[type[Exception], ...]:
    """What is no mistake of the user and no bug; imported when something was raised."""
    from cubeflow.storage.atomic import StorageError
    from cubeflow.storage.envelope import ArtifactDamaged, ArtifactMismatch

    return FailedError, OSError, MemoryError, StorageError, ArtifactDamaged, ArtifactMismatch


def quiet_option() -> click.Option:
    """Option that silences what a verb says while it works."""
    text = "Say nothing but what was asked for, and what went wrong."
    return click.Option(("--quiet", "-q"), is_flag=True, expose_value=False, callback=be_quiet, help=text)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Shell completion, for bash: eval "$(_CUBEFLOW_COMPLETE=bash_source cubeflow)"; so for zsh and fish.',
)
@click.version_option(package_name="cubeflow")
def main() -> None:
    """From IACT event lists and instrument responses (DL3) to maps and cubes.

    Usually run through Snakemake; every step is also a command.
    """
    # One job, one core: the matrices are so small that more threads would only wait for each other, which
    # costs half as much CPU time again. Read by numpy when a verb imports it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports and plans make many objects and hardly any circles of them: looking for these took a twentieth of the CPU.
    gc.set_threshold(100_000)
