"""Encoder and snapshot to embeddings: only what is missing or outdated."""

from prefect import flow

from tasks.bricks import partitions
from tasks.cluster import open_cluster
from tasks.embedding import close_embedding, embed_partition, plan_embedding
from tasks.references import EmbeddingsRef, EncoderRef, Receipt
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot


@flow(name="embed-survey")
def embed_survey(
    survey: str,
    encoder: EncoderRef,
    snapshot_id: str | None = None,
    bricks_per_commit: int = 256,
) -> tuple[EmbeddingsRef, Receipt]:
    """Embed every object of a survey that this encoder has not embedded yet.

    Parameters
    ----------
    survey : str
        Such as "dr10/south".
    encoder : EncoderRef
        Its digest is checked by every worker.
    snapshot_id : str, optional
        Snapshot of the cutouts; the newest by default.
    bricks_per_commit : int
        Bricks whose embeddings become visible together.
    """
    settings = load_settings()
    snapshot = find_snapshot(settings, survey, snapshot_id)
    names = plan_embedding(snapshot, encoder)
    with open_cluster(settings) as scheduler:
        parts = [
            embed_partition(scheduler, snapshot, encoder, part)
            for part in partitions(names, bricks_per_commit)
        ]
    return close_embedding(snapshot, encoder, tuple(unit for part in parts for unit in part))
