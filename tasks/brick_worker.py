"""What a worker does to ingest a unit: plan it, or read it and write it into its rows.

Imports no Prefect: thousands of workers start with this module.
"""

from dataclasses import dataclass, replace
from typing import Any

import icechunk

from storage.brick_store import RowRange, write_cutouts
from tasks.accounts import account_of
from tasks.ingest_request import IngestRequest
from tasks.logs import about
from tasks.sources import UnitPlan


@dataclass(frozen=True)
class Written:
    """What a worker sends back of a unit: its fork and the account, no pixels."""

    session: icechunk.ForkSession
    objects: int
    digest: str
    account: dict[str, Any]


def survey_unit(request: IngestRequest, name: str) -> UnitPlan:
    """Plan one unit; runs on a worker. One whose objects only its pixels tell is read for it."""
    with about(survey=request.survey, brick=name):
        plan = request.source.survey(name)
        if plan.status == "ready" and plan.n_objects < 0:
            found = request.source.read(name)
            return replace(plan, n_objects=found.dataset.sizes["object"], digest=found.digest)
        return plan


def write_unit(
    session: icechunk.ForkSession, request: IngestRequest, name: str, rows: RowRange
) -> Written:
    """Read one unit and write it into its rows; runs on a worker."""
    with about(survey=request.survey, brick=name):
        found = request.source.read(name)
        objects = int(found.dataset.sizes["object"])
        write_cutouts(session, request.survey, rows, found.dataset)
    return Written(session, objects, found.digest, account_of(found))
