"""The champion over a snapshot, as a catalogue release."""

from prefect import flow

from tasks.bricks import partitions
from tasks.cluster import open_cluster
from tasks.open_lineage import HOOKS
from tasks.prediction import find_champion, plan_prediction, predict_partition
from tasks.publication import examine, propose, publish
from tasks.references import CatalogueRef, ModelRef, SnapshotRef
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot

BRICKS_PER_TASK = 1024


@flow(name="publish-catalogue", **HOOKS)
def publish_catalogue(downstream: str, survey: str, snapshot_id: str | None = None) -> CatalogueRef:
    """Apply the approved model of a downstream task to every object of a survey, and publish.

    Bricks that this model has predicted as they are now are not predicted again. Whoever runs this
    flow decides by that to publish: the differences from the release before are shown, not judged.

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
    predict_stale(snapshot, model)
    proposal = propose(settings, snapshot, model)
    return publish(settings, proposal, examine(settings, proposal))


def predict_stale(snapshot: SnapshotRef, model: ModelRef) -> tuple[int, int]:
    """Predict, inside a flow, what is stale; return the numbers of bricks and of objects."""
    settings = load_settings()
    names = plan_prediction(settings, snapshot, model)
    with open_cluster(settings, needed=bool(names)) as scheduler:
        objects = [
            predict_partition(settings, scheduler, snapshot, model, part)
            for part in partitions(names, BRICKS_PER_TASK)
        ]
    return len(names), sum(objects)
