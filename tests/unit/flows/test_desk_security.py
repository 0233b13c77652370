"""The desk against forged forms, scripts in names and comments, guessed paths, and wrong roles."""

import re
import sqlite3
from contextlib import closing

import pytest
from desk_home import PASSWORD, SURVEY, login, make_desk, token_of
from starlette.testclient import TestClient

from flows.review_desk.accounts import inside
from flows.review_desk.app import ROUTES, create_app
from flows.review_desk.server import serve
from storage.label_store import Label, append_labels
from tasks.roles import NotAllowed

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("secure-home"))


@pytest.fixture
def desk(small, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.lineage.trace_model", lambda _, model: model.model_dump())
    return small.fresh(tmp_path)


def posts():
    return [route.path for route in ROUTES if "POST" in (getattr(route, "methods", None) or ())]


def address(path):
    path = re.sub(r"\{\w+:int\}", "1", path)
    return re.sub(r"\{\w+(:path)?\}", "x", path)


def test_nobody_sees_anything_without_logging_in(desk):
    client = desk.client()
    for path in ("/", "/label", "/history/labels.csv", f"/picture/{SURVEY}/{desk.ids[0]}"):
        answer = client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), path


@pytest.mark.parametrize("path", [path for path in posts() if path != "/login"])
def test_no_form_is_taken_without_the_secret_of_the_session(desk, path):
    client = desk.client("eve")
    for form in ({}, {"csrf": ""}, {"csrf": "guess"}):
        assert client.post(address(path), data=form).status_code == 403


@pytest.mark.parametrize("path", posts())
def test_no_form_is_taken_from_another_site(desk, path):
    client = desk.client("eve")
    secret = token_of(client.get("/label").text)
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = client.post(address(path), data=secret, headers=headers)
        assert answer.status_code == 403


def test_the_secret_of_another_session_does_not_do(desk):
    number = desk.open_round(1)
    stranger = token_of(desk.client("bob").get(f"/label/{number}").text)
    answer = desk.client("ann").post(f"/label/{number}/undo", data=stranger)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("name", "path", "allowed"),
    [
        ("vic", "/label", False),
        ("ann", "/label", True),
        ("vic", "/approve/x/decide", False),
        ("ann", "/approve/x/decide", False),
        ("ann", "/models/morphology/rollback", False),
        ("ann", "/audit/put-back", False),
        ("vic", "/rounds/open", False),
        ("vic", "/explore/work", False),
    ],
)
def test_a_role_may_do_only_what_is_its(desk, name, path, allowed):
    client = desk.client(name)
    secret = token_of(client.get("/help").text)
    answer = client.get(path) if path == "/label" else client.post(path, data=secret)
    assert (answer.status_code != 403) == allowed


def test_an_approver_does_not_close_anothers_round_unless_they_decide(desk):
    number = desk.open_round(1)  # opened by root
    for name, status in (("ann", 403), ("eve", 200)):
        client = desk.client(name)
        secret = token_of(client.get("/help").text)
        assert client.post(f"/rounds/{number}/close", data=secret).status_code == status


def test_scripts_in_comments_and_titles_are_only_text(desk):
    row = Label(SURVEY, 10000, 1, 0, "morphology", SCRIPT, SCRIPT, comment=SCRIPT)
    append_labels(desk.settings.labels_path, [row])
    number = desk.open_round(2, title=SCRIPT, guideline=SCRIPT)
    client = desk.client("ann")
    pages = ["/history?what=labels", "/history?what=rounds", "/label", "/", f"/label/{number}"]
    pages += [f"/label/{number}/grid", f"/object/{desk.ids[0]}?survey={SURVEY}"]
    pages += [f"/history?what=labels&text={SCRIPT}&who={SCRIPT}", f"/explore?survey={SCRIPT}"]
    for page in pages:
        text = client.get(page).text
        assert SCRIPT not in text, page
    assert "&lt;script&gt;" in client.get("/history?what=labels").text


def test_a_name_of_an_object_that_is_a_script_is_only_text(desk):
    client = desk.client("ann")
    for path in (f"/object/{SCRIPT}", "/object/%22onload%3Dalert(1)"):
        answer = client.get(path)
        assert answer.status_code in (400, 404)
        assert "<script>alert" not in answer.text
        assert '"onload' not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/picture/..%2f..%2f..%2fetc/passwd",
        "/picture/dr10/south/..%2f..%2flabels.sqlite",
        "/picture/dr10/south/../../../etc/passwd",
        "/picture/dr10%00/10000-1-0",
        "/picture/%2e%2e/%2e%2e/10000-1-0",
        "/picture//etc/10000-1-0",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/history/..%2flabels.csv",
    ],
)
def test_a_path_leads_nowhere_outside(desk, path):
    answer = desk.client("ann").get(path)
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text
    assert "import" not in answer.text


@pytest.mark.parametrize(
    "query", ["size=100000", "size=x", "zoom=0", "stretch=99", "layer=../x", "layer=q", "zoom=-1"]
)
def test_a_picture_that_is_not_offered_is_refused(desk, query):
    answer = desk.client("ann").get(f"/picture/{SURVEY}/{desk.ids[0]}?{query}")
    assert answer.status_code == 400


def test_every_answer_carries_the_headers(desk):
    client = desk.client("ann")
    for path in ("/", "/login", "/nowhere", "/static/desk.css", f"/picture/{SURVEY}/1-1-1"):
        headers = client.get(path, follow_redirects=False).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_no_page_needs_an_inline_script_or_style(desk):
    number = desk.open_round(2)
    client = desk.client("ann")
    for page in ("/", "/label", f"/label/{number}", f"/label/{number}/grid", "/explore"):
        text = client.get(page).text
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text), page


def test_the_cookie_is_out_of_reach_of_scripts(desk):
    client = desk.client()
    answer = client.post(
        "/login", data={"name": "ann", "password": PASSWORD}, follow_redirects=False
    )
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_a_wrong_password_is_refused_and_soon_slowed_down(desk):
    client = desk.client()
    statuses = [login(client, "ann", password="wrong" * 3).status_code for _ in range(6)]
    assert statuses[:2] == [401, 401]
    assert statuses[-1] == 429
    assert login(client, "ann").status_code == 429  # the right one too: guessing costs time


def test_who_has_logged_out_is_out(desk):
    client = desk.client("ann")
    token = client.cookies["brickyard_session"]
    client.post("/logout", data=token_of(client.get("/help").text))
    again = desk.client()
    again.cookies.set("brickyard_session", token, domain="testserver.local")
    assert again.get("/help").url.path == "/login"


def test_a_revoked_token_opens_nothing(desk):
    users = desk.users
    token = users.issue_token(users.find("ann"), "script", 1)
    users.revoke_token("ann", "script")
    for given in (token, "bky_guess"):
        answer = desk.client().get("/help", headers={"authorization": f"Bearer {given}"})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/label?x=1", "/label?x=1"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_to_no_other_site(target, expected):
    assert inside(target) == expected


def test_another_host_name_is_refused(desk):
    client = TestClient(create_app(desk.desk, ["127.0.0.1"]), base_url="http://evil.example")
    assert client.get("/").status_code == 400


def test_a_form_that_is_too_large_is_refused(desk):
    client = desk.client("ann")
    answer = client.post("/label/1/answer", data={"comment": "x" * (2 << 20)})
    assert answer.status_code == 413


def test_a_home_without_users_is_not_served_to_others(tmp_path):
    home = make_desk(tmp_path / "home", people=False)
    with pytest.raises(NotAllowed, match=r"127\.0\.0\.1"):
        serve(home.settings, "0.0.0.0", 0, [], tell=str)


def test_who_labels_cannot_speak_in_anothers_name(desk):
    number = desk.open_round(1)
    client = desk.client("ann")
    text = client.get(f"/label/{number}").text
    item = re.search(r'name="item" value="(\d+)"', text)[1]
    form = {"item": item, "answer": "spiral", "annotator": "bob", "user": "bob"} | token_of(text)
    client.post(f"/label/{number}/answer", data=form)
    with closing(sqlite3.connect(desk.settings.labels_path)) as database:
        assert database.execute("SELECT annotator FROM labels").fetchall() == [("ann",)]
