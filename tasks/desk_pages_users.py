"""What the pages of users show: people, roles and tokens, and never what a secret is kept as."""

import secrets
from datetime import UTC, datetime

from storage.user_store import TokenRow
from tasks.references import Reference
from tasks.users import User, UserStore

START_BYTES = 12  # 16 letters and digits


class Secret(Reference):
    """Something that is shown once: what it is, whose, and the text itself."""

    title: str
    name: str
    text: str


class TokenView(Reference):
    """An API token without its secret; `state` is "valid", "expired" or "revoked"."""

    name: str
    created: datetime
    expires: datetime
    state: str


class Person(Reference):
    """A user, also one who is locked out."""

    name: str
    roles: tuple[str, ...]
    locked: bool
    tokens: tuple[TokenView, ...]


def people(users: UserStore) -> list[Person]:
    """Return all users, those who are locked out last."""
    return [
        Person(
            name=user.name,
            roles=tuple(sorted(user.roles)),
            locked=locked,
            tokens=tokens_of(users, user),
        )
        for locked in (False, True)
        for user in users.list(locked=locked)
    ]


def tokens_of(users: UserStore, user: User) -> tuple[TokenView, ...]:
    """Return the API tokens of a user, oldest first."""
    return tuple(_view(row) for row in users.tokens(user.name))


def start_password(name: str) -> Secret:
    """Return a password nobody has chosen, to be replaced by whoever gets it."""
    title = f"Start password of {name}"
    return Secret(title=title, name=name, text=secrets.token_urlsafe(START_BYTES))


def _view(row: TokenRow) -> TokenView:
    expires = datetime.fromtimestamp(row.expires_at, UTC)
    state = "expired" if expires <= datetime.now(UTC) else "valid"
    return TokenView(
        name=row.name,
        created=datetime.fromtimestamp(row.created_at, UTC),
        expires=expires,
        state="revoked" if row.revoked_at is not None else state,
    )
