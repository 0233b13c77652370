"""Write-ahead logging of SQLite files: readers and one writer do not wait for each other."""

import sqlite3
import time

_PAUSE = 0.05  # second


def use_write_ahead_log(database: sqlite3.Connection, seconds: float) -> None:
    """Switch a database to write-ahead logging, which it keeps; nothing where it has it.

    SQLite's own timeout does not hold for this statement: where two open a new file at once, one
    of them is refused at once.

    Parameters
    ----------
    database : sqlite3.Connection
    seconds : float
        How long to try again while others use the file.

    Raises
    ------
    sqlite3.OperationalError
        If it is still in use then, or for any other reason at once.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return
