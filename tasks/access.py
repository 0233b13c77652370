"""How a web request becomes a user: session, API token, trusted proxy, or the only one there is."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.addresses import is_among, is_loopback
from tasks.policies import AccessPolicy
from tasks.roles import NotAllowed
from tasks.users import LOCAL, Session, User, UserStore

BEARER = "bearer "


@dataclass(frozen=True)
class Visitor:
    """Who asks, how that was proved, and the session where there is one.

    `proof` is "session", "token", "proxy" or "single-user". Pages open a session for the last two
    as well, for the secret that forms must bring back; scripts with a token need none.
    """

    user: User
    proof: str
    session: Session | None = None


def check_address(users: UserStore, host: str) -> None:
    """Refuse to serve a home in single-user mode to other machines.

    Raises
    ------
    NotAllowed
        If there are no users yet and `host` is not an address of this machine alone.
    """
    if users.single_user and not is_loopback(host):
        raise NotAllowed(
            f"this home has no users, so whoever reaches {host} could decide: serve it on "
            "127.0.0.1, or add users first with `brickyard users add NAME --role admin`"
        )


def find_visitor(
    users: UserStore,
    policy: AccessPolicy,
    *,
    headers: Mapping[str, str],
    address: str,
    session_token: str = "",
) -> Visitor | None:
    """Return who sent a request, or None when nobody is proved.

    Parameters
    ----------
    headers : mapping
        Of the request; names in lower case.
    address : str
        The machine that the connection comes from, never one that a header names.
    session_token : str
        Of the cookie.
    """
    session = users.session(session_token) if session_token else None
    if users.single_user:
        return Visitor(LOCAL, "single-user", session) if is_loopback(address) else None
    if session is not None:
        return Visitor(session.user, "session", session)
    given = headers.get("authorization", "")
    if given.lower().startswith(BEARER):
        user = users.user_of_token(given[len(BEARER) :].strip())
        return Visitor(user, "token") if user else None
    return _of_proxy(users, policy, headers, address)


def _of_proxy(
    users: UserStore, policy: AccessPolicy, headers: Mapping[str, str], address: str
) -> Visitor | None:
    """Believe the header of a reverse proxy, but only from its own address."""
    name = headers.get(policy.proxy_header.lower(), "") if policy.proxy_header else ""
    if not name or not is_among(address, policy.proxy_addresses):
        return None
    user = users.find(name)
    return Visitor(user, "proxy") if user else None
