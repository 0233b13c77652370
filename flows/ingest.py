"""Bricks, or a folder of pictures, into the store: a commit per partition, a receipt per brick."""

from prefect import flow

from flows.parameters import ImageFolderConfig, IngestConfig, IngestRun
from tasks.brick_sources import open_bricks
from tasks.bricks import close_ingest, ingest_lock, ingest_partition, partitions
from tasks.changes import find_changes
from tasks.cluster import open_cluster
from tasks.image_source import ImageSource
from tasks.ingest_request import IngestRequest
from tasks.open_lineage import HOOKS
from tasks.receipts import new_log
from tasks.references import Receipt
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot
from tasks.withdrawal import Withdrawal, withdraw


@flow(name="ingest-bricks", **HOOKS)
def ingest_bricks(
    source: str,
    release: str = "dr10",
    region: str = "south",
    bricks: list[str] | None = None,
    config: IngestConfig | None = None,
    run: IngestRun | None = None,
) -> Receipt:
    """Read bricks, check them, cut out their galaxies and commit them to the store.

    Parameters
    ----------
    source : str
        Folder of a release, of a region or of single bricks; or the address of a release
        (https://, s3://).
    release, region : str
        Name the survey in the store: `<release>/<region>`.
    bricks : list of str, optional
        Brick names; all that are found in `source` by default.
    config : IngestConfig, optional
        Bands, selection, cutouts, checks.
    run : IngestRun, optional
        Bricks in a commit, a file of brick names, whether to ingest again what is there, the tag.
    """
    settings, run = load_settings(), run or IngestRun()
    request = IngestRequest(
        store=settings.store_path,
        survey=f"{release}/{region}",
        source=open_bricks(
            settings, source, (release, region), config or IngestConfig(), run.fetch
        ),
        log=new_log(settings, f"{release}/{region}"),
        again=run.again,
    )
    with ingest_lock(request):
        changes = find_changes(request, bricks, run.brick_list)
        with open_cluster(settings, needed=bool(changes)) as scheduler:
            for part in partitions(changes, run.bricks_per_commit):
                ingest_partition(scheduler, request, part)
        return close_ingest(request, run.tag)


@flow(name="ingest-images", **HOOKS)
def ingest_images(
    folder: str,
    name: str,
    labels: str | None = None,
    config: ImageFolderConfig | None = None,
) -> Receipt:
    """Read a folder of colour JPEG or PNG cutouts, with their labels, into the store.

    Parameters
    ----------
    folder : str
        Folder of pictures.
    name : str
        The survey in the store becomes `images/<name>`.
    labels : str, optional
        Table (CSV) with a column that names the pictures, and labels or votes.
    config : ImageFolderConfig, optional
        Size, columns, filter.
    """
    from tasks.labels import import_image_labels  # of use here alone, and loads torch

    settings, survey = load_settings(), f"images/{name}"
    source = ImageSource(
        folder=folder, name=name, labels=labels, config=config or ImageFolderConfig()
    )
    log = new_log(settings, survey)
    request = IngestRequest(store=settings.store_path, survey=survey, source=source, log=log)
    with ingest_lock(request):
        blocks = find_changes(request, None)
        with open_cluster(settings) as scheduler:
            for part in partitions(blocks, 8):
                ingest_partition(scheduler, request, part)
        receipt = close_ingest(request)
    if labels:
        snapshot = find_snapshot(settings, request.survey, receipt.snapshot_id)
        import_image_labels(settings, snapshot, folder, labels, source.config)
    return receipt


@flow(name="withdraw-bricks")
def withdraw_bricks(survey: str, bricks: list[str], reason: str) -> Withdrawal:
    """Take bricks out of a survey by name; snapshots that have them stay readable.

    Parameters
    ----------
    survey : str
        `<release>/<region>` in the store.
    bricks : list of str
        Names of bricks; later ingests leave them out until they are told to take them again.
    reason : str
        Why; kept in the ledger.
    """
    return withdraw(load_settings(), survey, bricks, reason)
