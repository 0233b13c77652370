"""Encoder and snapshot to embeddings: only what is missing or outdated."""

from prefect import flow

from flows.model_parameters import ForwardConfig
from tasks.bricks import partitions
from tasks.cluster import open_cluster
from tasks.embedding import EmbedRun, close_embedding, embed_partition, plan_embedding
from tasks.events import tell_embedded
from tasks.open_lineage import HOOKS
from tasks.receipts import new_log
from tasks.references import EmbeddingsRef, EncoderRef, Receipt
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot


@flow(name="embed-survey", **HOOKS)
def embed_survey(
    survey: str,
    encoder: EncoderRef,
    snapshot_id: str | None = None,
    bricks_per_commit: int = 256,
    forward: ForwardConfig | None = None,
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
        Bricks whose embeddings become visible together; a killed run loses at most these.
    forward : ForwardConfig, optional
        Batch size, device, precision, compilation.
    """
    settings = load_settings()
    snapshot = find_snapshot(settings, survey, snapshot_id)
    run = EmbedRun(snapshot, encoder, new_log(settings, survey), forward or ForwardConfig())
    names = plan_embedding(snapshot, encoder)
    with open_cluster(settings, needed=bool(names)) as scheduler:
        for part in partitions(names, bricks_per_commit):
            embed_partition(scheduler, run, part)
    embeddings, receipt = close_embedding(run, names)
    tell_embedded(embeddings, receipt)
    return embeddings, receipt
