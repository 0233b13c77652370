"""Which versions are champions by the recorded decisions, and where the registry says otherwise.

Nothing here moves an alias; `tasks.promotion` does, and `tasks.audit` is what people call.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from tasks import tracking
from tasks.decisions import Case, Event, append, read_events
from tasks.references import ModelRef, Reference
from tasks.roles import User
from tasks.settings import Settings


class Move(Reference):
    """One recorded move of the alias `champion`, and what `previous_champion` was set to."""

    sequence: int
    case_id: str
    at: datetime
    to: ModelRef
    previous: ModelRef | None


class Disagreement(Reference):
    """An alias of the registry that is not where the recorded decisions put it."""

    downstream: str
    alias: str
    found: ModelRef | None
    recorded: ModelRef | None

    @property
    def sentence(self) -> str:
        """Return what is wrong, for people."""
        where = f"{self.alias!r} of {self.downstream} is at {_name(self.found)}"
        if self.recorded is None:
            return f"{where}, which nobody decided"
        if self.found and self.found.version == self.recorded.version:
            return f"{where}, but its weights or its run are not those that were approved"
        return f"{where}, but the decisions put it at {_name(self.recorded)}"


def recorded_moves(settings: Settings, downstream: str) -> list[Move]:
    """Return the moves of `champion` that were decided, oldest first."""
    events = read_events(settings, downstream=downstream)
    cases = {item.case_id: item.body["case"] for item in events if item.event is Event.OPENED}
    moves = []
    for item in events:
        if item.event is not Event.MOVED:
            continue
        # Records of the first releases leave `previous` out; it was the champion of the evidence.
        before = item.body.get("previous") or (
            None if "previous" in item.body else cases.get(item.case_id, {}).get("champion")
        )
        fields = {"to": item.body["to"], "previous": before, "sequence": item.sequence}
        moves.append(Move.model_validate({**fields, "case_id": item.case_id, "at": item.at}))
    return moves


def disagreements(settings: Settings, downstreams: Iterable[str]) -> tuple[Disagreement, ...]:
    """Compare `champion` and `previous_champion` of the registry with the recorded decisions.

    A `previous_champion` that was there before the first recorded decision is left alone.
    """
    found = []
    for downstream in downstreams:
        moves = recorded_moves(settings, downstream)
        expected = {tracking.CHAMPION: moves[-1].to if moves else None}
        if moves:
            expected[tracking.PREVIOUS_CHAMPION] = moves[-1].previous
        for alias, recorded in expected.items():
            now = _aliased(settings, downstream, alias)
            if now != recorded:
                fields = {"downstream": downstream, "alias": alias}
                found.append(Disagreement(**fields, found=now, recorded=recorded))
    return tuple(found)


def record_put_back(settings: Settings, user: User, found: Disagreement) -> None:
    """Record that an alias was put back, as a case of its own."""
    now = datetime.now(UTC)
    subject = found.recorded or found.found
    if subject is None:
        raise ValueError(f"{found.alias} of {found.downstream} is nowhere, as decided")
    identity = json.dumps(["put back", found.model_dump(mode="json"), now.isoformat()])
    case = Case(
        case_id=hashlib.sha256(identity.encode()).hexdigest(),
        flow_run_id="",
        attempt=0,
        downstream=found.downstream,
        challenger=subject,
        champion=found.found,
        evidence="",
        deadline=now,
    )
    body = found.model_dump(mode="json") | {"user": user.name}
    append(settings, case, Event.PUT_BACK, body)


def _aliased(settings: Settings, downstream: str, alias: str) -> ModelRef | None:
    """Return where an alias points; an alias of a version that was deleted points nowhere."""
    try:
        return tracking.aliased(settings, downstream, alias)
    except tracking.UnknownModel:
        return None


def _name(model: ModelRef | None) -> str:
    return f"version {model.version}" if model else "no version"
