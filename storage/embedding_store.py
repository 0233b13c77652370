"""Embeddings of a survey by one encoder, on the same rows as the survey's cutouts.

One group ``<first 16 digits of the encoder digest>/<release>/<region>`` in the repository
``<store>/embeddings`` holds one embedding a row; its ledger says from which content of every brick
they were made, so that a brick that was ingested again is embedded again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd

from storage import arrays, ledger_table
from storage.brick_rows import RowRange
from storage.chunk_writer import ChunkWriter
from storage.errors import SchemaMismatch
from storage.schema import (
    ID_COLUMNS,
    SHARD_ROWS,
    BrickState,
    embedding_ledger_specs,
    embedding_specs,
)

LEDGER = "bricks"
_FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class EmbeddingLayout:
    """What is fixed for all embeddings of a survey by one encoder.

    Parameters
    ----------
    encoder_digest : str
        Digest of the encoder's weights and configuration.
    width : int
        Values an embedding.
    preprocess : mapping
        JSON-sized description of how pixels become network input.
    """

    encoder_digest: str
    width: int
    preprocess: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbeddedBrick:
    """What the embedding ledger is told of one brick."""

    brickname: str
    rows: RowRange
    n_objects: int
    content_digest: str  # of the brick in the survey's ledger
    survey_snapshot: str  # the snapshot that the pixels were read from


def embedding_group(encoder_digest: str, survey_key: str) -> str:
    """Return the group path of a survey's embeddings by one encoder."""
    return f"{encoder_digest[:16]}/{survey_key}"


def create_embeddings(session: icechunk.Session, survey_key: str, layout: EmbeddingLayout) -> None:
    """Create the arrays for embeddings; does nothing where they exist already.

    Raises
    ------
    SchemaMismatch
        When they exist with another width, preprocessing or full encoder digest.
    """
    path = embedding_group(layout.encoder_digest, survey_key)
    wanted = {**asdict(layout), "preprocess": dict(layout.preprocess)}
    if arrays.group_exists(session, path):
        found = arrays.open_group(session, path).attrs.asdict().get("layout")
        if found != wanted:
            raise SchemaMismatch(
                f"embeddings {path!r} were made with {found}, asked for {wanted}: "
                "an encoder with other settings needs another digest"
            )
        return
    attributes = {"layout": wanted, "survey_key": survey_key}
    group = arrays.create_group(session, path, attributes)
    for spec in embedding_specs():
        arrays.create_array(group, spec, {"feature": layout.width})
    ledger_table.create_ledger(session, f"{path}/{LEDGER}", embedding_ledger_specs())


def has_embeddings(session: icechunk.Session, encoder_digest: str, survey_key: str) -> bool:
    """Say whether the snapshot has a group for embeddings of this survey by this encoder."""
    return arrays.group_exists(session, embedding_group(encoder_digest, survey_key))


def encoders_of(session: icechunk.Session, survey_key: str) -> list[str]:
    """Return the full digests of all encoders that have embeddings of a survey."""
    paths = [f"{name}/{survey_key}" for name in arrays.list_groups(session)]
    found = [path for path in paths if arrays.group_exists(session, path)]
    layouts: list[Any] = [arrays.open_group(session, path).attrs["layout"] for path in found]
    return [str(layout["encoder_digest"]) for layout in layouts]


def reserve_rows(
    session: icechunk.Session, encoder_digest: str, survey_key: str, n_rows: int
) -> None:
    """Lengthen the arrays to the survey's number of rows; do it before forking."""
    group = arrays.open_group(session, embedding_group(encoder_digest, survey_key), "r+")
    arrays.grow(group, [spec.name for spec in embedding_specs()], n_rows)


def embedding_ledger(
    session: icechunk.Session, encoder_digest: str, survey_key: str
) -> pd.DataFrame:
    """Return which bricks are embedded, from what, indexed by brickname."""
    columns = [spec.name for spec in embedding_ledger_specs() if spec.name not in ledger_table.KEYS]
    path = f"{embedding_group(encoder_digest, survey_key)}/{LEDGER}"
    return ledger_table.read_ledger(session, path, columns)


def pending(survey_ledger: pd.DataFrame, embedded: pd.DataFrame) -> pd.DataFrame:
    """Return the written bricks whose embeddings are missing or stale, as rows of the ledger.

    Stale means made from other inputs or configuration, or lying on rows that the brick left.
    """
    written = survey_ledger[survey_ledger["state"] == int(BrickState.WRITTEN)]
    if embedded.empty:
        return written
    made_from = embedded.reindex(written.index)
    same = made_from["content_digest"] == brick_version(written)
    same &= made_from["row_start"] == written["row_start"]
    same &= made_from["n_objects"] == written["n_objects"]
    return written[~same.to_numpy(dtype=bool)]


def brick_version(survey_ledger: pd.DataFrame) -> pd.Series:
    """Return, for every brick of a ledger, the digest that its embeddings are recorded with.

    The content and the configuration together: other cutouts of the same files are other pixels.
    """
    content, config = survey_ledger["content_digest"], survey_ledger["config_digest"]
    return content.astype(str) + ":" + config.astype(str)


class EmbeddingWriter:
    """Write the embeddings of bricks, one brick after the other.

    Parameters
    ----------
    session : Session or ForkSession
        A fork when used in a worker.
    path : str
        From `embedding_group`.
    """

    def __init__(self, session: icechunk.Session, path: str) -> None:
        group = arrays.open_group(session, path, "r+")
        self._arrays = {spec.name: arrays.get_array(group, spec.name) for spec in embedding_specs()}
        self._writer = ChunkWriter(session, self._arrays)

    def write(
        self, rows: RowRange, embedding: npt.NDArray[np.floating[Any]], ids: pd.DataFrame
    ) -> None:
        """Write the embeddings of one brick into its rows; the rest of the range is padding.

        Parameters
        ----------
        rows : RowRange
            The brick's range in the survey.
        embedding : ndarray, shape (object, feature), float
            Finite values; stored as float16.
        ids : DataFrame
            ``release``, ``brickid`` and ``objid`` of the same objects.

        Raises
        ------
        SchemaMismatch
            When shapes do not agree, or a value is not finite or overflows float16.
        """
        _check_embedding(embedding, len(ids), rows, self._arrays["embedding"].shape)
        values = {"embedding": embedding} | {name: ids[name].to_numpy() for name in ID_COLUMNS}
        blocks = {}
        for spec in embedding_specs():
            shape = (rows.rows, *self._arrays[spec.name].shape[1:])
            blocks[spec.name] = np.full(shape, spec.fill, dtype=spec.dtype)
            blocks[spec.name][: len(ids)] = values[spec.name]
        self._writer.write(rows.start, blocks)


def record_embedded(session: icechunk.Session, path: str, bricks: Sequence[EmbeddedBrick]) -> None:
    """Write bricks into the embedding ledger and clear rows that they left."""
    ledger_path = f"{path}/{LEDGER}"
    names = [brick.brickname for brick in bricks]
    owned = ledger_table.read_some(session, ledger_path, names, ("row_start", "rows"))
    known = owned.to_dict("index")
    group = arrays.open_group(session, path, "r+")
    table: dict[str, dict[str, Any]] = {}
    for brick in bricks:
        before: Mapping[Any, Any] = known.get(brick.brickname, {})
        old = RowRange(int(before.get("row_start", 0)), int(before.get("rows", 0)))
        for spec in embedding_specs() if old not in (brick.rows, RowRange(0, 0)) else ():
            arrays.fill_rows(arrays.get_array(group, spec.name), old.start, old.stop)
        table[brick.brickname] = {
            "row_start": brick.rows.start,
            "rows": brick.rows.rows,
            "n_objects": brick.n_objects,
            "content_digest": brick.content_digest,
            "survey_snapshot": brick.survey_snapshot,
        }
    ledger_table.upsert(session, ledger_path, table)


def read_embeddings(
    session: icechunk.Session,
    path: str,
    rows: npt.NDArray[np.int64],
    *,
    expected: pd.DataFrame | None = None,
) -> tuple[npt.NDArray[np.float16], pd.DataFrame]:
    """Return the embeddings of rows of the survey, in the order given, with their ids.

    Parameters
    ----------
    rows : ndarray, shape (object,), int64
        Rows on the survey's object axis.
    expected : DataFrame, optional
        ``release``, ``brickid`` and ``objid`` that the caller believes to be in these rows.

    Raises
    ------
    SchemaMismatch
        When a row has no embedding, or that of another object than expected: a brick was ingested
        again and takes the same rows. Embed the pending bricks first.
    """
    group = arrays.open_group(session, path)
    order = np.argsort(rows, kind="stable")
    ascending = np.asarray(rows, dtype=np.int64)[order]
    back = np.argsort(order, kind="stable")
    length = arrays.get_array(group, "objid").shape[0]
    inside = ascending[ascending < length]
    ids = {name: arrays.take_rows(arrays.get_array(group, name), inside) for name in ID_COLUMNS}
    missing = len(ascending) - len(inside) + int((ids["objid"] < 0).sum())
    if missing:
        raise SchemaMismatch(
            f"{missing} of {len(rows)} rows have no embedding in {path!r}: run embed, then retry"
        )
    embedding = arrays.take_rows(arrays.get_array(group, "embedding"), inside)
    found = pd.DataFrame(ids).iloc[back].reset_index(drop=True)
    _check_ids(found, expected, path)
    return embedding[back], found


def _check_ids(found: pd.DataFrame, expected: pd.DataFrame | None, path: str) -> None:
    if expected is None:
        return
    same = np.ones(len(found), dtype=bool)
    for name in ID_COLUMNS:
        same &= found[name].to_numpy() == expected[name].to_numpy()
    if not same.all():
        raise SchemaMismatch(
            f"{int((~same).sum())} of {len(found)} rows of {path!r} hold embeddings of other "
            "objects, which were in these rows before: run embed, then retry"
        )


def _check_embedding(
    embedding: npt.NDArray[np.floating[Any]],
    n_objects: int,
    rows: RowRange,
    shape: tuple[int, ...],
) -> None:
    if embedding.shape != (n_objects, shape[1]) or n_objects > rows.rows:
        raise SchemaMismatch(
            f"embeddings of shape {embedding.shape} for {n_objects} objects in {rows.rows} rows of "
            f"width {shape[1]}: give one embedding an object"
        )
    if rows.start % SHARD_ROWS or rows.rows % SHARD_ROWS or rows.stop > shape[0]:
        raise SchemaMismatch(
            f"rows {rows.start} to {rows.stop} of {shape[0]}: use the brick's own range in the "
            "survey, after reserve_rows()"
        )
    if not (np.abs(embedding) <= _FLOAT16_MAX).all():
        raise SchemaMismatch(
            "embeddings hold NaN, inf or values beyond float16: check the encoder and its input"
        )
