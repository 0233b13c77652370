"""The champion over a snapshot, as a Parquet catalogue."""

from prefect import flow

from tasks.cluster import open_cluster
from tasks.prediction import find_champion, publish_predictions
from tasks.references import CatalogueRef
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot


@flow(name="publish-catalogue")
def publish_catalogue(downstream: str, survey: str, snapshot_id: str | None = None) -> CatalogueRef:
    """Apply the approved model of a downstream task to every object of a survey.

    Parameters
    ----------
    downstream : str
        Name of a registered downstream task; it must have a champion.
    survey : str
        Such as "dr10/south".
    snapshot_id : str, optional
        Snapshot of the cutouts; the newest by default.
    """
    settings = load_settings()
    snapshot = find_snapshot(settings, survey, snapshot_id)
    model = find_champion(settings, downstream)
    with open_cluster(settings) as scheduler:
        return publish_predictions(settings, scheduler, snapshot, model)
