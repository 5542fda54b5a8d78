"""The group of all verbs: what they share, how they speak and how they end, and the page of ``cubeflow --help``."""

import atexit
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import cleandoc
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType

import click

from cubeflow.errors import FailedError, MistakeError

STOPS = (signal.SIGINT, signal.SIGTERM)
QUIET = "cubeflow.quiet"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
CONFIG = Path("config/config.yaml")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def takes_configuration(verb: Callable[..., None], or_folder: bool = False) -> Callable[..., None]:
    """Give a verb its `config`: of files, as arguments or with ``-c`` as Snakemake has them, or the usual one.

    With `or_folder` it may be a single folder, which is given as it is.
    """
    text = f"Configuration, as CONFIG; later ones override earlier ones.  [default: {CONFIG}]"

    @click.argument("config", nargs=-1, type=click.Path(path_type=Path))
    @click.option("--configfile", "-c", "configfiles", type=NEW_FILE, multiple=True, help=text)
    @wraps(verb)
    def started(config: tuple[Path, ...], configfiles: tuple[Path, ...], **others: object) -> None:
        from cubeflow.config import load_config

        files = (*config, *configfiles) or (CONFIG,)
        is_folder = or_folder and len(files) == 1 and files[0].is_dir()
        verb(config=files[0] if is_folder else load_config(files), **others)

    return started


def say(line: str) -> None:
    """Print one line to standard error at once, for logs are read while jobs run; nothing with ``--quiet``."""
    ctx = click.get_current_context(silent=True)
    if ctx is None or not ctx.meta.get(QUIET):
        click.echo(line, err=True)


def print_json(content: object) -> None:
    """Print plain content as JSON to standard output."""
    click.echo(json.dumps(content, indent=1, sort_keys=True))


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGINT and SIGTERM unwind the work, so that temporary files go; the exit status is 130 or 143."""
    if current_thread() is not main_thread():  # only there can signals be handled
        yield
        return
    before = {number: signal.signal(number, _stop) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    """End once: what comes after the first signal does not disturb the clearing up."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    with suppress(OSError):  # nobody listens; and a buffer that is being written takes no second text
        os.write(2, f"cubeflow: stopped by {signal.Signals(number).name}\n".encode())
    sys.exit(128 + number)


class Verbs(click.Group):
    """The verbs; a user's mistake ends in one line and an exit status, a bug keeps its traceback."""

    sections: dict[str, list[str]]

    def add_section(self, title: str, *verbs: click.Command) -> None:
        """Add verbs below a title of the help page; each gets the option ``--quiet``."""
        self.sections = {**getattr(self, "sections", {}), title: [str(verb.name) for verb in verbs]}
        for verb in verbs:
            text = "Say nothing but what was asked for, and what went wrong."
            quiet = click.Option(("--quiet", "-q"), is_flag=True, expose_value=False, callback=_be_quiet, help=text)
            verb.params.append(quiet)
            verb.help = cleandoc(verb.help or "").replace("\nExample:", "\n\b\nExample:")  # its lines stay as they are
            self.add_command(verb)

    def invoke(self, ctx: click.Context) -> object:
        """Run a verb."""
        try:
            with ending_in_order():
                done = super().invoke(ctx)
            atexit.register(gc.freeze)  # to look through all that was imported once more, at the end, takes 0.15 s
            return done
        except MistakeError as error:
            click.echo(str(error), err=True)
            sys.exit(error.status)
        except BrokenPipeError:  # who reads has enough, as `head` has: click ends without a word
            raise
        except MemoryError:
            from cubeflow.pipeline.memory import memory_message

            click.echo(f"cubeflow: {memory_message()}", err=True)
            sys.exit(FailedError.status)
        except (FailedError, OSError) as error:  # neither a mistake of the user nor a bug
            click.echo(f"cubeflow: {error}", err=True)
            sys.exit(getattr(error, "status", FailedError.status))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs of each section, in the order they were added."""
        width = max(len(name) for names in self.sections.values() for name in names)
        for title, names in self.sections.items():
            found = [(f"{name:{width}}", self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, verb.get_short_help_str(76 - width)) for name, verb in found if verb])


def _be_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value


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
    # Settings of astropy in a home decide nothing here, and the home may be of another user, as in a container.
    os.environ.setdefault("ASTROPY_CONFIG_DIR", str(Path(__file__).parent))
    # Imports and plans make many objects and hardly any circles of them: looking for these took a twentieth of the CPU.
    gc.set_threshold(100_000)
