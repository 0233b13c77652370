"""Who somebody is and what they may do: passwords, sessions, API tokens, one-time codes.

One SQLite file in the home folder (`storage.user_store`). A home without users is in *single-user
mode*: the person at the keyboard is `LOCAL`, who may do everything; pages must then be served on
127.0.0.1 only (`tasks.access`). With the first user this mode ends for good.
"""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from storage.user_store import CodeRow, SessionRow, TokenRow, UserRow, UserTables
from tasks import login_limit, roles
from tasks.errors import TaskError
from tasks.settings import Settings

LOCAL, ROLES, User, NotAllowed = roles.LOCAL, roles.ROLES, roles.User, roles.NotAllowed
LoginRefused, TooManyAttempts = login_limit.LoginRefused, login_limit.TooManyAttempts

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
PASSWORD_LENGTH = (10, 1000)  # longer ones cost argon2 time without being safer
TOKEN_BYTES = 32
CODE_BYTES = 10  # 80 bits, 16 letters: guessed by nobody while it is valid
CODE_MINUTES = 15


class CodeRefused(TaskError, PermissionError):
    """A one-time code is forged, replayed, expired or of another packet: `reason` says which."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UserProblem(TaskError, ValueError):
    """A user cannot be added or changed like this."""


@dataclass(frozen=True)
class Session:
    """A login that lasts until `expires`; `csrf` must come back with every form."""

    token: str
    csrf: str
    user: User
    expires: datetime


def open_users(settings: Settings) -> "UserStore":
    """Open the users of a home: `<home>/users.sqlite`, made where absent."""
    return UserStore(UserTables(settings.home.resolve() / "users.sqlite"))


class UserStore:
    """Users, sessions, API tokens and one-time codes of one home.

    Parameters
    ----------
    tables : UserTables
    clock : callable
        Returns seconds since 1970.
    hasher : PasswordHasher, optional
        Argon2id with the parameters of RFC 9106 for little memory (64 MiB).
    """

    def __init__(
        self,
        tables: UserTables,
        clock: Callable[[], float] = time.time,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self._tables, self._clock = tables, clock
        self._hasher = hasher or PasswordHasher()
        self._limit = login_limit.LoginLimit(tables, clock)

    @property
    def single_user(self) -> bool:
        """Return whether there are no users yet, so that whoever is here is `LOCAL`."""
        return not self._tables.users()

    def add(self, name: str, password: str, roles: Iterable[str]) -> User:
        """Add a user; an empty password means: no login by password (a script, a proxy's user).

        Raises
        ------
        UserProblem
            If the name is taken or unusable, the password too short, or a role unknown. The first
            user must be an admin: nobody else could add the next one.
        """
        if not NAME.fullmatch(name) or name.lower() == LOCAL.name:
            raise UserProblem(
                f"{name!r} cannot be a user: letters, digits and . _ @ + -, at most 64, and not "
                f"{LOCAL.name!r}"
            )
        chosen = _checked_roles(roles)
        if self.single_user and "admin" not in chosen:
            raise UserProblem("the first user must have the role admin")
        row = UserRow(name, self._hash(password), ",".join(sorted(chosen)), self._clock())
        if not self._tables.insert_user(row):
            raise UserProblem(f"there is a user {name!r} already")
        return User(name, chosen)

    def list(self, *, locked: bool = False) -> list[User]:
        """Return the users that may come in, or those that are locked out, by name."""
        return [_user(row) for row in self._tables.users() if (row.disabled_at is None) != locked]

    def find(self, name: str) -> User | None:
        """Return the user of that name who may come in; not a proof of who asks."""
        row = self._tables.find_user(name)
        return _user(row) if row is not None and row.disabled_at is None else None

    def set_roles(self, name: str, roles: Iterable[str]) -> User:
        """Replace the roles of a user, from the next request on; the last admin stays one."""
        chosen = _checked_roles(roles)
        self._keep_an_admin(name, "admin" in chosen)
        self._changed(self._tables.set_user(name, roles=",".join(sorted(chosen))), name)
        return User(self._row(name).name, chosen)

    def set_password(self, name: str, password: str) -> None:
        """Replace a password; the sessions of the user end."""
        self._changed(self._tables.set_user(name, password=self._hash(password)), name)
        self._tables.delete_sessions_of(name)

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Lock a user out, or let them in again; sessions end, tokens and codes do not count."""
        self._keep_an_admin(name, enabled)
        at = None if enabled else self._clock()
        self._changed(self._tables.set_disabled(name, at), name)
        self._tables.delete_sessions_of(name)

    def authenticate(self, name: str, password: str, address: str) -> User:
        """Return the user of a name and password.

        Raises
        ------
        LoginRefused
            If there is no such user, the password is wrong or they are locked out.
        TooManyAttempts
            If it has to wait; the password was not looked at.
        """
        self._limit.attempt(name, address)
        row = self._tables.find_user(name)
        known = row is not None and row.disabled_at is None and bool(row.password)
        # An unknown name costs the same time as a known one, so that names cannot be probed.
        kept = row.password if row is not None and known else _nobodys_hash(self._hasher)
        try:
            self._hasher.verify(kept, password[: PASSWORD_LENGTH[1]])
        except (VerificationError, InvalidHashError):
            known = False
        if row is None or not known:
            raise LoginRefused("the name or the password is wrong")
        self._limit.succeeded(name, address)
        if self._hasher.check_needs_rehash(row.password):
            self._tables.set_user(row.name, password=self._hasher.hash(password))
        return _user(row)

    def open_session(self, user: User, minutes: float) -> Session:
        """Open a session of a user; its token is shown once and only its digest is kept."""
        token, csrf = secrets.token_urlsafe(TOKEN_BYTES), secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock()
        row = SessionRow(_digest(token), user.name, csrf, now + 60 * minutes)
        self._tables.insert_session(row, now)
        return Session(token, csrf, user, _moment(row.expires_at))

    def session(self, token: str) -> Session | None:
        """Return the session of a token with the user's roles of now; None when it has ended."""
        row = self._tables.find_session(_digest(token))
        if row is None or row.expires_at <= self._clock():
            return None
        local = row.user == LOCAL.name and self.single_user
        user = LOCAL if local else self.find(row.user)
        if user is None:
            return None
        return Session(token, row.csrf, user, _moment(row.expires_at))

    def close_session(self, token: str) -> None:
        """End a session; one that has ended already is no error."""
        self._tables.delete_session(_digest(token))

    def issue_token(self, user: User, name: str, days: float) -> str:
        """Return a new API token for scripts of a user; it is shown once and never again."""
        token, now = f"bky_{secrets.token_urlsafe(TOKEN_BYTES)}", self._clock()
        row = TokenRow(_digest(token), self._row(user.name).name, name, now, now + 86400 * days)
        self._tables.insert_token(row)
        return token

    def tokens(self, name: str) -> "list[TokenRow]":
        """Return the API tokens of a user, their secrets left out, oldest first."""
        return self._tables.tokens(user=name)

    def revoke_token(self, name: str, token_name: str) -> int:
        """Revoke the API tokens of a user that carry a name; return how many."""
        return self._tables.revoke_tokens(name, token_name, self._clock())

    def user_of_token(self, api_token: str) -> User | None:
        """Return whose API token this is; None when it is unknown, revoked or expired."""
        for row in self._tables.tokens(digest=_digest(api_token)):
            if row.revoked_at is None and row.expires_at > self._clock():
                return self.find(row.user)
        return None

    def issue_code(self, user: User, packet_digest: str, minutes: float = CODE_MINUTES) -> str:
        """Return a one-time code with which a user decides on one packet in Prefect's form."""
        raw = base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode()
        name = self._row(user.name).name
        expires = self._clock() + 60 * minutes
        self._tables.insert_code(CodeRow(_digest(raw), name, packet_digest, expires))
        return "-".join(raw[start : start + 4] for start in range(0, len(raw), 4))

    def redeem_code(
        self, code: str, packet_digest: str, *, purpose: str = "", at: datetime | None = None
    ) -> User:
        """Return whose code this is, and use it up.

        Parameters
        ----------
        purpose : str
            What it is used for; the same use again (a flow body that runs twice) is no replay.
        at : datetime, optional
            When the code was given in, where it is looked at only later; now.

        Raises
        ------
        CodeRefused
            If it is forged, replayed, expired, of another packet or of a user locked out.
        """
        row = self._tables.find_code(_digest(re.sub(r"[\s-]", "", code).upper()))
        if row is None:
            raise CodeRefused("forged", "the code was never issued here: get one from the desk")
        if row.packet != packet_digest:
            raise CodeRefused("other packet", "the code is for another evidence packet than this")
        user = self.find(row.user)
        if user is None:
            raise CodeRefused("locked out", f"{row.user} is locked out")
        if purpose and row.purpose == purpose:
            return user
        given = at.timestamp() if at else self._clock()
        if row.redeemed_at is None and given >= row.expires_at:
            raise CodeRefused("expired", f"the code expired at {_moment(row.expires_at):%H:%M} UTC")
        if not self._tables.redeem_code(row.digest, purpose, self._clock()):
            raise CodeRefused("replayed", f"the code of {row.user} was used before")
        return user

    def _hash(self, password: str) -> str:
        shortest, longest = PASSWORD_LENGTH
        if not password:
            return ""
        if not shortest <= len(password) <= longest:
            raise UserProblem(f"a password has {shortest} to {longest} characters")
        return self._hasher.hash(password)

    def _row(self, name: str) -> UserRow:
        row = self._tables.find_user(name)
        if row is None:
            raise UserProblem(f"there is no user {name!r}; `brickyard users list` names them")
        return row

    def _changed(self, found: bool, name: str) -> None:
        if not found:
            raise UserProblem(f"there is no user {name!r}; `brickyard users list` names them")

    def _keep_an_admin(self, name: str, stays: bool) -> None:
        admins = {user.name.lower() for user in self.list() if "admin" in user.roles}
        if not stays and admins == {name.lower()}:
            raise UserProblem(f"{name} is the only admin: make somebody else one first")


def _user(row: UserRow) -> User:
    return User(row.name, frozenset(filter(None, row.roles.split(","))))


def _checked_roles(roles: Iterable[str]) -> frozenset[str]:
    chosen = frozenset(roles)
    unknown = sorted(chosen - set(ROLES))
    if unknown or not chosen:
        raise UserProblem(f"roles {unknown or '(none)'}: choose of {', '.join(ROLES)}")
    return chosen


def _digest(secret: str) -> str:
    """Return what is kept of a random secret; it has too many bits to be guessed from this."""
    return hashlib.sha256(secret.encode()).hexdigest()


@cache
def _nobodys_hash(hasher: PasswordHasher) -> str:
    return hasher.hash(secrets.token_urlsafe(TOKEN_BYTES))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
