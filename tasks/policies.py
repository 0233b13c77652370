"""The rules of a home: `<home>/policies.toml`, read anew for every decision; absent: the defaults.

    [access]
    proxy_header = "X-Forwarded-User"
    proxy_addresses = ["10.0.0.5"]

    [promotion]
    two_persons = true
    not_the_trainer = true
    largest_fall = 0.01

    [promotion.detection]        # of one downstream task; the rest as in [promotion]
    smallest_test = 200

Rules about evidence (`broken_limits`) can be overridden with a reason by a role that may; rules
about people cannot.
"""

import ipaddress
import tomllib
from typing import Any

from pydantic import Field, ValidationError, field_validator

from tasks.errors import BadConfiguration
from tasks.references import EvidencePacket, Reference
from tasks.settings import Settings

CALIBRATION = "expected_calibration_error"
DRIFT_FACT = "drift"  # of an evidence packet: the verdict of the drift report
ALARM_FACT = "drift_alarm"  # "true", "false" or "unknown"; absent is unknown too


class AccessPolicy(Reference):
    """How people get in.

    `proxy_header` names the header in which a reverse proxy tells who it has let in; it is
    believed from `proxy_addresses` only.
    """

    session_minutes: float = Field(default=480.0, gt=0)
    proxy_header: str = ""
    proxy_addresses: tuple[str, ...] = ()

    @field_validator("proxy_addresses")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value


class PromotionPolicy(Reference):
    """What a promotion of one downstream task needs.

    `largest_fall` is how much worse than the champion's the headline metric may be, as a fraction
    of the champion's. `largest_calibration_error` applies where the evidence has one. With
    `stale_with_survey`, bricks that came or changed make evidence out of date. Drift that could not
    be measured, as for a first champion, speaks against a promotion with `refuse_unknown_drift`
    only. `put_back` lets `brickyard audit` undo what was moved by hand without being told to.
    """

    two_persons: bool = False
    not_the_trainer: bool = False
    smallest_test: int = Field(default=30, ge=1)
    largest_fall: float = Field(default=0.02, ge=0)
    largest_calibration_error: float = Field(default=0.2, gt=0)
    refuse_drift: bool = True
    refuse_unknown_drift: bool = False
    stale_with_survey: bool = True
    put_back: bool = False


class Policies(Reference):
    """All rules of a home."""

    access: AccessPolicy = AccessPolicy()
    promotion: PromotionPolicy = PromotionPolicy()
    by_downstream: dict[str, PromotionPolicy] = Field(default_factory=dict)

    def of(self, downstream: str) -> PromotionPolicy:
        """Return the rules for promotions of a downstream task."""
        return self.by_downstream.get(downstream, self.promotion)


def read_policies(settings: Settings) -> Policies:
    """Read the rules of a home.

    Raises
    ------
    BadConfiguration
        If the file is not TOML, or has an unknown key or a value of the wrong kind: a misspelt
        rule must not be a rule that does not hold.
    """
    path = settings.home.resolve() / "policies.toml"
    if not path.is_file():
        return Policies()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        return Policies.model_validate(_layered(found))
    except (tomllib.TOMLDecodeError, ValidationError, ValueError) as error:
        raise BadConfiguration(f"{path}: {error}") from error


def _layered(found: dict[str, Any]) -> dict[str, Any]:
    """Spread `[promotion]` under the tables of single downstream tasks."""
    promotion = found.pop("promotion", {})
    own = {name: value for name, value in promotion.items() if isinstance(value, dict)}
    common = {name: value for name, value in promotion.items() if name not in own}
    merged = {name: common | values for name, values in own.items()}
    return {**found, "promotion": common, "by_downstream": merged}


def broken_limits(packet: EvidencePacket, policy: PromotionPolicy) -> tuple[str, ...]:
    """Return what in the evidence speaks against a promotion, as sentences; none: nothing does."""
    challenger, champion = packet.challenger, packet.champion
    found = []
    if challenger.test_objects < policy.smallest_test:
        found.append(
            f"only {challenger.test_objects} test objects, at least {policy.smallest_test} needed"
        )
    if champion is not None:
        name = challenger.headline
        new, old = challenger.metrics[name].value, champion.metrics[name].value
        loss = (old - new) if challenger.higher_is_better else (new - old)
        if loss > policy.largest_fall * abs(old):
            found.append(
                f"{name} falls from {old:.3f} to {new:.3f}, by more than {policy.largest_fall:.1%}"
            )
    calibration = challenger.metrics.get(CALIBRATION)
    if calibration is not None and calibration.value > policy.largest_calibration_error:
        found.append(
            f"calibration error {calibration.value:.3f}, at most "
            f"{policy.largest_calibration_error:g} allowed"
        )
    return (*found, *_broken_by_drift(packet, policy))


def drift_alarm(packet: EvidencePacket) -> bool | None:
    """Return whether the drift report of a packet raises an alarm; None when that is unknown."""
    return {"true": True, "false": False}.get(packet.facts.get(ALARM_FACT, "").lower())


def _broken_by_drift(packet: EvidencePacket, policy: PromotionPolicy) -> tuple[str, ...]:
    alarm = drift_alarm(packet)
    if alarm and policy.refuse_drift:
        return (f"drift: {packet.facts.get(DRIFT_FACT, 'the report raises an alarm')}",)
    if alarm is None and policy.refuse_unknown_drift:
        why = packet.facts.get(DRIFT_FACT, "the evidence does not say")
        return (f"whether the data drifted is unknown: {why}",)
    return ()
