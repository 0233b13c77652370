"""Events are told in portions, and never without somebody to hear them."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import events
from tasks.events import LABELS_AN_EVENT, tell_embedded, tell_held, tell_labels, tell_wanted
from tasks.references import EmbeddingsRef, Receipt


@pytest.fixture
def told(monkeypatch):
    """Return what was emitted, with a server configured that nobody asks."""
    found = []
    monkeypatch.setattr(events, "_untold", {})
    monkeypatch.setattr(
        events, "emit_event", lambda event, resource, payload: found.append((event, payload))
    )
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        yield found


def test_labels_are_told_in_portions_or_when_a_round_is_complete(told):
    for _ in range(LABELS_AN_EVENT - 1):
        assert not tell_labels("s", "morphology", 1)
    assert not tell_labels("s", "merger", 1)
    assert tell_labels("s", "morphology", 2)
    assert tell_labels("s", "merger", 0, now=True)
    assert not tell_labels("s", "merger", 0, now=True)
    labels = [(payload["downstream"], payload["labels"]) for _, payload in told]
    assert labels == [("morphology", LABELS_AN_EVENT + 1), ("merger", 1)]


def test_an_embed_run_that_made_nothing_is_not_told(told):
    embeddings = EmbeddingsRef(
        store="x", survey="s", encoder_digest="e", snapshot_id="a", survey_snapshot_id="b"
    )
    receipt = Receipt.of("s", "b", [])
    assert not tell_embedded(embeddings, receipt)
    made = receipt.model_copy(update={"counts": {"written": 3}})
    assert tell_embedded(embeddings, made)
    assert told[0][1]["embeddings"]["survey"] == "s"


def test_without_a_server_nothing_is_told(told):
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert not tell_wanted("s", "morphology", 1, 10)
    assert told == []


def test_a_held_release_is_told_with_what_it_is_about(told):
    assert tell_held("dr10-south-morphology-0002", "abc", "it waits: 3 flipped", "http://x")
    assert told == [
        (
            "brickyard.release.held",
            {
                "tag": "dr10-south-morphology-0002",
                "what": "it waits: 3 flipped",
                "link": "http://x",
            },
        )
    ]
