"""A survey in use: ingest what is new, embed and predict what that makes stale, publish.

Nothing is trained here. Every step finds by itself what is done, so a cycle that was killed is run
again and goes on where it was; one with nothing to do takes seconds. Training, from bricks to a
first champion, is in `flows.training_cycle`.
"""

from prefect import flow
from pydantic import Field

from flows.embed import embed_survey
from flows.ingest import ingest_bricks
from flows.model_parameters import ForwardConfig
from flows.parameters import IngestConfig, IngestRun
from flows.predict import predict_stale
from storage.catalogue_export import FORMATS
from tasks.drift import measure_drift
from tasks.embedded import NothingEmbedded
from tasks.encoders import NotEmbedded
from tasks.open_lineage import HOOKS
from tasks.publication import examine, propose, publish
from tasks.references import CatalogueRef, EncoderRef, ModelRef, Receipt, Reference
from tasks.release_decisions import Hold, ReleaseRefused, open_case, wait_for_decision
from tasks.release_diff import ReleaseDiff, ReleaseLimits
from tasks.releases import newest_release, releases_folder
from tasks.reprocessing import CycleRecord, begin_cycle, cycle_record, timed
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot

WEEK_SECONDS = 7 * 24 * 3600
DRIFT_OBJECTS = 100  # on both sides; the test exchanges whole bricks and needs some objects in each


class CycleConfig(Reference):
    """How a cycle works; what is None is left to the defaults of the flow it belongs to.

    Parameters
    ----------
    ingest, run : IngestConfig, IngestRun
        What is cut out of the bricks, and how; give those that the survey was made with.
    forward : ForwardConfig
        How encoders are applied.
    encoder : str
        Embed with this one; by default with those that the champions were made with.
    limits : ReleaseLimits
        What may change between two releases before a person must look.
    drift : bool
        Compare the embeddings with those of the release before; an alarm counts as a limit.
    formats : tuple of str
        Of `storage.catalogue_export.FORMATS`.
    hold : {"poll", "suspend"}
        How a release that passed a limit waits; "suspend" needs a deployment.
    hold_seconds : int
        No decision by then rejects it.
    """

    ingest: IngestConfig | None = None
    run: IngestRun | None = None
    forward: ForwardConfig | None = None
    encoder: str = ""
    limits: ReleaseLimits = ReleaseLimits()
    drift: bool = True
    formats: tuple[str, ...] = FORMATS
    hold: Hold = "poll"
    hold_seconds: int = Field(default=WEEK_SECONDS, gt=0)


class CycleResult(Reference):
    """What a cycle did; `refused` are the releases that were not let pass, and why."""

    record: CycleRecord
    receipt: Receipt | None
    embedded: tuple[Receipt, ...]
    catalogues: tuple[CatalogueRef, ...]
    refused: tuple[str, ...]


@flow(name="survey-cycle", flow_run_name="cycle of {survey}", **HOOKS)
def run_survey_cycle(
    source: str = "",
    survey: str = "dr10/south",
    downstreams: list[str] | None = None,
    config: CycleConfig | None = None,
) -> CycleResult:
    """Bring a survey, its embeddings and its catalogues up to date.

    Parameters
    ----------
    source : str
        Folder or address of a release; without one, only what is in the store is worked on.
    survey : str
        `<release>/<region>` in the store.
    downstreams : list of str, optional
        Those to predict; all that have a champion by default.
    config : CycleConfig, optional
        How.
    """
    settings, config = load_settings(), config or CycleConfig()
    record, receipt = cycle_record(settings), None
    if record is None:
        receipt = ingest_new(source, survey, config)
        snapshot = find_snapshot(settings, survey, receipt.snapshot_id if receipt else None)
        record = begin_cycle(settings, snapshot, source, downstreams, config.encoder)
    embedded = tuple(embed_new(record, encoder, config) for encoder in record.encoders)
    catalogues, refused = [], []
    for model in record.champions:
        try:
            catalogues.append(release_catalogue(record, model, config))
        except ReleaseRefused as error:
            refused.append(str(error))
    return CycleResult(
        record=cycle_record(settings) or record,
        receipt=receipt,
        embedded=embedded,
        catalogues=tuple(catalogues),
        refused=tuple(refused),
    )


def ingest_new(source: str, survey: str, config: CycleConfig) -> Receipt | None:
    """Ingest what is new or changed in a source; None where there is no source."""
    if not source:
        return None
    release, region = survey.split("/")
    return ingest_bricks(
        source=source, release=release, region=region, config=config.ingest, run=config.run
    )


def embed_new(record: CycleRecord, encoder: EncoderRef, config: CycleConfig) -> Receipt:
    """Embed what an encoder has not embedded yet of the cycle's snapshot."""
    settings, snapshot = load_settings(), record.snapshot
    with timed(settings, record.cycle, "embed") as done:
        _, receipt = embed_survey(
            snapshot.survey, encoder, snapshot.snapshot_id, forward=config.forward
        )
        written = receipt.counts["written"]
        bricks = max(1, written + receipt.counts["already_present"])
        done.append((written, receipt.objects * written // bricks))  # near enough for a rate
    return receipt


def release_catalogue(record: CycleRecord, model: ModelRef, config: CycleConfig) -> CatalogueRef:
    """Predict what is stale and publish a release, after asking where a limit is passed.

    Raises
    ------
    ReleaseRefused
        If it was not let pass.
    """
    settings, snapshot = load_settings(), record.snapshot
    with timed(settings, record.cycle, "predict") as done:
        done.append(predict_stale(snapshot, model))
    proposal = propose(settings, snapshot, model, config.formats)
    if proposal.published:
        return publish(settings, proposal, None)
    found = examine(settings, proposal, config.limits)
    decision = ""
    if found is not None and config.drift:
        found = with_drift(record, model, found, proposal.rows)
    if found is not None and found.broken:
        folder = releases_folder(settings, snapshot.survey, model.downstream)
        names = (snapshot.survey, proposal.tag, proposal.digest)
        case = open_case(folder, found, names, config.hold_seconds)
        answer = wait_for_decision(case, config.hold)
        decision = answer.sentence
        if not answer.approve:
            raise ReleaseRefused(f"{proposal.tag} was {decision}")
    with timed(settings, record.cycle, "publish") as done:
        reference = publish(settings, proposal, found, decision)
        done.append((proposal.bricks, proposal.rows))
    return reference


def with_drift(record: CycleRecord, model: ModelRef, found: ReleaseDiff, rows: int) -> ReleaseDiff:
    """Return the differences with an alarm of the embeddings, where there are any to compare."""
    settings, snapshot = load_settings(), record.snapshot
    newest = newest_release(settings, snapshot.survey, model.downstream)
    if newest is None or newest.snapshot.snapshot_id == snapshot.snapshot_id:
        return found
    if min(newest.rows, rows) < DRIFT_OBJECTS:
        return found  # too few to say anything
    sides = [f"{snapshot.survey}@{one.snapshot_id}" for one in (newest.snapshot, snapshot)]
    broken = []
    for encoder in record.encoders:
        try:
            drift = measure_drift(settings, encoder, *sides)
        except (NotEmbedded, NothingEmbedded):
            continue  # an encoder that came after the release before
        broken += [drift.verdict] if drift.alarm else []
    return found.model_copy(update={"broken": (*found.broken, *broken)})
