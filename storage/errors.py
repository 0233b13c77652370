"""What can go wrong with stored or surveyed data, as one tree.

::

    StorageError
    ├── BrickNotFound      (FileNotFoundError)  no file of the brick under the root
    ├── IncompleteBrick                         a brick lacks what was asked of it
    ├── InconsistentBrick                       the files of a brick contradict one another
    ├── SchemaMismatch     (ValueError)         shape, column, band or unit is not the declared one
    ├── CorruptFile        (OSError)            a file cannot be decoded
    │   └── ChecksumMismatch                    a file is not the one its checksum list names
    ├── RepositoryBusy     (RuntimeError)       another process is writing
    ├── RepositoryFull     (OSError)            the disk of the store is full
    └── NothingToDo                             the request selects no work; not a failure

`storage.fetch.errors` adds what can go wrong with a transfer. Every message says what is wrong,
where, and what to do about it.
"""


class StorageError(Exception):
    """Anything that `storage` raises on purpose."""


class BrickNotFound(StorageError, FileNotFoundError):
    """No file of the brick is under the root."""


class IncompleteBrick(StorageError):
    """The brick exists but lacks a band or a file that was asked for."""


class InconsistentBrick(StorageError):
    """The catalogue of a brick was not made from the coadds that are beside it."""


class SchemaMismatch(StorageError, ValueError):
    """Data do not have the declared shape, columns, bands or units."""


class CorruptFile(StorageError, OSError):
    """A file cannot be decoded: truncated, damaged, or not of its kind."""


class ChecksumMismatch(CorruptFile):
    """A file's SHA-256 is not the one in its checksum list."""


class RepositoryBusy(StorageError, RuntimeError):
    """Another process holds the writer's lock of the repository."""


class NothingToDo(StorageError):
    """The request selects no work; a receipt row, not a failure."""


class RepositoryFull(StorageError, OSError):
    """The disk of the store is full; nothing of the transaction is committed."""
