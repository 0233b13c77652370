"""What can go wrong with a transfer, as part of the tree of `storage.errors`.

::

    StorageError
    ├── FetchFailed   (ConnectionError)  a server did not give a file, though asked again and again
    ├── FetchRefused  (PermissionError)  a server will not give a file; asking again does not help
    └── StagingFull   (OSError)          no room for a file; what has arrived is kept

A file that does not exist is no error of a transfer: it is absent.
"""

from storage.errors import StorageError


class FetchFailed(StorageError, ConnectionError):
    """A server did not give a file after all tries."""


class FetchRefused(StorageError, PermissionError):
    """A server will not give a file."""


class StagingFull(StorageError, OSError):
    """The disk of the staging folder has no room; what has arrived is kept for the next run."""


class TransientFault(Exception):
    """A fault of a moment: a server's 5xx, a time-out, a cut. Never leaves `storage.fetch`."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ContentChanged(TransientFault):
    """The file is not the one that the transfer began with; it has to begin again."""
