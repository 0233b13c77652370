"""Bricks, or a folder of pictures, into the store: a commit per partition, a receipt per brick."""

from prefect import flow

from flows.parameters import ImageFolderConfig, IngestConfig
from tasks.bricks import IngestRequest, close_ingest, ingest_partition, list_units, partitions
from tasks.cluster import open_cluster
from tasks.labels import import_image_labels
from tasks.references import Receipt
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot
from tasks.sources import BrickSource, ImageSource


@flow(name="ingest-bricks")
def ingest_bricks(
    source: str,
    release: str = "dr10",
    region: str = "south",
    bricks: list[str] | None = None,
    config: IngestConfig | None = None,
    bricks_per_commit: int = 64,
) -> Receipt:
    """Read bricks, check them, cut out their galaxies and commit them to the store.

    Parameters
    ----------
    source : str
        Folder of a release, of a region, or of single bricks.
    release, region : str
        Name the survey in the store: `<release>/<region>`.
    bricks : list of str, optional
        Brick names; all that are found in `source` by default.
    config : IngestConfig, optional
        Bands, selection, cutouts, checks.
    bricks_per_commit : int
        Bricks that become visible together; a killed run loses at most these.
    """
    settings = load_settings()
    request = IngestRequest(
        store=settings.store_path,
        survey=f"{release}/{region}",
        source=BrickSource(root=source, region=region, config=config or IngestConfig()),
    )
    names = list_units(request, bricks)
    with open_cluster(settings) as scheduler:
        parts = [
            ingest_partition(scheduler, request, part)
            for part in partitions(names, bricks_per_commit)
        ]
    return close_ingest(request, parts)


@flow(name="ingest-images")
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
    settings = load_settings()
    source = ImageSource(
        folder=folder, name=name, labels=labels, config=config or ImageFolderConfig()
    )
    request = IngestRequest(store=settings.store_path, survey=f"images/{name}", source=source)
    names = list_units(request, None)
    with open_cluster(settings) as scheduler:
        parts = [ingest_partition(scheduler, request, part) for part in partitions(names, 8)]
    receipt = close_ingest(request, parts)
    if labels:
        snapshot = find_snapshot(settings, request.survey, receipt.snapshot_id)
        import_image_labels(settings, snapshot, folder, labels, source.config)
    return receipt
