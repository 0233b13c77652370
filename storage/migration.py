"""Rewrite a survey of an older schema in the present one, as new snapshots of the same repository.

Two older forms exist. Schema 1 had no history of bricks, no fingerprints, and pixels as float16
with the float32 remainder in ``image_excess``; early stores of schema 2 have its ledger, but still
such pixels. The rewriting happens on a branch of its own, brick by brick: readers see the old form
until the branch becomes ``main`` in one step, and a migration that was killed goes on with the
bricks that are not there yet. The old snapshots stay, under a tag, for the version of Brickyard
that wrote them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import icechunk
import numpy as np
import pandas as pd
import xarray as xr

from storage import arrays, ledger_table
from storage.brick_rows import RowRange
from storage.brick_store import write_cutouts
from storage.errors import StorageError
from storage.ledger_table import KEYS
from storage.repository import BRANCH, raise_when_full, read_session, tag_snapshot
from storage.schema import (
    OBJECT_COLUMNS,
    SCHEMA_VERSION,
    SHARD_ROWS,
    BrickState,
    SurveyLayout,
    history_specs,
    ledger_specs,
    survey_specs,
)
from storage.snapshot_tags import SURVEY_METADATA, tag_newest
from storage.survey_group import (
    CONFIGURATIONS,
    HISTORY,
    LEDGER,
    create_survey,
    layout_of,
    list_surveys,
)

MIGRATION_BRANCH = "migration"
BASE_METADATA = "migrates"  # of the commits on the branch: the snapshot that is rewritten
BRICKS_A_COMMIT = 64
_BLOCK_ROWS = 8 * SHARD_ROWS  # 512 cutouts of 3 x 152 x 152 float32 are 142 MB an array

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class MigrationPlan:
    """A survey in an older form: which, how many bricks, how many of them are rewritten."""

    survey: str
    schema: str
    bricks: int
    done: int
    tag: str = ""


def plan_migrations(repository: icechunk.Repository) -> list[MigrationPlan]:
    """Return the surveys of the newest snapshot that are in an older form.

    Raises
    ------
    StorageError
        When a survey has a schema that is newer than this code.
    """
    session = read_session(repository)
    plans = []
    for survey in list_surveys(session):
        schema = schema_of(session, survey)
        if schema != str(SCHEMA_VERSION):
            total = len(_old_ledger(session, survey))
            base = repository.lookup_branch(BRANCH)
            done = _rewritten(repository, survey) if _begun(repository, survey, base) else []
            plans.append(MigrationPlan(survey, schema, total, len(done)))
    return plans


def schema_of(session: icechunk.Session, survey: str) -> str:
    """Return "1", "2 with float16 pixels" or the present schema, "2".

    Raises
    ------
    StorageError
        When it is none of these.
    """
    group = arrays.open_group(session, survey)
    version = group.attrs.asdict().get("schema_version")
    if version not in (1, SCHEMA_VERSION):
        raise StorageError(
            f"survey {survey!r} has schema {version}, this code knows 1 to {SCHEMA_VERSION}: "
            "install the version of Brickyard that wrote it, or a newer one"
        )
    excess = version == SCHEMA_VERSION and "image_excess" in group
    return f"{version} with float16 pixels" if excess else str(version)


def migrate_survey(
    repository: icechunk.Repository,
    survey: str,
    *,
    bricks_per_commit: int = BRICKS_A_COMMIT,
    tell: Told | None = None,
) -> MigrationPlan:
    """Rewrite one survey; a run that was killed is taken up where its last commit left it.

    Rows, states, digests and receipts stay, so embeddings stay valid. Pixels are rounded as new
    ones are, which moves them by far less than the float16 of the old form did. Hold
    `storage.repository.writer_lock` meanwhile.

    Parameters
    ----------
    tell : callable, optional
        Given the bricks that are done, and all of them, after every commit.

    Returns
    -------
    MigrationPlan
        With the tag of the new snapshot; of a survey in the present form nothing is rewritten.
    """
    settled = settle_migration(repository)
    base = repository.lookup_branch(BRANCH)
    old = read_session(repository, snapshot=base)
    schema = schema_of(old, survey)
    if schema == str(SCHEMA_VERSION):
        return MigrationPlan(survey, schema, 0, 0, settled)
    table = _old_ledger(old, survey)
    if not _begun(repository, survey, base):
        _begin(repository, old, survey, base)
    done = set(_rewritten(repository, survey))
    waiting = [str(name) for name in table.index if name not in done]
    for first in range(0, len(waiting), bricks_per_commit):
        names = waiting[first : first + bricks_per_commit]
        with _on_branch(repository, survey, base, f"{len(names)} bricks") as session:
            for place in table.loc[names].to_dict("records"):
                _rewrite(old, session, survey, place)
            _copy_rows(session, f"{survey}/{LEDGER}", table.loc[names])
        done.update(names)
        if tell is not None:
            tell(len(done), len(table))
    _finish(repository, survey, base, table)
    return MigrationPlan(survey, schema, len(table), len(table), settle_migration(repository))


def _begun(repository: icechunk.Repository, survey: str, base: str) -> bool:
    """Say whether the branch rewrites this survey of this very snapshot."""
    if MIGRATION_BRANCH not in repository.list_branches():
        return False
    newest = next(iter(repository.ancestry(branch=MIGRATION_BRANCH)))
    found = (newest.metadata.get(BASE_METADATA), newest.metadata.get(SURVEY_METADATA))
    return found == (base, survey)


def _begin(repository: icechunk.Repository, old: icechunk.Session, survey: str, base: str) -> None:
    """Put an empty survey of the present schema, as long as the old one, on the branch."""
    group = arrays.open_group(old, survey)
    layout, length = layout_of(group), arrays.get_array(group, "objid").shape[0]
    if MIGRATION_BRANCH in repository.list_branches():  # of a snapshot that is no longer the newest
        repository.delete_branch(MIGRATION_BRANCH)
    repository.create_branch(MIGRATION_BRANCH, base)
    with _on_branch(repository, survey, base, "begin") as session:
        arrays.delete_group(session, survey)
        create_survey(session, survey, layout)
        new = arrays.open_group(session, survey, "r+")
        arrays.grow(new, [spec.name for spec in survey_specs(layout)], length)
        known = arrays.open_group(old, f"{survey}/{LEDGER}").attrs.asdict()
        if CONFIGURATIONS in known:
            ledger = arrays.open_group(session, f"{survey}/{LEDGER}", "r+")
            ledger.attrs[CONFIGURATIONS] = known[CONFIGURATIONS]
        if arrays.group_exists(old, f"{survey}/{HISTORY}"):
            columns = [spec.name for spec in history_specs() if spec.name not in KEYS]
            history = ledger_table.read_ledger(old, f"{survey}/{HISTORY}", columns)
            _copy_rows(session, f"{survey}/{HISTORY}", history)


def _finish(repository: icechunk.Repository, survey: str, base: str, table: pd.DataFrame) -> None:
    """Make the branch the main one, in one step."""
    with _on_branch(repository, survey, base, "check") as session:
        new = _old_ledger(session, survey)
        if list(new.index) != list(table.index) or not new.equals(table):
            raise StorageError(
                f"the rewritten ledger of {survey!r} differs from the old one; nothing was "
                "changed. Delete the branch 'migration' of the repository and report this"
            )
        arrays.open_group(session, survey, "r+").attrs["migrated_from"] = base
    newest = repository.lookup_branch(MIGRATION_BRANCH)
    repository.reset_branch(BRANCH, newest, from_snapshot_id=base)


def settle_migration(repository: icechunk.Repository) -> str:
    """Tag the snapshots before and after a migration, remove its branch; return the latter tag.

    Empty, and nothing happens, unless the branch is the newest snapshot: then a migration has just
    ended, or was killed at its last step.
    """
    if MIGRATION_BRANCH not in repository.list_branches():
        return ""
    newest = next(iter(repository.ancestry(branch=MIGRATION_BRANCH)))
    if newest.id != repository.lookup_branch(BRANCH):
        return ""
    survey, base = str(newest.metadata[SURVEY_METADATA]), str(newest.metadata[BASE_METADATA])
    schema = schema_of(read_session(repository, snapshot=base), survey).split()[0]
    tag_snapshot(repository, f"{survey.replace('/', '-')}-schema-{schema}", base)
    tag = tag_newest(repository, survey)
    repository.delete_branch(MIGRATION_BRANCH)
    return tag


def _rewritten(repository: icechunk.Repository, survey: str) -> list[str]:
    session = repository.readonly_session(MIGRATION_BRANCH)
    table = ledger_table.read_ledger(session, f"{survey}/{LEDGER}", ["state"])
    return [str(name) for name in table.index]


def _old_ledger(session: icechunk.Session, survey: str) -> pd.DataFrame:
    """Return the ledger of any form with the columns of the present one."""
    path = f"{survey}/{LEDGER}"
    group = arrays.open_group(session, path)
    specs = {spec.name: spec for spec in ledger_specs() if spec.name not in KEYS}
    table = ledger_table.read_ledger(session, path, [name for name in specs if name in group])
    for name, spec in specs.items():
        if name not in group:
            table[name] = spec.fill  # fingerprint, verification: not known then
    return table[list(specs)]


def _copy_rows(session: icechunk.Session, path: str, table: pd.DataFrame) -> None:
    rows = table.to_dict("index").items()
    named = {str(name): {str(key): value for key, value in row.items()} for name, row in rows}
    ledger_table.upsert(session, path, named)


def _rewrite(
    old: icechunk.Session, new: icechunk.Session, survey: str, row: Mapping[Any, Any]
) -> None:
    """Copy the cutouts of one brick, a few shards at a time, into the rows that it had."""
    if int(row["state"]) != int(BrickState.WRITTEN):
        return
    start, rows, count = (int(row[name]) for name in ("row_start", "rows", "n_objects"))
    for first in range(0, rows, _BLOCK_ROWS):
        length = min(_BLOCK_ROWS, rows - first)
        objects = max(0, min(length, count - first))
        block = _read_block(old, survey, start + first, objects)
        write_cutouts(new, survey, RowRange(start + first, length), block)


def _read_block(session: icechunk.Session, survey: str, start: int, count: int) -> xr.Dataset:
    """Return objects of the old form as `write_cutouts` takes them, pixels joined."""
    group = arrays.open_group(session, survey)
    layout = layout_of(group)

    def rows(name: str) -> Any:
        return arrays.read_rows(arrays.get_array(group, name), start, start + count)

    image = rows("image").astype(np.float32) + rows("image_excess")
    return xr.Dataset(
        {
            "image": (("object", "band", "y", "x"), image),
            "invvar": (("object", "band", "y", "x"), rows("invvar")),
            "maskbits": (("object", "y", "x"), rows("maskbits")),
            "catalogue": (("object", "column"), rows("catalogue")),
            **{name: ("object", rows(name)) for name in OBJECT_COLUMNS},
        },
        coords=_labels(layout),
    )


def _labels(layout: SurveyLayout) -> dict[str, list[str]]:
    return {"band": list(layout.bands), "column": list(layout.columns)}


@contextmanager
def _on_branch(
    repository: icechunk.Repository, survey: str, base: str, what: str
) -> Iterator[icechunk.Session]:
    """Commit on the branch what the block did; the commit names the snapshot that is rewritten."""
    session = repository.writable_session(MIGRATION_BRANCH)
    try:
        yield session
        metadata = {BASE_METADATA: base, SURVEY_METADATA: survey}
        session.commit(f"migrate {survey}: {what}", metadata)
    except icechunk.IcechunkError as error:
        raise_when_full(error)
        raise
