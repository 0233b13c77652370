"""The declared automations are what they should be, and a wrong file is named."""

import json

import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore
from prefect.server.utilities.user_templates import render_user_template_sync

from flows.deployments import project_folder
from tasks.automations import OWN, _content, _notification, _read, declared
from tasks.errors import BadConfiguration

FOLDER = project_folder() / "flows" / "automations"


def test_every_file_declares_an_automation_of_its_own():
    documents = [_read(path) for path in declared(FOLDER)]
    names = [item["name"] for item in documents]
    assert len(set(names)) == len(names) == 7
    assert all(name.startswith(OWN) for name in names)
    kinds = {action["type"] for item in documents for action in item["actions"]}
    assert kinds == {"run-deployment", "notify", "change-flow-run-state"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1, 2]", "trigger"),
        ("name: brickyard x\ntrigger: {}\n", "actions"),
        ("name: mine\ntrigger: {}\nactions: []\n", "begins with"),
        ("a: [", "x.yaml"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, what):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(BadConfiguration, match=what):
        _read(path)


def test_a_webhook_gets_json_whatever_the_names_hold():
    document = yaml.safe_load((FOLDER / "notify-approval.yaml").read_text())
    block = {"type": "call-webhook", "block_document_id": "x"}
    payload = _notification(document["actions"][0], block)["payload"]
    payload = payload.replace("flow_run | ui_url", "flow_run.url")  # a filter of the server's own
    values = {"flow_run": {"name": 'a "b" \\ <c>\n', "url": "http://x/?a=1&b"}}
    made = json.loads(render_user_template_sync(payload, values))
    assert made["text"].startswith('a "b" \\ <c>\n')
    assert made["link"] == "http://x/?a=1&b"


def test_a_notification_block_gets_subject_and_body():
    document = yaml.safe_load((FOLDER / "notify-labels.yaml").read_text())
    block = {"type": "send-notification", "block_document_id": "x"}
    made = _notification(document["actions"][0], block)
    assert made["subject"] == "Brickyard: labels are wanted"
    assert made["body"].startswith("{{ event.payload.what }}")


def test_an_automation_is_the_same_in_whatever_order_its_events_come():
    def says(events):
        trigger = {"type": "event", "posture": "Reactive", "expect": events, "threshold": 1}
        act = {"type": "do-nothing"}
        return _content(AutomationCore(name="brickyard x", trigger=trigger, actions=[act]))

    for number in range(50):  # a set of text has another order now and then, by its hashes
        events = [f"event.{number}.{letter}" for letter in "abcde"]
        assert says(events) == says(events[::-1])
    assert says(["event.a"]) != says(["event.b"])
