"""The kinds of error that end in one line for the user; anything else is a bug and keeps its traceback."""


class MistakeError(ValueError):
    """The configuration, or a file that it names, is wrong: exit status 2. The message names the key."""

    status = 2


class FailedError(RuntimeError):
    """The work could not be done, by a damaged file, a full disk, too little memory: exit status 1."""

    status = 1


class RunsLeftOut(FailedError):
    """Runs cannot be used, and the configuration says that this is a failure: exit status 3."""

    status = 3
