import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from argon2 import PasswordHasher

from storage.user_store import UserTables
from tasks.login_limit import FORGET_SECONDS, FREE_FAILURES, LONGEST_WAIT
from tasks.settings import Settings
from tasks.users import (
    LOCAL,
    CodeRefused,
    LoginRefused,
    NotAllowed,
    TooManyAttempts,
    User,
    UserProblem,
    UserStore,
    open_users,
)

PASSWORD = "correct horse battery"
PACKET = "e" * 64
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    def __init__(self):
        self.now = 1_000_000_000.0

    def __call__(self):
        return self.now

    def moment(self):
        return datetime.fromtimestamp(self.now, UTC)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def users(tmp_path, clock):
    store = UserStore(UserTables(tmp_path / "users.sqlite"), clock, CHEAP)
    store.add("vera", PASSWORD, ["admin"])
    store.add("Edwin", PASSWORD, ["annotator", "approver"])
    return store


def all_text(users):
    database = sqlite3.connect(users._tables.path)
    text = "\n".join(database.iterdump())
    database.close()
    return text


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        ("viewer", {"view"}),
        ("annotator", {"view", "label"}),
        ("approver", {"view", "label", "decide"}),
        ("admin", {"view", "label", "decide", "override", "administer"}),
    ],
)
def test_what_roles_may_do(role, actions):
    user = User("x", frozenset({role}))
    every = ("view", "label", "decide", "override", "administer")
    assert {action for action in every if user.may(action)} == actions
    with pytest.raises(ValueError, match="no action 'approve'"):
        user.may("approve")
    for action in set(every) - actions:
        with pytest.raises(NotAllowed, match=f"may not {action}"):
            user.must(action)


def test_login_and_what_is_kept_of_it(users):
    found = users.authenticate("EDWIN", PASSWORD, "192.0.2.1")
    assert found == User("Edwin", frozenset({"annotator", "approver"}))
    session = users.open_session(found, 60)
    token = users.issue_token(found, "nightly", 30)
    code = users.issue_code(found, PACKET)
    text = all_text(users)
    assert "$argon2id$" in text
    for secret in (PASSWORD, session.token, token, code, code.replace("-", "")):
        assert secret not in text
    assert oct(users._tables.path.stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize("name", ["Edwin", "nobody", ""])
def test_wrong_names_and_passwords_get_the_same_answer(users, name):
    with pytest.raises(LoginRefused, match="^the name or the password is wrong$"):
        users.authenticate(name, "wrong password", "192.0.2.1")


def test_user_without_a_password_cannot_log_in(users):
    users.add("robot", "", ["annotator"])
    with pytest.raises(LoginRefused):
        users.authenticate("robot", "", "192.0.2.1")


@pytest.mark.parametrize(
    ("name", "password", "roles", "match"),
    [
        ("VERA", PASSWORD, ["viewer"], "already"),
        ("local", PASSWORD, ["viewer"], "cannot be a user"),
        ("<b>", PASSWORD, ["viewer"], "cannot be a user"),
        ("ann", "short", ["viewer"], "10 to 1000"),
        ("ann", "x" * 1001, ["viewer"], "10 to 1000"),
        ("ann", PASSWORD, ["king"], "king"),
        ("ann", PASSWORD, [], "none"),
    ],
)
def test_users_that_cannot_be(users, name, password, roles, match):
    with pytest.raises(UserProblem, match=match):
        users.add(name, password, roles)
    assert [user.name for user in users.list()] == ["Edwin", "vera"]


def test_a_home_without_users_has_one_who_may_do_everything(tmp_path):
    store = open_users(Settings(home=tmp_path))
    assert store.single_user
    session = store.open_session(LOCAL, 10)
    assert store.session(session.token).user == LOCAL
    with pytest.raises(UserProblem, match="first user must have the role admin"):
        store.add("ann", PASSWORD, ["viewer"])
    store.add("ann", PASSWORD, ["admin"])
    assert not store.single_user
    assert store.session(session.token) is None


def test_the_last_admin_stays(users):
    with pytest.raises(UserProblem, match="only admin"):
        users.set_roles("vera", ["viewer"])
    with pytest.raises(UserProblem, match="only admin"):
        users.set_enabled("vera", False)
    users.set_roles("Edwin", ["admin"])
    users.set_roles("vera", ["viewer"])
    assert users.find("vera").roles == {"viewer"}


def test_logins_from_one_place_have_to_wait_twice_as_long_each_time(users, clock):
    for number in range(FREE_FAILURES):
        with pytest.raises(LoginRefused, match="wrong"):
            users.authenticate(f"guess{number}", "wrong password", "192.0.2.1")
    waits = []
    for number in range(12):
        with pytest.raises(TooManyAttempts) as refusal:
            users.authenticate("vera", PASSWORD, "192.0.2.1")
        waits.append(refusal.value.wait)
        clock.now += refusal.value.wait
        with pytest.raises(LoginRefused, match="wrong"):
            users.authenticate(f"other{number}", "wrong password", "192.0.2.1")
    assert waits == [min(2.0**n, LONGEST_WAIT) for n in range(12)]
    assert users.authenticate("vera", PASSWORD, "198.51.100.7").name == "vera"
    clock.now += FORGET_SECONDS + 1
    assert users.authenticate("vera", PASSWORD, "192.0.2.1").name == "vera"


def test_a_name_has_to_wait_wherever_the_guesses_come_from(users, clock):
    for number in range(FREE_FAILURES):
        with pytest.raises(LoginRefused):
            users.authenticate("vera", "wrong password", f"192.0.2.{number}")
    with pytest.raises(TooManyAttempts):
        users.authenticate("Vera", PASSWORD, "203.0.113.9")
    clock.now += 1.0
    users.authenticate("vera", PASSWORD, "203.0.113.9")
    assert users._tables.failures("name:vera") == (0, 0.0)  # a right one starts anew


def test_addresses_of_one_ipv6_network_are_one_place(users):
    for number in range(FREE_FAILURES):
        with pytest.raises(LoginRefused):
            users.authenticate(f"guess{number}", "wrong password", f"2001:db8::{number + 1}")
    with pytest.raises(TooManyAttempts):
        users.authenticate("vera", PASSWORD, "2001:db8::ffff")
    assert users.authenticate("vera", PASSWORD, "2001:db8:1::1").name == "vera"


def test_many_guesses_at_once_are_not_more_than_one_by_one(users):
    def guess(number):
        try:
            users.authenticate("vera", f"wrong password {number}", f"192.0.2.{number}")
        except TooManyAttempts:
            return "waits"
        except LoginRefused:
            return "looked at"

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(guess, range(32)))
    assert found.count("looked at") == FREE_FAILURES
    assert set(found) == {"waits", "looked at"}


def test_sessions_end(users, clock):
    edwin = users.find("Edwin")
    first, second, third = (users.open_session(edwin, 60) for _ in range(3))
    assert len({first.token, second.token, first.csrf, second.csrf}) == 4
    assert users.session(first.token) == first
    users.close_session(first.token)
    users.close_session(first.token)
    assert users.session(first.token) is None
    users.set_roles("Edwin", ["viewer"])
    assert users.session(second.token).user.roles == {"viewer"}
    users.set_password("Edwin", PASSWORD + "!")
    assert users.session(second.token) is None
    fourth = users.open_session(edwin, 60)
    clock.now += 3600
    assert users.session(fourth.token) is None
    fifth = users.open_session(edwin, 60)
    users.set_enabled("Edwin", False)
    assert users.session(fifth.token) is None
    with pytest.raises(LoginRefused):
        users.authenticate("Edwin", PASSWORD + "!", "192.0.2.1")
    assert users.session(third.token) is None
    assert users.session("made up") is None


def test_api_tokens(users, clock):
    edwin = users.find("Edwin")
    token = users.issue_token(edwin, "nightly", 30)
    other = users.issue_token(edwin, "other", 1)
    assert users.user_of_token(token) == edwin
    assert users.user_of_token(token + "x") is None
    assert [row.name for row in users.tokens("edwin")] == ["nightly", "other"]
    clock.now += 86400
    assert users.user_of_token(other) is None
    assert users.revoke_token("edwin", "nightly") == 1
    assert users.revoke_token("edwin", "nightly") == 0
    assert users.user_of_token(token) is None
    third = users.issue_token(edwin, "third", 1)
    users.set_enabled("Edwin", False)
    assert users.user_of_token(third) is None
    with pytest.raises(UserProblem, match="no user"):
        users.issue_token(User("ghost", frozenset({"admin"})), "x", 1)


def refusal(users, code, packet=PACKET, **options):
    with pytest.raises(CodeRefused) as error:
        users.redeem_code(code, packet, **options)
    return error.value.reason


def test_a_code_is_used_once_for_its_packet(users, clock):
    edwin = users.find("Edwin")
    code = users.issue_code(edwin, PACKET)
    assert refusal(users, "AAAA-BBBB-CCCC-DDDD") == "forged"
    assert refusal(users, "") == "forged"
    assert refusal(users, code, "f" * 64) == "other packet"
    assert users.redeem_code(f"  {code.lower()} ", PACKET) == edwin
    assert refusal(users, code) == "replayed"


def test_a_code_used_for_a_purpose_may_be_looked_at_again_for_it(users, clock):
    code = users.issue_code(users.find("Edwin"), PACKET)
    users.redeem_code(code, PACKET, purpose="case:1")
    clock.now += 1e6
    assert users.redeem_code(code, PACKET, purpose="case:1").name == "Edwin"
    assert refusal(users, code, purpose="case:2") == "replayed"
    assert refusal(users, code) == "replayed"


def test_a_code_expires_by_when_it_was_given_in(users, clock):
    edwin = users.find("Edwin")
    given = clock.moment()
    code, late = users.issue_code(edwin, PACKET), users.issue_code(edwin, PACKET)
    clock.now += 15 * 60
    assert refusal(users, late) == "expired"
    assert users.redeem_code(code, PACKET, at=given) == edwin


def test_a_code_of_somebody_locked_out_does_not_count(users):
    code = users.issue_code(users.find("Edwin"), PACKET)
    users.set_enabled("Edwin", False)
    assert refusal(users, code) == "locked out"


def test_one_code_at_once_in_many_hands_is_one_decision(users):
    code = users.issue_code(users.find("Edwin"), PACKET)

    def use(number):
        try:
            return users.redeem_code(code, PACKET, purpose=str(number))
        except CodeRefused:
            return None

    with ThreadPoolExecutor(16) as pool:
        assert len([user for user in pool.map(use, range(32)) if user]) == 1
