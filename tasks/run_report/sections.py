"""The sections of a report: each reads one part of an installation and says what it found."""

import base64
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from pydantic import Field

from storage.batches import read_cutouts
from storage.brick_store import read_layout, read_objects
from storage.catalogue import format_object_id, read_catalogue, read_metadata
from storage.quality.checks import check_survey
from storage.quality.documents import verdict
from storage.quality.pictures import draw_coverage, draw_depth_map
from storage.search.vectors import sample_vectors
from tasks.desk_pages_rounds import newest_catalogue
from tasks.embedded import open_embedded
from tasks.encoders import find_encoder
from tasks.errors import TaskError
from tasks.model_story import ModelStory, model_stories
from tasks.quality import report_path
from tasks.receipts import close_log
from tasks.references import BROKEN, CatalogueRef, ModelRef, Reference, SnapshotRef
from tasks.run_report.drawing import draw_intervals, draw_plane
from tasks.settings import Settings
from tasks.sheets import cutout_sheet, surest_sheet
from tasks.snapshots import open_snapshot

SHOWN_UNITS = 20
SHOWN_CUTOUTS = 12
SAMPLE = 3000  # vectors in the picture


class Section(Reference):
    """What a report says of one thing; `missing` is why it says nothing. Pictures are base64."""

    title: str
    lines: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    links: dict[str, str] = Field(default_factory=dict)
    pictures: dict[str, str] = Field(default_factory=dict)
    missing: str = ""


class NothingYet(TaskError, LookupError):
    """A part of the installation is empty."""


def receipt_section(settings: Settings, snapshot: SnapshotRef) -> Section:
    """Tell what the last run that read bricks did, from its log of receipts."""
    prefix = snapshot.survey.replace("/", "-")
    logs = sorted(settings.receipts_path.glob(f"{prefix}-2*.jsonl"))
    if not logs:
        raise NothingYet("no run has left a receipt in this home")
    receipt = close_log(str(logs[-1]), snapshot.survey, snapshot.snapshot_id)
    counts = ", ".join(f"{number} {name}" for name, number in receipt.counts.items() if number)
    reasons: Counter[str] = Counter()
    for unit in receipt.units:
        reasons.update(unit.without_cutout)
    lost = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    broken = [unit for unit in receipt.units if unit.outcome in BROKEN]
    return Section(
        title="What came in",
        lines=(
            f"{receipt.total} bricks in the last run ({logs[-1].name}): {counts or 'none'}; "
            f"{receipt.objects} objects.",
            f"Selected, but without a cutout: {lost or 'none'}.",
        ),
        headings=("brick", "outcome", "why"),
        rows=tuple((u.name, u.outcome.value, u.message) for u in broken[:SHOWN_UNITS]),
    )


def cutout_section(_settings: Settings, snapshot: SnapshotRef) -> Section:
    """Show some objects, spread evenly over the survey."""
    session = open_snapshot(snapshot)
    objects = read_objects(session, snapshot.survey, catalogue=False)
    if objects.empty:
        raise NothingYet(f"{snapshot.survey} has no objects")
    chosen = objects.iloc[np.linspace(0, len(objects) - 1, SHOWN_CUTOUTS, dtype=np.int64)]
    chosen = chosen.drop_duplicates("row")
    images = read_cutouts(session, snapshot.survey, chosen["row"].to_numpy(), ("image",))["image"]
    keys = zip(chosen["release"], chosen["brickid"], chosen["objid"], strict=True)
    captions = [format_object_id(*map(int, key)) for key in keys]
    bands = read_layout(session, snapshot.survey).bands
    with tempfile.TemporaryDirectory() as folder:
        sheet = cutout_sheet(images, bands, captions, Path(folder) / "sheet.png")
        picture = _encoded(sheet.read_bytes())
    lines = (f"{len(objects)} objects have a cutout, in {''.join(bands)}.",)
    return Section(title="Cutouts", lines=lines, pictures={"some of them": picture})


def quality_section(settings: Settings, snapshot: SnapshotRef) -> Section:
    """Check the survey, as `brickyard quality` does with its usual limits."""
    report = check_survey(open_snapshot(snapshot), snapshot.survey)
    pictures = {
        "bricks on the sky": draw_coverage(report.measurements, None),
        "depth": draw_depth_map(report.measurements),
    }
    whole = report_path(settings, snapshot)
    return Section(
        title="Quality",
        lines=(verdict(report),),
        headings=("check", "result", "found", "allowed"),
        rows=tuple((c.name, str(c.level), c.found, c.allowed) for c in report.checks),
        links={"the whole report": whole.as_uri()} if whole.is_file() else {},
        pictures={name: _encoded(data) for name, data in pictures.items() if data},
    )


def embedding_section(settings: Settings, snapshot: SnapshotRef) -> Section:
    """Show the embeddings by the newest encoder in the plane in which they differ most."""
    encoder = find_encoder(settings)
    source = open_embedded(settings, snapshot.survey, encoder)
    _, vectors = sample_vectors(source.vectors, source.rows, SAMPLE, 0)
    left = source.rows.left_out
    return Section(
        title="Embeddings",
        lines=(
            f"{source.rows.total} objects by encoder {encoder.digest[:16]}, {vectors.shape[1]} "
            f"values each; {left} bricks are without, or with outdated ones.",
        ),
        pictures={
            "first two principal components of a sample": _encoded(draw_plane(np.asarray(vectors)))
        },
    )


def model_section(settings: Settings, snapshot: SnapshotRef) -> Section:
    """Tell the story of the models that learned from this survey, and draw what they reach."""
    stories = [story for story in model_stories(settings) if story.survey == snapshot.survey]
    if not stories:
        raise NothingYet("no model was fitted on this survey")
    rows = tuple(
        (
            f"{story.downstream} {story.version}",
            ", ".join(story.aliases) or "-",
            _measure(story),
            str(story.training_objects),
            story.decision + (f" by {story.reviewer}" if story.reviewer else ""),
        )
        for story in stories
    )
    measured = {
        f"{story.downstream} {story.version}, {story.headline}": story.value
        for story in stories
        if story.value is not None
    }
    picture = {"test split, 95 % intervals": _encoded(draw_intervals(measured))} if measured else {}
    return Section(
        title="Models and decisions",
        headings=("model", "alias", "measure", "training objects", "decision"),
        rows=rows,
        pictures=picture,
    )


def catalogue_section(settings: Settings, snapshot: SnapshotRef) -> Section:
    """Count the answers of the newest catalogue of classes, and show the surest of each."""
    names = {story.downstream for story in model_stories(settings)} or {"morphology"}
    folders = [newest_catalogue(settings, snapshot.survey, name) for name in sorted(names)]
    found = [folder for folder in folders if folder is not None]
    if not found:
        raise NothingYet("no catalogue of this survey was published")
    folder = max(found, key=lambda item: str(read_metadata(item)["created_at"]))
    table, metadata = read_catalogue(folder)
    lines = (f"{len(table)} rows in {folder}.",)
    if "answer" not in table:
        return Section(title="Catalogue", lines=lines)
    counts = table["answer"].value_counts()
    return Section(
        title="Catalogue",
        lines=lines,
        headings=("answer", "objects", "share"),
        rows=tuple((str(n), str(c), f"{c / len(table):.1%}") for n, c in counts.items()),
        pictures={"the surest of each class": _surest(settings, snapshot, folder, metadata)},
    )


def _surest(
    settings: Settings, snapshot: SnapshotRef, folder: Path, metadata: dict[str, dict[str, str]]
) -> str:
    made = snapshot.model_copy(
        update={"store": settings.store_path, "snapshot_id": metadata["snapshot"]["snapshot_id"]}
    )
    path = str(folder / "catalogue.parquet")
    model = ModelRef(**{name: metadata["model"][name] for name in ModelRef.model_fields})
    reference = CatalogueRef(path=path, digest="", rows=0, model=model, snapshot=made)
    with tempfile.TemporaryDirectory() as scratch:
        return _encoded(surest_sheet(reference, Path(scratch) / "sheet.png").read_bytes())


def _measure(story: ModelStory) -> str:
    if story.value is None:
        return "not measured"
    value = story.value
    return f"{story.headline} {value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def _encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
