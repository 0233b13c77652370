"""Find, and undo, what was moved in the registry past the recorded decisions."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from lvm.downstream import DOWNSTREAM_TASKS
from tasks import promotion
from tasks.champions import Disagreement, disagreements
from tasks.decisions import one_at_a_time, read_events
from tasks.policies import read_policies
from tasks.references import Reference
from tasks.roles import User
from tasks.settings import Settings, load_settings

#: Acts where the policy of a home says `put_back = true`; not somebody who can log in.
POLICY_USER = User("brickyard audit", frozenset({"approver"}))


class AuditReport(Reference):
    """What an audit looked at, found, and put back."""

    downstreams: tuple[str, ...]
    found: tuple[Disagreement, ...]
    put_back: tuple[Disagreement, ...] = ()

    @property
    def clean(self) -> bool:
        """Return whether the registry is as decided, now."""
        return set(self.found) == set(self.put_back)


def audited_tasks(settings: Settings) -> tuple[str, ...]:
    """Return the downstream tasks that may have aliases: registered here, or ever decided on."""
    decided = {item.downstream for item in read_events(settings)}
    return tuple(sorted(decided | set(DOWNSTREAM_TASKS)))


def find_disagreements(settings: Settings) -> tuple[Disagreement, ...]:
    """Return every alias that is not where the recorded decisions put it.

    Decisions that a crash cut short are carried out before, so that they are not reported.
    """
    promotion.settle_unfinished(settings)
    with one_at_a_time(settings):
        return disagreements(settings, audited_tasks(settings))


def audit_registry(settings: Settings, user: User | None = None) -> AuditReport:
    """Compare the registry with the decisions, and put back what a user or the policy says.

    Parameters
    ----------
    user : User, optional
        Puts back everything found, and must be allowed to decide. Without one, only downstream
        tasks whose policy says `put_back` are put right.

    Raises
    ------
    NotAllowed
        If that user may not decide.
    """
    if user is not None:
        user.must("decide")
    found, policies = find_disagreements(settings), read_policies(settings)
    put = []
    for item in found:
        actor = user or (POLICY_USER if policies.of(item.downstream).put_back else None)
        if actor is not None and promotion.put_back(settings, actor, item):
            put.append(item)
    return AuditReport(downstreams=audited_tasks(settings), found=found, put_back=tuple(put))


@task(name="audit-registry", cache_policy=NO_CACHE)
def audit() -> AuditReport:
    """Audit as a step of a flow: by the policy of the home, with a warning for every finding."""
    report = audit_registry(load_settings())
    for item in report.found:
        done = "; put back" if item in report.put_back else ""
        get_run_logger().warning("%s%s", item.sentence, done)
    return report
