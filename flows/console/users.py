"""Sub-commands `users ...`: who may come in, with which roles, tokens and codes.

Once a home has users, every command here needs one of them: an API token (BRICKYARD_TOKEN) or a
name and password. The first user is added by whoever has the home folder.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console.terminal import console, fail, fail_on_errors

if TYPE_CHECKING:
    from tasks.users import User, UserStore

TERMINAL = "terminal"  # where a login comes from, for the rate limit

Name = Annotated[str, typer.Option("--user", "-u", help="Who you are; a password is asked for.")]
Token = Annotated[
    str, typer.Option("--token", envvar="BRICKYARD_TOKEN", help="API token instead of a password.")
]
Roles = Annotated[
    list[str], typer.Option("--role", help="viewer, annotator, approver or admin; repeatable.")
]
Whose = Annotated[str, typer.Argument(help="Name of the user.")]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    group = typer.Typer(no_args_is_help=True, help="Users, their roles, API tokens and codes.")
    for command in (add, role, password, lock, unlock, token, revoke, code):
        group.command()(command)
    group.command("list")(list_users)
    app.add_typer(group, name="users")


def identify(name: str, api_token: str) -> "tuple[User, str]":
    """Return who sits at the terminal and how that was proved; a home without users asks nothing.

    A name is a wish to log in with a password, so it goes before a token of the environment.
    """
    from tasks.users import LOCAL, LoginRefused

    users = _open()
    if users.single_user:
        return LOCAL, "single-user"
    if api_token and not name:
        user = users.user_of_token(api_token)
        if user is None:
            raise LoginRefused("the API token is unknown, revoked or expired")
        return user, "token"
    if not name and not sys.stdin.isatty():
        raise LoginRefused("this home has users: set BRICKYARD_TOKEN, or name yourself with --user")
    name = name or typer.prompt("your name")
    secret = typer.prompt(f"password of {name}", hide_input=True)
    return users.authenticate(name, secret, TERMINAL), "password"


@fail_on_errors
def add(
    name: Whose,
    roles: Roles,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="For scripts and users of a proxy.")
    ] = False,
    user: Name = "",
    api_token: Token = "",
) -> None:
    """Add a user. The first one must be an admin and ends the single-user mode of this home."""
    _as_admin(user, api_token)
    secret = "" if no_password else _new_password(name)
    made = _open().add(name, secret, roles)
    console.print(f"{made.name} added: {', '.join(sorted(made.roles))}")


@fail_on_errors
def list_users() -> None:
    """List the users that may come in."""
    users = _open()
    if users.single_user:
        console.print("no users: single-user mode, whoever is at this machine may do everything")
        return
    table = Table("name", "roles", "API tokens")
    for item in users.list():
        tokens = [row.name for row in users.tokens(item.name) if row.revoked_at is None]
        table.add_row(item.name, ", ".join(sorted(item.roles)), ", ".join(tokens))
    console.print(table)


@fail_on_errors
def role(name: Whose, roles: Roles, user: Name = "", api_token: Token = "") -> None:
    """Replace the roles of a user."""
    _as_admin(user, api_token)
    changed = _open().set_roles(name, roles)
    console.print(f"{changed.name}: {', '.join(sorted(changed.roles))}")


@fail_on_errors
def password(name: Whose, user: Name = "", api_token: Token = "") -> None:
    """Replace a password: one's own, or as an admin anybody's. Their sessions end."""
    who, _ = identify(user, api_token)
    if who.name.lower() != name.lower():
        who.must("administer")
    _open().set_password(name, _new_password(name))
    console.print(f"the password of {name} is replaced")


@fail_on_errors
def lock(name: Whose, user: Name = "", api_token: Token = "") -> None:
    """Lock a user out: sessions end, tokens and codes no longer count. What they did stays."""
    _as_admin(user, api_token)
    _open().set_enabled(name, False)
    console.print(f"{name} is locked out")


@fail_on_errors
def unlock(name: Whose, user: Name = "", api_token: Token = "") -> None:
    """Let a user in again."""
    _as_admin(user, api_token)
    _open().set_enabled(name, True)
    console.print(f"{name} may come in again")


@fail_on_errors
def token(
    purpose: Annotated[str, typer.Argument(help="What it is for, such as nightly.")],
    days: Annotated[float, typer.Option(help="How long it is good for.")] = 90.0,
    user: Name = "",
    api_token: Token = "",
) -> None:
    """Make an API token of your own, for scripts. It is shown once."""
    who, proof = identify(user, api_token)
    if proof == "single-user":
        fail("a home without users needs no tokens: scripts on this machine may do everything")
    console.print(_open().issue_token(who, purpose, days), highlight=False, soft_wrap=True)


@fail_on_errors
def revoke(
    name: Whose,
    purpose: Annotated[str, typer.Argument(help="Name of the token.")],
    user: Name = "",
    api_token: Token = "",
) -> None:
    """Revoke API tokens: your own, or as an admin anybody's."""
    who, _ = identify(user, api_token)
    if who.name.lower() != name.lower():
        who.must("administer")
    console.print(f"{_open().revoke_token(name, purpose)} tokens of {name} revoked")


@fail_on_errors
def code(
    run: Annotated[str, typer.Argument(help="Flow run id that waits, or its beginning.")] = "",
    user: Name = "",
    api_token: Token = "",
) -> None:
    """Get a one-time code with which you decide in Prefect's own form. It lasts minutes."""
    from tasks.promotion import waiting_promotions

    who, proof = identify(user, api_token)
    if proof == "single-user":
        fail("a home without users needs no codes: leave the field empty")
    who.must("decide")
    found = [item for item in waiting_promotions() if item.flow_run_id.startswith(run)]
    if len(found) != 1:
        fail(f"{len(found)} waiting promotions match {run!r}; see `brickyard waiting`")
    console.print(_open().issue_code(who, found[0].evidence_digest), highlight=False)


def _open() -> "UserStore":
    from tasks.settings import load_settings
    from tasks.users import open_users

    return open_users(load_settings())


def _as_admin(name: str, api_token: str) -> None:
    identify(name, api_token)[0].must("administer")


def _new_password(name: str) -> str:
    prompt = f"new password of {name}"
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=True))
