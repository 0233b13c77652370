"""The whole DAG in order, from bricks to a first catalogue: the first file to read.

It trains: an encoder, a candidate, a decision. What a survey in use needs from then on, night after
night, is in `flows.survey_cycle`.
"""

from prefect import flow

from flows.embed import embed_survey
from flows.finetune import finetune_downstream
from flows.ingest import ingest_bricks
from flows.model_parameters import DownstreamConfig, PretrainConfig
from flows.parameters import SplitConfig
from flows.predict import publish_catalogue
from flows.pretrain import pretrain_encoder
from flows.promote import promote_model
from tasks.labels import LabelsReceipt, import_labels
from tasks.promotion import PromotionOutcome
from tasks.references import (
    CatalogueRef,
    EmbeddingsRef,
    EncoderRef,
    Evaluation,
    Receipt,
    Reference,
)
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot


class CycleTraining(Reference):
    """How a cycle trains; what is None is left to the defaults of the flow it belongs to."""

    pretrain: PretrainConfig | None = None
    finetune: DownstreamConfig | None = None
    split: SplitConfig | None = None


class CycleResult(Reference):
    """What a cycle made; `catalogue` is None when nothing is approved for the downstream task."""

    receipt: Receipt
    labels: LabelsReceipt
    encoder: EncoderRef
    embeddings: EmbeddingsRef
    evaluation: Evaluation
    outcome: PromotionOutcome
    catalogue: CatalogueRef | None


@flow(name="training-cycle")
def run_training_cycle(
    source: str,
    label_tables: list[str],
    survey: str = "dr10/south",
    downstream: str = "morphology",
    training: CycleTraining | None = None,
    decision_seconds: int = 7 * 24 * 3600,
) -> CycleResult:
    """Bricks → cutouts → encoder → embeddings → candidate → a person's decision → catalogue.

    Parameters
    ----------
    source : str
        Folder of a release.
    label_tables : list of str
        Tables of votes or answers about objects of the survey.
    survey : str
        `<release>/<region>` in the store.
    downstream : str
        Downstream task to fine-tune, promote and predict with.
    training : CycleTraining, optional
        How the encoder and the downstream model are made.
    decision_seconds : int
        How long the hold waits; no decision by then counts as a rejection.
    """
    settings, training = load_settings(), training or CycleTraining()
    release, region = survey.split("/")
    receipt = ingest_bricks(source=source, release=release, region=region)
    snapshot = find_snapshot(settings, survey, receipt.snapshot_id)
    labels = import_labels(settings, snapshot, label_tables, downstream, "imported")
    encoder = pretrain_encoder(survey, training.pretrain, snapshot.snapshot_id)
    embeddings, _ = embed_survey(survey, encoder, snapshot.snapshot_id)
    evaluation = finetune_downstream(
        downstream, encoder, embeddings, training.finetune, training.split
    )
    outcome = promote_model(
        downstream=downstream, challenger=evaluation.model, timeout_seconds=decision_seconds
    )
    catalogue = (
        publish_catalogue(downstream, survey, snapshot.snapshot_id) if outcome.champion else None
    )
    return CycleResult(
        receipt=receipt,
        labels=labels,
        encoder=encoder,
        embeddings=embeddings,
        evaluation=evaluation,
        outcome=outcome,
        catalogue=catalogue,
    )
