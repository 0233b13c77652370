"""Automations of the repository, put on a Prefect server; applying them again changes nothing.

One file of `flows/automations` is one automation as Prefect's API takes it, with two additions: a
`run-deployment` action names its deployment, and a `notify` action stands for whatever the
installation notifies with: a webhook, a notification block such as one that sends e-mail, or both.
Without any, automations that only notify are left out and named.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect.automations import AutomationCore
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr, ValidationError

from tasks.errors import BadConfiguration
from tasks.references import Reference

WEBHOOK_BLOCK = "brickyard-notify"
OWN = "brickyard "  # the names of our automations begin so; others are never touched


class Applied(Reference):
    """What became of a declared automation: created, updated, unchanged, or left out and why."""

    name: str
    outcome: str
    why: str = ""


class Standing(Reference):
    """An automation on the server."""

    name: str
    enabled: bool
    declared: bool
    description: str


@dataclass(frozen=True)
class Notify:
    """Where notifications go.

    Parameters
    ----------
    webhook : str
        URL that gets a JSON document with `subject`, `text` and `link`; it is kept in a block of
        the server, as a secret. Empty: the one given before, if there is one.
    block : str
        A notification block that the server knows, as "<type>/<name>", such as
        "sendgrid-email/ops".
    """

    webhook: str = ""
    block: str = ""


def apply_automations(folder: Path, notify: Notify) -> tuple[Applied, ...]:
    """Put the automations of a folder on the server; those that stand there are updated.

    Raises
    ------
    BadConfiguration
        If a file is no automation, or names a deployment or block that the server does not know.
    """
    with get_client(sync_client=True) as client:
        blocks = _notify_blocks(client, notify)
        return tuple(_apply(client, path, blocks) for path in declared(folder))


def list_automations(folder: Path) -> tuple[Standing, ...]:
    """Return our automations on the server, and whether a file of the folder declares each."""
    names = {_read(path)["name"] for path in declared(folder)}
    with get_client(sync_client=True) as client:
        found = [item for item in client.read_automations() if item.name.startswith(OWN)]
    return tuple(
        Standing(
            name=item.name,
            enabled=item.enabled,
            declared=item.name in names,
            description=item.description,
        )
        for item in sorted(found, key=lambda item: item.name)
    )


def declared(folder: Path) -> Sequence[Path]:
    """Return the files of automations."""
    return sorted(folder.glob("*.yaml"))


def _apply(client: SyncPrefectClient, path: Path, blocks: list[dict[str, Any]]) -> Applied:
    document = _read(path)
    name = str(document["name"])
    actions = [
        made for item in document["actions"] for made in _actions(client, path, item, blocks)
    ]
    if not actions:
        why = "nothing to notify with: give --webhook or --notify"
        return Applied(name=name, outcome="left out", why=why)
    try:
        wanted = AutomationCore.model_validate({**document, "actions": actions})
    except ValidationError as error:
        raise BadConfiguration(f"{path}: {error}") from error
    standing = next(iter(client.read_automations_by_name(name)), None)
    if standing is None:
        client.create_automation(wanted)
        return Applied(name=name, outcome="created")
    wanted.enabled = standing.enabled  # whoever switched it off meant it
    if _content(standing) == _content(wanted):
        return Applied(name=name, outcome="unchanged")
    client.update_automation(standing.id, wanted)
    return Applied(name=name, outcome="updated")


def _content(automation: AutomationCore) -> dict[str, Any]:
    """Return what an automation says, without what the server adds.

    Not as JSON: the events of a trigger are a set, which has no order there.
    """
    kept = set(AutomationCore.model_fields) - {"owner_resource"}
    content = automation.model_dump(include=kept)
    content["trigger"].pop("id", None)
    return content


def _actions(
    client: SyncPrefectClient, path: Path, action: dict[str, Any], blocks: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    if action["type"] == "notify":
        return [_notification(action, block) for block in blocks]
    made = dict(action)
    if "deployment" in made:
        name = made.pop("deployment")
        try:
            made["deployment_id"] = client.read_deployment_by_name(name).id
        except ObjectNotFound as error:
            raise BadConfiguration(
                f"{path}: there is no deployment {name!r} on the server: run `brickyard up` or "
                "`prefect deploy --all` first"
            ) from error
    return [made]


def _notification(action: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "call-webhook":
        # `tojson` also in the middle of a template: whatever a name holds, the JSON stays whole.
        parts = {name: action[name] for name in ("subject", "text", "link")}
        body = ", ".join(f"{json.dumps(name)}: {_quoted(text)}" for name, text in parts.items())
        return {**block, "payload": f"{{{body}}}"}
    return {**block, "subject": action["subject"], "body": f"{action['text']}\n{action['link']}"}


def _quoted(template: str) -> str:
    """Return a template for a JSON string; what it puts in is escaped."""
    if template.startswith("{{") and template.endswith("}}") and template.count("{{") == 1:
        return f"{{{{ ({template[2:-2].strip()}) | string | tojson }}}}"
    return f"{{% set text %}}{template}{{% endset %}}{{{{ text | string | tojson }}}}"


def _notify_blocks(client: SyncPrefectClient, notify: Notify) -> list[dict[str, Any]]:
    blocks = []
    if notify.webhook:
        block = Webhook(method="POST", url=SecretStr(notify.webhook))
        block.save(WEBHOOK_BLOCK, overwrite=True, _sync=True)
    webhook = _block_id(client, "webhook", WEBHOOK_BLOCK)
    if webhook is not None:
        blocks.append({"type": "call-webhook", "block_document_id": webhook})
    if notify.block:
        kind, _, name = notify.block.partition("/")
        found = _block_id(client, kind, name)
        if found is None:
            raise BadConfiguration(
                f"the server has no block {notify.block!r}: make it on Prefect's page of blocks, "
                "or give the name of another one as <type>/<name>"
            )
        blocks.append({"type": "send-notification", "block_document_id": found})
    return blocks


def _block_id(client: SyncPrefectClient, kind: str, name: str) -> str | None:
    try:
        return str(client.read_block_document_by_name(name, kind).id)
    except ObjectNotFound:
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise BadConfiguration(f"{path}: {error}") from error
    needed = {"name", "trigger", "actions"}
    if not isinstance(document, dict) or not needed <= set(document):
        raise BadConfiguration(f"{path}: an automation has {sorted(needed)}")
    if not str(document["name"]).startswith(OWN):
        raise BadConfiguration(f"{path}: the name of an automation begins with {OWN!r}")
    return document
