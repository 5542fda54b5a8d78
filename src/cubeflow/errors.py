"""What users are told: the kinds of error that end in one line, and numbers of things. Other errors are bugs."""

from collections.abc import Callable

Say = Callable[[str], None]  # takes a line for people


def counted(number: int, noun: str) -> str:
    """Number and noun, which is plural unless there is one: ``1 run``, ``2 batches``."""
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("ch") else "s")


class MistakeError(ValueError):
    """The configuration, or a file that it names, is wrong: exit status 2. The message names the key."""

    status = 2


class FailedError(RuntimeError):
    """The work could not be done, by a damaged file, a full disk, too little memory: exit status 1."""

    status = 1


class RunsLeftOut(FailedError):
    """Runs cannot be used, and the configuration says that this is a failure: exit status 3."""

    status = 3
