"""Whether the registry's aliases are where people's decisions put them."""

from prefect import flow

from tasks.audit import AuditReport, audit


@flow(name="audit")
def audit_models() -> AuditReport:
    """Compare aliases with decisions, put back what the policy says, and report the rest."""
    return audit()
