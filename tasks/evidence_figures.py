"""The figures of an evidence packet: kept under their digests, so that what was shown stays.

A run keeps its newest figures under one name, and the next evaluation replaces them. What a person
decides on is therefore copied to the challenger's run, each file named by its SHA-256; the packet
holds the digests, and its own digest covers them.
"""

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks import tracking
from tasks.embedded import REPORTS
from tasks.errors import TaskError
from tasks.evidence_drift import MeasuredDrift
from tasks.policies import ALARM_FACT, DRIFT_FACT
from tasks.references import EvidencePacket
from tasks.run_records import FIGURES
from tasks.settings import Settings
from tasks.tracking.kept import find_artifact
from tasks.whole_files import whole_file

KEPT = "evidence-figures"  # folder of the challenger's run, and of the copies in this home
DRIFT, DRIFT_PICTURE = "drift", "shifts"
DRIFT_PAGE = "drift.html"

_lock = threading.Lock()
_ALARMS = {True: "true", False: "false", None: "unknown"}


class NoSuchFigure(TaskError, LookupError):
    """A packet has no such figure, or it is no longer what the packet says it is."""


def keep_evidence(
    settings: Settings, packet: EvidencePacket, drift: MeasuredDrift
) -> EvidencePacket:
    """Return a packet with drift and figures in it; keep their files with the challenger's run."""
    run = tracking.open_run(settings, packet.challenger.model.run_id)
    evidence, files = drift.evidence, _run_figures(settings, packet)
    if drift.picture:
        files[DRIFT] = {DRIFT_PICTURE: drift.picture}
    if drift.page:
        name = hashlib.sha256("".join(evidence.sides).encode()).hexdigest()[:12]
        evidence = evidence.model_copy(update={"report": f"{DRIFT}/{name}-{DRIFT_PAGE}"})
        run.log_text(evidence.report, drift.page)
    facts = {ALARM_FACT: _ALARMS[evidence.alarm], DRIFT_FACT: evidence.sentence}
    digests = _keep(run, files)
    update = {"facts": packet.facts | facts, "drift": evidence, "figures": digests}
    return packet.model_copy(update=update)


def read_figure(settings: Settings, packet: EvidencePacket, side: str, name: str) -> bytes:
    """Return the PNG of a figure as it was when the evidence was put together.

    Raises
    ------
    NoSuchFigure
        If the packet has none of that name, or the file is gone or another.
    """
    digest = packet.figures.get(side, {}).get(name)
    if digest is None:
        raise NoSuchFigure(f"the evidence has no figure {name!r} of the {side}")
    path = settings.home.resolve() / REPORTS / KEPT / f"{digest}.png"
    content = path.read_bytes() if path.is_file() else _fetched(settings, packet, digest, path)
    if hashlib.sha256(content).hexdigest() != digest:
        path.unlink(missing_ok=True)
        raise NoSuchFigure(f"figure {name!r} of the {side} is not what it was: {digest[:12]}")
    return content


def _run_figures(settings: Settings, packet: EvidencePacket) -> dict[str, dict[str, bytes]]:
    """Return the figures that the runs of both models have now."""
    sides = {"challenger": packet.challenger, "champion": packet.champion}
    found = {}
    for side, evaluation in sides.items():
        if evaluation is None:
            continue
        with TemporaryDirectory() as folder:
            run_id = evaluation.model.run_id
            path = find_artifact(settings, run_id, FIGURES, Path(folder))
            files = sorted(path.glob("*.png")) if path else []
            found[side] = {file.stem: file.read_bytes() for file in files}
    return found


def _keep(run: tracking.Run, files: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, str]]:
    """Write files under their digests; return the digests."""
    digests: dict[str, dict[str, str]] = {}
    with TemporaryDirectory() as folder:
        for side, found in files.items():
            digests[side] = {}
            for name, content in found.items():
                digest = hashlib.sha256(content).hexdigest()
                (Path(folder) / f"{digest}.png").write_bytes(content)
                digests[side][name] = digest
        if any(digests.values()):
            run.log_artifacts(Path(folder), KEPT)
    return digests


def _fetched(settings: Settings, packet: EvidencePacket, digest: str, path: Path) -> bytes:
    """Copy a figure from the run into this home, where pages find it quickly."""
    run_id = packet.challenger.model.run_id
    with TemporaryDirectory() as folder:
        found = find_artifact(settings, run_id, f"{KEPT}/{digest}.png", Path(folder))
        if found is None:
            raise NoSuchFigure(f"run {run_id} no longer keeps the figure {digest[:12]}")
        content = found.read_bytes()
    with _lock, whole_file(path) as partial:  # two threads would write one partial file
        partial.write_bytes(content)
    return content
