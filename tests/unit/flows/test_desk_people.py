"""Pages of users, of one's own account and of conflicts: who may, what is shown, what is not."""

import re
import sqlite3
from contextlib import closing

import pytest
from argon2 import PasswordHasher
from desk_home import PASSWORD, SURVEY, login, make_desk, token_of

from flows.review_desk.desk import open_desk
from storage.label_store import Label, append_labels, read_labels

SCRIPT = "<script>alert(1)</script>"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("people-home"))


@pytest.fixture
def desk(small, tmp_path):
    made = small.fresh(tmp_path)
    made.desk.users._hasher = QUICK
    return made


def send(client, path, **form):
    """Send a form with the secret of the session."""
    secret = token_of(client.get("/help").text)
    return client.post(path, data=form | secret)


def secret_on(text):
    return re.search(r'<p class="code"><code>([^<]+)</code>', text)[1]


def test_a_user_is_added_and_comes_in_with_the_password_that_was_shown(desk):
    answer = send(desk.client("root"), "/users/add", name="zoe", role=["annotator", "viewer"])
    assert answer.status_code == 200
    password = secret_on(answer.text)
    assert password not in desk.client("root").get("/users").text  # shown once
    assert desk.users.find("zoe").roles == {"annotator", "viewer"}
    assert login(desk.client(), "zoe", password=password).status_code == 200


def test_no_page_shows_what_a_secret_is_kept_as(desk):
    token = desk.users.issue_token(desk.users.find("ann"), "nightly", 5)
    with closing(sqlite3.connect(desk.settings.home / "users.sqlite")) as database:
        kept = [row[0] for row in database.execute("SELECT password FROM users")]
        kept += [row[0] for row in database.execute("SELECT digest FROM tokens")]
    assert len(kept) == 6
    text = desk.client("root").get("/users").text + desk.client("ann").get("/account").text
    assert text.count("nightly") >= 2
    assert "argon2" not in text
    assert not [secret for secret in (*kept, token) if secret in text]


def test_roles_are_changed_and_users_are_locked_out_and_let_in(desk):
    root, vic = desk.client("root"), desk.client("vic")
    assert vic.get("/label").status_code == 403
    send(root, "/users/vic/roles", role=["annotator"])
    assert vic.get("/label").status_code == 200
    send(root, "/users/vic/lock")
    assert vic.get("/label").url.path == "/login"
    assert "vic (locked out)" in root.get("/users").text
    send(root, "/users/vic/unlock")
    assert desk.client("vic").get("/label").status_code == 200


def test_the_last_admin_stays_and_mistakes_change_nothing(desk):
    root = desk.client("root")
    for path, form in (
        ("/users/root/roles", {"role": ["viewer"]}),
        ("/users/root/lock", {}),
        ("/users/vic/roles", {}),
        ("/users/vic/roles", {"role": ["god"]}),
        ("/users/nobody/lock", {}),
        ("/users/root/password", {}),
        ("/users/add", {"name": "vic", "role": ["viewer"]}),
        ("/users/add", {"name": SCRIPT, "role": ["viewer"]}),
    ):
        answer = send(root, path, **form)
        assert answer.status_code == 400, path
        assert SCRIPT not in answer.text
    assert desk.users.find("root").may("administer")
    assert desk.users.find("vic").roles == {"viewer"}


def test_a_new_start_password_ends_sessions_and_replaces_the_old_one(desk):
    ann = desk.client("ann")
    password = secret_on(send(desk.client("root"), "/users/ann/password").text)
    assert ann.get("/label").url.path == "/login"
    assert login(desk.client(), "ann", password=PASSWORD).status_code == 401
    assert login(desk.client(), "ann", password=password).status_code == 200


@pytest.mark.parametrize("name", ["vic", "ann", "eve"])
def test_only_an_admin_opens_the_users(desk, name):
    client = desk.client(name)
    assert client.get("/users").status_code == 403
    assert 'href="/users"' not in client.get("/").text
    for path in ("add", f"{name}/roles", "root/password", "root/lock", "vic/unlock", "vic/revoke"):
        answer = send(client, f"/users/{path}", name="eva", role=["admin"], token="x")
        assert answer.status_code == 403, path
    assert desk.users.find("eva") is None
    assert not desk.users.find(name).may("administer")


def test_users_replace_their_own_password_if_they_know_it(desk):
    elsewhere, ann = desk.client("ann"), desk.client("ann")
    new = "another horse battery"
    wrong = send(ann, "/account/password", old="guess" * 3, new=new, again=new)
    assert wrong.status_code == 403
    assert send(ann, "/account/password", old=PASSWORD, new=new, again="x").status_code == 400
    short = send(ann, "/account/password", old=PASSWORD, new="short", again="short")
    assert short.status_code == 400
    done = send(ann, "/account/password", old=PASSWORD, new=new, again=new)
    assert "is replaced" in done.text
    assert ann.get("/account").url.path == "/account"  # still in
    assert elsewhere.get("/account").url.path == "/login"
    assert login(desk.client(), "ann", password=new).status_code == 200


def test_a_token_is_made_shown_once_used_and_revoked(desk):
    ann = desk.client("ann")
    token = secret_on(send(ann, "/account/token", name=SCRIPT, days="30").text)
    headers = {"authorization": f"Bearer {token}"}
    assert desk.client().get("/label", headers=headers).status_code == 200
    for page in (ann.get("/account").text, desk.client("root").get("/users").text):
        assert token not in page
        assert SCRIPT not in page
        assert "&lt;script&gt;" in page
    for form in (
        {"name": "", "days": "3"},
        {"name": "x", "days": "9999"},
        {"name": "x", "days": "-1"},
    ):
        assert send(ann, "/account/token", **form).status_code == 400
    more = desk.client().post("/account/token", data={"name": "y", "days": "3"}, headers=headers)
    assert more.status_code == 403  # a token makes no tokens
    send(ann, "/account/revoke", token=SCRIPT)
    assert desk.client().get("/label", headers=headers).status_code == 401


def test_an_admin_revokes_anybodys_token_and_others_only_their_own(desk):
    users = desk.users
    token = users.issue_token(users.find("ann"), "nightly", 5)
    send(desk.client("bob"), "/account/revoke", token="nightly")
    assert users.user_of_token(token).name == "ann"
    send(desk.client("root"), "/users/ann/revoke", token="nightly")
    assert users.user_of_token(token) is None


def test_the_first_user_ends_the_single_user_mode(tmp_path, monkeypatch):
    home = make_desk(tmp_path / "home", people=False)
    home.desk = open_desk(home.settings)
    home.desk.users._hasher = QUICK
    home.desk.promotions = lambda: ([], "")
    client = home.client()
    client = type(client)(client.app, client=("127.0.0.1", 50000))
    text = client.get("/users").text
    assert "This home has no users" in text
    refused = client.post("/users/add", data={"name": "zoe", "role": "viewer"} | token_of(text))
    assert refused.status_code == 400
    made = client.post("/users/add", data={"name": "zoe", "role": "admin"} | token_of(text))
    password = secret_on(made.text)
    assert client.get("/users").url.path == "/login"
    assert login(home.client(), "zoe", password=password).status_code == 200


def dispute(desk, *said):
    rows = [
        Label(SURVEY, 10000, 1, 0, "morphology", answer, who, **more) for who, answer, more in said
    ]
    append_labels(desk.settings.labels_path, rows)


def hidden(text):
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))


def test_a_conflict_is_shown_and_settled_in_the_users_name(desk):
    dispute(desk, ("ann", "spiral", {"comment": "arms"}), ("bob", "other", {}))
    client = desk.client("eve")
    text = client.get("/conflicts").text
    for word in ("10000-1-0", "arms", "ann", "bob", f"/picture/{SURVEY}/10000-1-0"):
        assert word in text
    form = hidden(text[text.index("/conflicts/settle") :]) | {
        "answer": "other",
        "reason": "no arms",
    }
    after = client.post("/conflicts/settle", data=form)
    assert after.url.path == "/conflicts"
    assert "Nothing is in dispute" in after.text
    row = read_labels(desk.settings.labels_path, SURVEY, "morphology").iloc[-1]
    assert (row["answer"], row["comment"]) == ("other", "settled by eve: no arms")
    again = client.post("/conflicts/settle", data=form)
    assert again.status_code == 400
    assert "meanwhile" in again.text


def test_annotators_neither_see_conflicts_nor_settle_them(desk):
    dispute(desk, ("ann", "spiral", {}), ("bob", "other", {}))
    client = desk.client("ann")
    assert client.get("/conflicts").status_code == 403
    assert "/conflicts" not in client.get("/label").text
    form = {"survey": SURVEY, "question": "morphology", "object_id": "10000-1-0", "seen": "2"}
    form |= {"group": "morphology", "answer": "spiral", "reason": "mine"}
    assert send(client, "/conflicts/settle", **form).status_code == 403
    for seen in ("", "x", "9" * 30):
        assert (
            send(desk.client("eve"), "/conflicts/settle", **form | {"seen": seen}).status_code
            == 400
        )
    assert len(read_labels(desk.settings.labels_path, SURVEY, "morphology")) == 2


def test_names_and_comments_in_a_conflict_that_are_scripts_are_only_text(desk):
    dispute(desk, (SCRIPT, "spiral", {"comment": SCRIPT}), ("bob", "other", {}))
    client = desk.client("eve")
    for query in ("", f"?question={SCRIPT}&survey={SCRIPT}"):
        text = client.get(f"/conflicts{query}").text
        assert SCRIPT not in text
        assert "&lt;script&gt;" in text


def test_an_object_that_left_the_survey_can_still_be_settled(desk):
    rows = [Label(SURVEY, 10000, 1, 999, "morphology", x, x) for x in ("spiral", "other")]
    append_labels(desk.settings.labels_path, rows)
    assert "It has left the survey" in desk.client("eve").get("/conflicts").text
