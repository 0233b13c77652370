"""Find encoders on disk, and the embeddings that they made."""

from pathlib import Path

from lvm.weights import SHIPPED, shipped_weights
from storage.embedding_store import embedding_ledger, has_embeddings
from storage.repository import (
    EMBEDDING_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
    snapshot_id,
)
from tasks.errors import TaskError
from tasks.references import EmbeddingsRef, EncoderRef, SnapshotRef
from tasks.settings import Settings


class NoEncoder(TaskError, LookupError):
    """There is no such encoder, or more than one fits."""


class NotEmbedded(TaskError, LookupError):
    """A survey has no embeddings by an encoder."""


def find_encoder(settings: Settings, name: str = "") -> EncoderRef:
    """Return an encoder: the newest of this home by default, in a new home the shipped one.

    Parameters
    ----------
    name : str
        The name of shipped weights (`lvm.weights.SHIPPED`), a folder, or the beginning of a digest.

    Raises
    ------
    NoEncoder
        If none fits, or more than one does.
    """
    if name in SHIPPED:
        return _reference(shipped_weights(name))
    if name and (Path(name) / "digest").is_file():
        return _reference(Path(name))
    own = [_reference(path.parent) for path in settings.encoder_path.glob("*/digest")]
    shipped = [_reference(shipped_weights(one)) for one in SHIPPED]
    if not name:
        return max(own, key=_saved_at) if own else shipped[0]
    fitting = {one.digest: one for one in shipped + own if _is_called(one, name)}
    if not fitting:
        raise NoEncoder(
            f"no encoder {name!r} in {settings.encoder_path}: run `brickyard pretrain`, or give "
            f"the folder of one, or one of {', '.join(SHIPPED)}"
        )
    if len(fitting) > 1:
        names = ", ".join(sorted(digest[:16] for digest in fitting))
        raise NoEncoder(f"{name!r} fits {len(fitting)} encoders ({names}): give more digits")
    return next(iter(fitting.values()))


def find_embeddings(snapshot: SnapshotRef, encoder: EncoderRef) -> EmbeddingsRef:
    """Return the newest embeddings of a survey by an encoder.

    Raises
    ------
    NotEmbedded
        If this encoder has not embedded the survey.
    """
    path = repository_place(snapshot.store, EMBEDDING_REPOSITORY)
    message = (
        f"{snapshot.survey} has no embeddings by encoder {encoder.digest[:16]}: run "
        f"`brickyard embed {snapshot.survey} --encoder {encoder.digest[:16]}`"
    )
    if not repository_exists(path):
        raise NotEmbedded(message)
    repository = open_repository(path)
    session = read_session(repository)
    if not has_embeddings(session, encoder.digest, snapshot.survey):
        raise NotEmbedded(message)
    if embedding_ledger(session, encoder.digest, snapshot.survey).empty:
        raise NotEmbedded(message)
    return EmbeddingsRef(
        store=snapshot.store,
        survey=snapshot.survey,
        encoder_digest=encoder.digest,
        snapshot_id=snapshot_id(repository),
        survey_snapshot_id=snapshot.snapshot_id,
    )


def _reference(folder: Path) -> EncoderRef:
    digest = (folder / "digest").read_text().strip()
    return EncoderRef(path=str(folder.resolve()), digest=digest)


def _is_called(encoder: EncoderRef, name: str) -> bool:
    return encoder.digest.startswith(name) or Path(encoder.path).name.startswith(name)


def _saved_at(encoder: EncoderRef) -> int:
    return (Path(encoder.path) / "digest").stat().st_mtime_ns
