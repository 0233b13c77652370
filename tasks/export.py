"""The object table of a snapshot as a file for TOPCAT, astropy, pandas or LSDB."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.object_export import export_objects
from storage.repository import SURVEY_REPOSITORY, open_repository, read_session, repository_place
from tasks.provenance import code_version
from tasks.references import Reference, SnapshotRef


class ExportRef(Reference):
    """An exported object table: a file, or the folder of a HATS catalogue."""

    path: str
    rows: int
    columns: tuple[str, ...]
    snapshot: SnapshotRef


@task(name="export-table", cache_policy=NO_CACHE)
def export_table(
    snapshot: SnapshotRef,
    target: str,
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ExportRef:
    """Write the objects of a snapshot to a file; it appears whole or not at all.

    Parameters
    ----------
    target : str
        The ending decides: .parquet, .fits, .ecsv, or .hats for a folder.
    columns : sequence of str, optional
        All by default; identity and position always come.
    overwrite : bool
        Replace a target that exists.
    """
    repository = open_repository(repository_place(snapshot.store, SURVEY_REPOSITORY))
    plan = export_objects(
        read_session(repository, snapshot=snapshot.snapshot_id),
        snapshot.survey,
        target,
        columns=columns,
        overwrite=overwrite,
        creator=code_version(),
    )
    return ExportRef(path=str(target), rows=plan.rows, columns=plan.names, snapshot=snapshot)
