"""What an ingest has to do: the units of a source, less those that are in the store as they are.

Nothing is read but names, sizes and times of files and the ledger rows of the units asked for, a
block at a time, so that looking through a whole survey takes little time and memory.
"""

from collections.abc import Iterator

import icechunk
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.brick_ledger import is_unchanged, ledger_of
from storage.repository import open_repository, read_session, repository_exists
from storage.schema import BrickState
from storage.survey_group import list_surveys
from tasks.accounts import present
from tasks.ingest_request import IngestRequest
from tasks.progress import report
from tasks.receipts import append_units
from tasks.references import Outcome, UnitReceipt

LOOKUP_UNITS = 4096  # units compared at a time: a few MB of ledger
_COLUMNS = ("state", "n_objects", "config_digest", "fingerprint")


@task(name="find-changes", cache_policy=NO_CACHE)
def find_changes(
    request: IngestRequest, wanted: list[str] | None, brick_list: str | None = None
) -> tuple[str, ...]:
    """Return the names of the units to ingest; the others are accounted for in the log.

    Parameters
    ----------
    wanted : list of str, optional
        Names of units; all of the source by default.
    brick_list : str, optional
        File with brick names, besides `wanted`.
    """
    units = request.source.list_units(wanted, brick_list)
    append_units(
        request.log,
        (
            UnitReceipt(name=name, outcome=Outcome.SKIPPED, verification="", message=why)
            for name, why in units.skipped.items()
        ),
    )
    session = _session(request)
    todo: list[str] = []
    for start in range(0, len(units.names), LOOKUP_UNITS):
        block = units.names[start : start + LOOKUP_UNITS]
        known = _known(session, request.survey, block)
        settled = {unit.name: unit for unit in _settled(request, block, known)}
        append_units(request.log, settled.values())
        todo += [name for name in block if name not in settled]
        report("units compared", start + len(block), len(units.names))
    return tuple(todo)


def _session(request: IngestRequest) -> icechunk.Session | None:
    if not repository_exists(request.repository):
        return None
    session = read_session(open_repository(request.repository))
    return session if request.survey in list_surveys(session) else None


def _known(session: icechunk.Session | None, survey: str, names: tuple[str, ...]) -> pd.DataFrame:
    if session is None:
        return pd.DataFrame(columns=list(_COLUMNS))
    return ledger_of(session, survey, names, _COLUMNS)


def _settled(
    request: IngestRequest, names: tuple[str, ...], known: pd.DataFrame
) -> Iterator[UnitReceipt]:
    """Yield receipts of units that need nothing: in the store and unchanged, or withdrawn."""
    if request.again or known.empty:
        return
    digest = request.source.config_digest()
    states = known["state"].to_dict()
    same = set(known.index[known["config_digest"] == digest])
    seen = request.source.fingerprints([name for name in names if name in same])
    for name in names:
        if states.get(name) == int(BrickState.WITHDRAWN):
            message = "withdrawn earlier: ingest it by name with --again to have it back"
            yield UnitReceipt(name=name, outcome=Outcome.SKIPPED, verification="", message=message)
        elif is_unchanged(known, name, seen.get(name, ""), digest):
            yield present(name, int(known.at[name, "n_objects"]))
