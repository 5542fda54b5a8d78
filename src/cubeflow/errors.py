"""The two kinds of error that end in one line for the user; anything else is a bug and keeps its traceback."""


class MistakeError(ValueError):
    """The configuration, or a file that it names, is wrong: exit status 2. The message names the key."""


class FailedError(RuntimeError):
    """The work could not be done, by a damaged file, a full disk, too little memory: exit status 1."""
