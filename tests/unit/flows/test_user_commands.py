"""The sub-commands of users and of the registry's audit: what they ask, print and refuse."""

import pytest
import typer
from typer.testing import CliRunner

from flows.console import decisions, users
from tasks.champions import Disagreement
from tasks.references import ModelRef
from tasks.settings import Settings
from tasks.users import open_users

PASSWORD = "correct horse battery"
TWICE = f"{PASSWORD}\n{PASSWORD}\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a sub-command in a home of its own."""
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")  # nothing is asked of it
    monkeypatch.delenv("BRICKYARD_TOKEN", raising=False)
    app = typer.Typer()
    app.callback()(lambda: None)
    users.register(app)
    decisions.register(app)

    def invoke(*arguments, typed="", **environment):
        return CliRunner().invoke(app, list(arguments), input=typed, env=environment)

    return invoke


@pytest.fixture
def admin(run):
    """Return the API token of the first user, an admin."""
    assert run("users", "add", "vera", "--role", "admin", typed=TWICE).exit_code == 0
    store = open_users(Settings())
    return store.issue_token(store.find("vera"), "test", 1)


def test_the_first_user_ends_the_single_user_mode(run):
    assert "single-user mode" in run("users", "list").output
    refused = run("users", "add", "ann", "--role", "viewer", typed=TWICE)
    assert refused.exit_code == 1
    added = run("users", "add", "vera", "--role", "admin", typed=TWICE)
    assert added.output.splitlines()[-1] == "vera added: admin"
    assert PASSWORD not in added.output
    listed = run("users", "list").output
    assert "vera" in listed
    assert "admin" in listed


def test_from_then_on_it_takes_an_admin(run, admin):
    command = ("users", "add", "ann", "--role", "annotator", "--no-password")
    assert run(*command).exit_code == 1
    assert run(*command, BRICKYARD_TOKEN="bky_nonsense").exit_code == 1
    assert run(*command, BRICKYARD_TOKEN=admin).exit_code == 0
    store = open_users(Settings())
    ann = store.issue_token(store.find("ann"), "test", 1)
    for refused in (
        ("users", "role", "ann", "--role", "admin"),
        ("users", "lock", "vera"),
        ("users", "password", "vera"),
        ("users", "revoke", "vera", "test"),
        ("users", "code"),
        ("audit", "--put-back"),
    ):
        result = run(*refused, typed=TWICE, BRICKYARD_TOKEN=ann)
        assert result.exit_code == 1, refused
    assert store.find("ann").roles == {"annotator"}
    assert store.user_of_token(admin).name == "vera"


def test_an_admin_changes_what_users_may_do(run, admin):
    run("users", "add", "ann", "--role", "viewer", "--no-password", BRICKYARD_TOKEN=admin)
    roles = ("--role", "approver", "--role", "annotator")
    assert run("users", "role", "ann", *roles, BRICKYARD_TOKEN=admin).exit_code == 0
    store = open_users(Settings())
    assert store.find("ann").roles == {"approver", "annotator"}
    assert run("users", "lock", "ann", BRICKYARD_TOKEN=admin).exit_code == 0
    assert store.find("ann") is None
    assert run("users", "unlock", "ann", BRICKYARD_TOKEN=admin).exit_code == 0
    assert store.find("ann") is not None
    assert run("users", "role", "ghost", *roles, BRICKYARD_TOKEN=admin).exit_code == 1


def test_a_name_and_password_do_as_well_and_give_a_token_once(run, admin):
    wrong = run("users", "token", "nightly", "--user", "vera", typed="wrong password\n")
    assert wrong.exit_code == 1
    made = run("users", "token", "nightly", "--user", "vera", typed=f"{PASSWORD}\n")
    token = made.output.split()[-1]
    store = open_users(Settings())
    assert store.user_of_token(token).name == "vera"
    assert run("users", "revoke", "vera", "nightly", BRICKYARD_TOKEN=admin).exit_code == 0
    assert store.user_of_token(token) is None


def test_a_new_password_is_the_old_ones_end(run, admin):
    fresh = "another long password"
    changed = run("users", "password", "vera", typed=f"{fresh}\n{fresh}\n", BRICKYARD_TOKEN=admin)
    assert changed.exit_code == 0
    assert open_users(Settings()).authenticate("vera", fresh, "here").name == "vera"


def test_audit_fails_until_the_aliases_are_as_decided(run, monkeypatch):
    model = ModelRef(downstream="morphology", version="7", run_id="r", digest="d" * 64)
    found = Disagreement(downstream="morphology", alias="champion", found=model, recorded=None)
    monkeypatch.setattr("tasks.audit.find_disagreements", lambda settings: (found,))
    named = run("audit")
    assert named.exit_code == 1
    assert "'champion' of morphology is at version 7, which nobody decided" in named.output
    monkeypatch.setattr("tasks.promotion.put_back", lambda settings, user, item: True)
    mended = run("audit", "--put-back")
    assert mended.exit_code == 0
    assert "put back" in mended.output
