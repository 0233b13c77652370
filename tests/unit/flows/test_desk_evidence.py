"""The evidence on the approve page: reliability, drift, figures; and releases that are held."""

import hashlib
import re
from functools import partial

import pytest
from desk_home import make_desk, token_of
from held_release import DIGEST, TAG, hold_release
from shown_evidence import draw, measured, open_case

from tasks.release_decisions import read_decision

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("evidence-home"))


@pytest.fixture
def desk(small, tmp_path):
    return small.fresh(tmp_path)


@pytest.fixture
def shown(desk, monkeypatch):
    """Return a function that shows evidence and returns its page."""
    return partial(open_case, desk, monkeypatch)


def section(text, name):
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]


def test_the_reliability_of_both_is_drawn_and_told(shown):
    found = section(shown(False)[1], "reliability")
    assert found.count('class="mine-dot"') == 7
    assert found.count('class="other-dot"') == 7
    assert "calibration error 0.050" in found
    assert "calibration error 0.250" in found
    assert '<td class="n">0.95</td><td class="n">0.90</td><td class="n">67</td>' in found
    assert "style=" not in found


def test_a_task_without_classes_says_that_there_is_no_reliability(shown):
    bare = measured("2", "NOW", 0.7, 1.0).model_copy(
        update={"classes": (), "reliability": (), "confusion": (), "per_class": {}}
    )
    _, text = shown(False, challenger=bare, champion=None)
    assert "No reliability was measured" in section(text, "reliability")
    assert ">reliability<" in section(text, "figures")  # what its run drew is not left out


@pytest.mark.parametrize(
    ("alarm", "word", "limit"),
    [(True, "Drift alarm.", True), (False, "No alarm.", False), (None, "Unknown.", False)],
)
def test_drift_is_an_alarm_none_or_unknown(shown, alarm, word, limit):
    _, text = shown(alarm)
    found = section(text, "drift")
    words = [x for x in ("Drift alarm.", "No alarm.", "Unknown.") if x in found]
    assert words == [word]
    assert ("Limits that are broken" in text) is limit
    assert ("separation" in found) is (alarm is not None)
    assert ("drift/abc-drift.html" in found) is (alarm is not None)


def test_evidence_without_a_word_about_drift_is_unknown_and_not_fine(shown):
    found = section(shown(None, facts={}, drift=None)[1], "drift")
    assert "Unknown." in found
    assert "No alarm" not in found


def test_the_figures_of_both_runs_are_shown_as_they_were(desk, shown):
    item, text = shown(True)
    found = section(text, "figures")
    addresses = re.findall(r'src="([^"]+)"', found)
    assert [address.split("?")[0].split("/")[-2:] for address in addresses] == [
        ["challenger", "confusion.png"],
        ["champion", "confusion.png"],
        ["challenger", "training-head.png"],
    ]
    client = desk.client("vic")
    for address in (*addresses, *re.findall(r'src="([^"]+)"', section(text, "drift"))):
        answer = client.get(address)
        assert answer.headers["content-type"] == "image/png"
        assert hashlib.sha256(answer.content).hexdigest().startswith(address.split("v=")[1])
    assert desk.client().get(addresses[0]).url.path == "/login"
    for path in (
        "nobody/confusion",
        "champion/none",
        "champion/..%2f..%2fusers",
        "drift/confusion",
    ):
        assert client.get(f"/evidence/{item.case_id}/{path}.png").status_code == 404
    assert client.get(f"/evidence/{'0' * 64}/champion/confusion.png").status_code == 404


def test_names_in_evidence_that_are_scripts_are_only_text(desk, shown):
    figures = {"challenger": {SCRIPT: draw(desk.settings, "x", 1)}}
    _, text = shown(True, facts={"drift_alarm": "true", "drift": SCRIPT}, figures=figures)
    assert SCRIPT not in text
    assert "&lt;script&gt;" in text


def test_a_held_release_waits_on_the_first_page(desk):
    hold_release(desk.settings, ("spiral: moved", "too many removed"))
    for page in ("/", "/approve", "/releases"):
        text = desk.client("vic").get(page).text
        assert f'href="/releases/{DIGEST}"' in text, page
        assert "spiral: moved and 1 more" in text
    text = desk.client("vic").get(f"/releases/{DIGEST}").text
    for word in (TAG, "too many removed", "p_spiral", "+0.2000", "flipped"):
        assert word in text
    assert 'name="verdict"' not in text  # a viewer looks on


@pytest.mark.parametrize(("verdict", "approve"), [("publish", True), ("refuse", False)])
def test_a_held_release_is_decided_in_the_users_name(desk, verdict, approve):
    folder = hold_release(desk.settings)
    client = desk.client("eve")
    secret = token_of(client.get(f"/releases/{DIGEST}").text)
    address = f"/releases/{DIGEST}/decide"
    for wrong in ({"verdict": "maybe", "reason": "x"}, {"verdict": verdict, "reason": "  "}):
        assert client.post(address, data=wrong | secret).status_code == 400
    assert read_decision(folder) is None
    form = {"verdict": verdict, "reason": SCRIPT, "reviewer": "the director"} | secret
    answer = client.post(address, data=form)
    assert answer.status_code == 200
    assert SCRIPT not in answer.text
    found = read_decision(folder)
    assert (found.approve, found.reviewer, found.proof) == (approve, "eve", "session")
    assert client.post(address, data=form).status_code == 404  # nobody decides twice
    assert DIGEST not in client.get("/").text
    [row] = client.get("/history/decisions.json").json()
    assert row["what"] == f"release {TAG} {'let pass' if approve else 'refused'}"
    assert row["who"] == "eve"
    assert SCRIPT not in client.get("/history").text


def test_an_annotator_decides_on_no_release(desk):
    folder = hold_release(desk.settings)
    client = desk.client("ann")
    form = {"verdict": "publish", "reason": "x"} | token_of(client.get("/help").text)
    assert client.post(f"/releases/{DIGEST}/decide", data=form).status_code == 403
    assert read_decision(folder) is None
