"""The SQLite file of users: rows of users, sessions, API tokens, one-time codes and failed logins.

Only hashes of secrets are kept, so that a copy of the file lets nobody in. What a password, a role
or a rate limit *means* is decided in `tasks.users`; here are rows and the transactions that keep
them true when several processes (the desk, a flow, the command line) write at a time.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from storage.write_ahead import use_write_ahead_log

BUSY_SECONDS = 30.0  # how long a writer waits for another one

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY COLLATE NOCASE CHECK (name <> ''),  -- Vera and vera are one person
    password TEXT NOT NULL,       -- argon2; empty: no login by password
    roles TEXT NOT NULL,          -- separated by commas, sorted
    created_at REAL NOT NULL,     -- this and all times: seconds since 1970, UTC
    disabled_at REAL              -- users are never deleted: decisions speak of them
);
CREATE TABLE IF NOT EXISTS sessions (
    digest TEXT PRIMARY KEY, user TEXT NOT NULL COLLATE NOCASE,  -- of single-user mode: no row
    csrf TEXT NOT NULL, expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS tokens (
    digest TEXT PRIMARY KEY, user TEXT NOT NULL COLLATE NOCASE REFERENCES users (name),
    name TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL, revoked_at REAL
);
CREATE TABLE IF NOT EXISTS codes (
    digest TEXT PRIMARY KEY, user TEXT NOT NULL COLLATE NOCASE REFERENCES users (name),
    packet TEXT NOT NULL, expires_at REAL NOT NULL, redeemed_at REAL, purpose TEXT
);
CREATE TABLE IF NOT EXISTS failures (
    who TEXT PRIMARY KEY,         -- "name:vera" or "address:192.0.2.1"
    number INTEGER NOT NULL, last_at REAL NOT NULL
);
"""


@dataclass(frozen=True)
class UserRow:
    """A user as kept; `password` is an argon2 hash or empty."""

    name: str
    password: str
    roles: str
    created_at: float
    disabled_at: float | None = None


@dataclass(frozen=True)
class SessionRow:
    """A session as kept, under the digest of its token."""

    digest: str
    user: str
    csrf: str
    expires_at: float


@dataclass(frozen=True)
class TokenRow:
    """An API token as kept, under its digest; `name` says what it is for."""

    digest: str
    user: str
    name: str
    created_at: float
    expires_at: float
    revoked_at: float | None = None


@dataclass(frozen=True)
class CodeRow:
    """A one-time code as kept; `purpose` is what it was redeemed for."""

    digest: str
    user: str
    packet: str
    expires_at: float
    redeemed_at: float | None = None
    purpose: str | None = None


class UserTables:
    """Rows of the file at `path`, which is made where absent; every method is one transaction."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as database:
            use_write_ahead_log(database, BUSY_SECONDS)
            database.executescript(SCHEMA)
        self.path.chmod(0o600)  # hashes are nobody else's business

    def insert_user(self, row: UserRow) -> bool:
        """Add a user; False when there is one of that name."""
        with self._connect() as database:
            return _insert(database, "users", astuple(row))

    def set_user(self, name: str, *, password: str | None = None, roles: str | None = None) -> bool:
        """Replace the password hash or the roles of a user; False when there is none."""
        changes = {"password": password, "roles": roles}
        chosen = {key: value for key, value in changes.items() if value is not None}
        assignments = ", ".join(f"{key} = :{key}" for key in chosen)
        with self._connect() as database:
            query = f"UPDATE users SET {assignments} WHERE name = :name"
            return database.execute(query, {**chosen, "name": name}).rowcount == 1

    def set_disabled(self, name: str, at: float | None) -> bool:
        """Lock a user out since a time, or let them in again; False when there is none."""
        with self._connect() as database:
            query = "UPDATE users SET disabled_at = ? WHERE name = ?"
            return database.execute(query, (at, name)).rowcount == 1

    def find_user(self, name: str) -> UserRow | None:
        """Return the user of that name, in whatever case it is written."""
        with self._connect() as database:
            query = "SELECT name, password, roles, created_at, disabled_at FROM users"
            row = database.execute(f"{query} WHERE name = ?", (name,)).fetchone()
            return UserRow(*row) if row else None

    def users(self) -> list[UserRow]:
        """Return all users by name."""
        with self._connect() as database:
            query = "SELECT name, password, roles, created_at, disabled_at FROM users ORDER BY name"
            return [UserRow(*row) for row in database.execute(query)]

    def insert_session(self, row: SessionRow, now: float) -> None:
        """Add a session and forget those that have expired."""
        with self._connect() as database:
            database.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,))
            _insert(database, "sessions", astuple(row))

    def find_session(self, digest: str) -> SessionRow | None:
        """Return the session kept under a digest."""
        with self._connect() as database:
            query = "SELECT digest, user, csrf, expires_at FROM sessions WHERE digest = ?"
            row = database.execute(query, (digest,)).fetchone()
            return SessionRow(*row) if row else None

    def delete_session(self, digest: str) -> None:
        """End one session."""
        with self._connect() as database:
            database.execute("DELETE FROM sessions WHERE digest = ?", (digest,))

    def delete_sessions_of(self, user: str) -> None:
        """End all sessions of a user."""
        with self._connect() as database:
            database.execute("DELETE FROM sessions WHERE user = ?", (user,))

    def insert_token(self, row: TokenRow) -> None:
        """Add an API token."""
        with self._connect() as database:
            _insert(database, "tokens", astuple(row))

    def tokens(self, *, digest: str | None = None, user: str | None = None) -> list[TokenRow]:
        """Return the API tokens of a digest or of a user, oldest first; all without either."""
        wanted = {"digest": digest, "user": user}
        chosen = {key: value for key, value in wanted.items() if value is not None}
        where = " AND ".join(f"{key} = :{key}" for key in chosen) or "1"
        with self._connect() as database:
            query = "SELECT digest, user, name, created_at, expires_at, revoked_at FROM tokens"
            rows = database.execute(f"{query} WHERE {where} ORDER BY created_at", chosen)
            return [TokenRow(*row) for row in rows]

    def revoke_tokens(self, user: str, name: str, at: float) -> int:
        """Revoke the tokens of a user that carry a name; return how many."""
        with self._connect() as database:
            query = "UPDATE tokens SET revoked_at = ? WHERE user = ? AND name = ?"
            return database.execute(f"{query} AND revoked_at IS NULL", (at, user, name)).rowcount

    def insert_code(self, row: CodeRow) -> None:
        """Add a one-time code."""
        with self._connect() as database:
            _insert(database, "codes", astuple(row))

    def find_code(self, digest: str) -> CodeRow | None:
        """Return the code kept under a digest."""
        with self._connect() as database:
            query = "SELECT digest, user, packet, expires_at, redeemed_at, purpose FROM codes"
            row = database.execute(f"{query} WHERE digest = ?", (digest,)).fetchone()
            return CodeRow(*row) if row else None

    def redeem_code(self, digest: str, purpose: str, at: float) -> bool:
        """Mark a code as used; False when it was used before, by whomever."""
        with self._connect() as database:
            query = "UPDATE codes SET redeemed_at = ?, purpose = ? WHERE digest = ?"
            marked = database.execute(f"{query} AND redeemed_at IS NULL", (at, purpose, digest))
            return marked.rowcount == 1

    def failures(self, who: str) -> tuple[int, float]:
        """Return how many logins failed in a row, and when the last one did."""
        with self._connect() as database:
            return _failures(database, who)

    def count_failure(self, who: str, number: int, at: float, forget_before: float) -> bool:
        """Raise the count of failures from `number` by one, and forget old ones.

        Returns
        -------
        bool
            False when another login raised it meanwhile: look at the count again.
        """
        with self._connect() as database:
            database.execute("DELETE FROM failures WHERE last_at < ?", (forget_before,))
            if _failures(database, who)[0] != number:
                return False
            database.execute(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (who, number + 1, at)
            )
            return True

    def lower_failures(self, who: str, by: int | None = None) -> None:
        """Take back failures, all of them without a number."""
        with self._connect() as database:
            if by is None:
                database.execute("DELETE FROM failures WHERE who = ?", (who,))
            else:
                query = "UPDATE failures SET number = max(0, number - ?) WHERE who = ?"
                database.execute(query, (by, who))

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
        try:
            database.execute("PRAGMA foreign_keys = ON")
            with database:  # commits, or rolls back when the block raises
                yield database
        finally:
            database.close()


def _insert(database: sqlite3.Connection, table: str, values: tuple[object, ...]) -> bool:
    """Insert a row; False when its key is taken."""
    marks = ", ".join("?" * len(values))
    query = f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT DO NOTHING"
    return database.execute(query, values).rowcount == 1


def _failures(database: sqlite3.Connection, who: str) -> tuple[int, float]:
    query = "SELECT number, last_at FROM failures WHERE who = ?"
    number, last_at = database.execute(query, (who,)).fetchone() or (0, 0.0)
    return int(number), float(last_at)
