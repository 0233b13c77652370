"""Base of the errors that tasks raise on purpose: the message tells a user what to do.

`storage.errors.StorageError` is its counterpart below; the command line shows both without a
traceback. Anything else is a bug and is shown whole.
"""


class TaskError(Exception):
    """Something a user can put right."""


class BadConfiguration(TaskError, ValueError):
    """A configuration has an unknown key or a value of the wrong kind."""
