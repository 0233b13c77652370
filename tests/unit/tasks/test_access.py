import pytest
from argon2 import PasswordHasher

from storage.user_store import UserTables
from tasks.access import check_address, find_visitor
from tasks.policies import AccessPolicy
from tasks.users import LOCAL, NotAllowed, UserStore

PASSWORD = "correct horse battery"
PROXY = AccessPolicy(proxy_header="X-Forwarded-User", proxy_addresses=("10.0.0.0/8",))


@pytest.fixture
def empty(tmp_path):
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return UserStore(UserTables(tmp_path / "users.sqlite"), hasher=hasher)


@pytest.fixture
def users(empty):
    empty.add("vera", PASSWORD, ["admin"])
    return empty


def visit(users, address="192.0.2.1", policy=None, **options):
    headers = options.pop("headers", {})
    policy = policy or AccessPolicy()
    return find_visitor(users, policy, headers=headers, address=address, **options)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])
def test_a_home_without_users_is_not_served_to_others(empty, host):
    with pytest.raises(NotAllowed, match="serve it on 127.0.0.1"):
        check_address(empty, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_home_without_users_is_served_here(empty, host):
    check_address(empty, host)
    assert visit(empty, "127.0.0.1").user == LOCAL
    assert visit(empty, "192.0.2.1") is None


def test_a_home_with_users_is_served_anywhere_and_knows_nobody_by_itself(users):
    check_address(users, "0.0.0.0")
    assert visit(users, "127.0.0.1") is None


def test_session_and_token_prove_who_asks(users):
    session = users.open_session(users.find("vera"), 10)
    found = visit(users, session_token=session.token)
    assert (found.user.name, found.proof, found.session) == ("vera", "session", session)
    token = users.issue_token(found.user, "script", 1)
    by_token = visit(users, headers={"authorization": f"Bearer {token}"})
    assert (by_token.user, by_token.proof, by_token.session) == (found.user, "token", None)
    assert visit(users, headers={"authorization": "Bearer nonsense"}) is None
    assert visit(users, session_token="nonsense") is None


def test_the_header_of_a_proxy_is_believed_from_its_address_only(users):
    headers = {"x-forwarded-user": "vera"}
    assert visit(users, "10.1.2.3", PROXY, headers=headers).proof == "proxy"
    assert visit(users, "192.0.2.1", PROXY, headers=headers) is None
    assert visit(users, "10.1.2.3", headers=headers) is None  # not told to trust any
    assert visit(users, "10.1.2.3", PROXY, headers={"x-forwarded-user": "ghost"}) is None
    assert visit(users, "unix", PROXY, headers=headers) is None
