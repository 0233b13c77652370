"""Take bricks out of a survey by name: their rows become padding, their history stays."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.brick_ledger import BrickRecord, ledger_of, record_bricks
from storage.bricks import brick_from_name
from storage.errors import StorageError
from storage.repository import (
    SURVEY_REPOSITORY,
    open_repository,
    repository_place,
    transaction,
    writer_lock,
)
from storage.schema import BrickState
from storage.snapshot_tags import SURVEY_METADATA, tag_newest
from storage.survey_group import list_surveys
from tasks.references import Reference
from tasks.settings import Settings


class Withdrawal(Reference):
    """What was withdrawn: bricks, the objects they had, and the snapshot without them."""

    survey: str
    bricks: tuple[str, ...]
    objects: int
    tag: str


@task(name="withdraw", cache_policy=NO_CACHE)
def withdraw(settings: Settings, survey: str, bricks: list[str], reason: str) -> Withdrawal:
    """Withdraw bricks in one commit; all of them or none.

    Raises
    ------
    StorageError
        If no reason is given, the survey is not in the store, or a name is no brick of the sky.
    """
    if not reason.strip():
        raise StorageError("a withdrawal needs a reason: it is kept in the ledger")
    repository_path = repository_place(settings.store_path, SURVEY_REPOSITORY)
    with writer_lock(repository_path, what=f"withdraw bricks of {survey}"):
        repository = open_repository(repository_path)
        metadata = {SURVEY_METADATA: survey}
        message = f"{len(bricks)} bricks of {survey} withdrawn: {reason}"
        with transaction(repository, message, metadata) as session:
            if survey not in list_surveys(session):
                raise StorageError(
                    f"survey {survey!r} is not in the store; see `brickyard surveys`"
                )
            known = ledger_of(session, survey, bricks)
            objects = int(known["n_objects"].sum())
            record_bricks(session, survey, [_record(name, reason) for name in bricks])
        return Withdrawal(
            survey=survey,
            bricks=tuple(bricks),
            objects=objects,
            tag=tag_newest(repository, survey),
        )


def _record(brickname: str, reason: str) -> BrickRecord:
    brickid = brick_from_name(brickname).brickid
    receipt = {"message": f"withdrawn: {reason}"}
    return BrickRecord(brickname, brickid, BrickState.WITHDRAWN, receipt=receipt)
