"""What is put into an evidence packet besides the metrics: drift, figures, and their digests."""

import pytest
from embedded_survey import DIGEST, SURVEY, clustered, embed_bricks, make_survey
from promotion_gate import evaluation

from storage.brick_store import BrickRecord, RowRange, ledger, record_bricks
from storage.repository import open_repository, read_session, snapshot_id, transaction
from storage.schema import BrickState
from tasks import tracking as registry
from tasks.decisions import evidence_digest
from tasks.evidence_drift import MeasuredDrift, drift_evidence
from tasks.evidence_figures import KEPT, NoSuchFigure, keep_evidence, read_figure
from tasks.policies import PromotionPolicy, broken_limits, drift_alarm
from tasks.references import DatasetRef, DriftEvidence, EvidencePacket, SnapshotRef

COUNT = 30
OTHER = "f" * 64


def register(settings, digit, snapshot, encoder=DIGEST):
    """Register a version that says what it was trained on, with one figure."""
    dataset = DatasetRef(
        downstream="morphology",
        snapshot=SnapshotRef(store=settings.store_path, survey=SURVEY, snapshot_id=snapshot),
        healpix_order=12,
        fractions=(0.7, 0.1, 0.2),
        salt="",
        border_arcsec=0.0,
    )
    with registry.start_run(settings, experiment="finetune", run_name=digit) as run:
        run.log_json("model/config.json", {"made": digit})
        run.log_json("dataset.json", dataset)
        run.log_text("figures/confusion.png", f"picture of {digit}")
    return registry.register_candidate(
        settings,
        "morphology",
        run_id=run.run_id,
        artifact="model",
        digest=digit * 64,
        tags={"encoder_digest": encoder} if encoder else {},
    )


def newest(settings):
    return snapshot_id(open_repository(settings.home / "store" / "survey"))


@pytest.fixture
def bricks(tracking):
    return make_survey(tracking, 2, 2, COUNT)


def ingest_again(settings, bricks):
    """Record the bricks with other content; return the snapshot before."""
    before = newest(settings)
    repository = open_repository(settings.home / "store" / "survey")
    table = ledger(read_session(repository), SURVEY)
    records = [
        BrickRecord(
            brick.brickname,
            brick.brickid,
            BrickState.WRITTEN,
            RowRange(
                int(table.at[brick.brickname, "row_start"]), int(table.at[brick.brickname, "rows"])
            ),
            COUNT,
            content_digest="other",
        )
        for brick in bricks
    ]
    with transaction(repository, "again") as session:
        record_bricks(session, SURVEY, records)
    return before


@pytest.mark.parametrize(("offset", "alarm"), [(0.0, False), (2.0, True)])
def test_drift_between_the_two_snapshots_is_measured(tracking, bricks, offset, alarm):
    values = clustered(bricks, COUNT)
    embed_bricks(tracking, values)
    before = ingest_again(tracking, bricks)
    embed_bricks(tracking, {name: vectors + offset for name, vectors in values.items()})
    champion = register(tracking, "a", before)
    challenger = register(tracking, "b", newest(tracking))
    found = drift_evidence(tracking, challenger, champion)
    assert found.evidence.alarm is alarm
    assert found.evidence.sides == (f"{SURVEY}@{before}", f"{SURVEY}@{newest(tracking)}")
    assert found.evidence.sentence.startswith("DRIFT" if alarm else "No drift")
    assert {"separation", "p-value"} <= {row[0] for row in found.evidence.rows}
    assert found.page.startswith("<!doctype html>")
    assert found.picture.startswith(b"\x89PNG")

    packet = EvidencePacket(
        challenger=evaluation(challenger, 0.7), champion=evaluation(champion, 0.7)
    )
    kept = keep_evidence(tracking, packet, found)
    assert drift_alarm(kept) is alarm
    assert bool(broken_limits(kept, PromotionPolicy())) is alarm
    page = registry.read_artifact(tracking, challenger.run_id, kept.drift.report)
    assert found.evidence.sentence[:20] in page


def test_drift_that_cannot_be_measured_is_unknown_and_says_why(tracking, bricks):
    first = newest(tracking)
    champion, same = (register(tracking, digit, first) for digit in "ab")
    assert "no champion" in drift_evidence(tracking, same, None).evidence.sentence
    assert "one snapshot" in drift_evidence(tracking, same, champion).evidence.sentence
    ingest_again(tracking, bricks)
    later = register(tracking, "c", newest(tracking), encoder=OTHER)
    never = drift_evidence(tracking, later, champion).evidence
    assert never.alarm is None
    assert "has no embeddings by encoder" in never.sentence
    embed_bricks(tracking, clustered(bricks, COUNT), OTHER)  # only the newest snapshot
    half = drift_evidence(tracking, later, champion).evidence
    assert half.alarm is None
    assert OTHER[:12] in half.sentence
    assert DIGEST[:12] in half.sentence
    unsaid = register(tracking, "d", first, encoder="")
    assert (
        "no encoder is recorded"
        in drift_evidence(
            tracking, unsaid, register(tracking, "e", newest(tracking), encoder="")
        ).evidence.sentence
    )
    gone = register(tracking, "9", "NOSUCHSNAPSHOT000000")
    assert drift_evidence(tracking, gone, champion).evidence.alarm is None


def test_too_few_objects_leave_drift_unknown(tracking):
    bricks = make_survey(tracking, 1, 1, 5)
    embed_bricks(tracking, clustered(bricks, 5))
    before = newest(tracking)
    with transaction(open_repository(tracking.home / "store" / "survey"), "again") as session:
        row = ledger(session, SURVEY).loc[bricks[0].brickname]
        rows = RowRange(int(row["row_start"]), int(row["rows"]))
        again = BrickRecord(
            bricks[0].brickname, bricks[0].brickid, BrickState.WRITTEN, rows, 5, content_digest="x"
        )
        record_bricks(session, SURVEY, [again])
    embed_bricks(tracking, clustered(bricks, 5))
    models = register(tracking, "b", newest(tracking)), register(tracking, "a", before)
    found = drift_evidence(tracking, *models).evidence
    assert found.alarm is None
    assert "20 objects" in found.sentence


@pytest.fixture
def packet(tracking):
    challenger, champion = (register(tracking, digit, "SNAP") for digit in "ba")
    bare = EvidencePacket(
        challenger=evaluation(challenger, 0.7), champion=evaluation(champion, 0.6)
    )
    unknown = MeasuredDrift(DriftEvidence(alarm=None, sentence="nobody looked"))
    return keep_evidence(tracking, bare, unknown)


def test_the_digest_of_the_packet_covers_drift_and_figures(tracking, packet):
    assert packet.facts["drift_alarm"] == "unknown"
    assert packet.figures["champion"].keys() == {"confusion"}
    digests = {evidence_digest(packet)}
    for change in (
        {"drift": packet.drift.model_copy(update={"alarm": False})},
        {"facts": packet.facts | {"drift_alarm": "false"}},
        {"figures": packet.figures | {"champion": {"confusion": "0" * 64}}},
    ):
        digests.add(evidence_digest(packet.model_copy(update=change)))
    assert len(digests) == 4


def test_a_figure_stays_as_it_was_shown(tracking, packet):
    run = registry.open_run(tracking, packet.champion.model.run_id)
    run.log_text("figures/confusion.png", "another evaluation")
    assert read_figure(tracking, packet, "champion", "confusion") == b"picture of a"
    assert read_figure(tracking, packet, "challenger", "confusion") == b"picture of b"
    for side, name in (("champion", "none"), ("nobody", "confusion"), ("..", "../x")):
        with pytest.raises(NoSuchFigure, match="no figure"):
            read_figure(tracking, packet, side, name)


def test_a_figure_that_was_exchanged_or_lost_is_not_shown(tracking, packet):
    digest = packet.figures["challenger"]["confusion"]
    run = registry.open_run(tracking, packet.challenger.model.run_id)
    run.log_text(f"{KEPT}/{digest}.png", "forged")
    with pytest.raises(NoSuchFigure, match="not what it was"):
        read_figure(tracking, packet, "challenger", "confusion")
    run.log_text(f"{KEPT}/{digest}.png", "picture of b")
    assert read_figure(tracking, packet, "challenger", "confusion") == b"picture of b"
    lost = packet.model_copy(update={"figures": {"challenger": {"confusion": "0" * 64}}})
    with pytest.raises(NoSuchFigure, match="no longer keeps"):
        read_figure(tracking, lost, "challenger", "confusion")
