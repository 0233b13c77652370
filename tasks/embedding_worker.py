"""What a worker does to embed bricks: read, apply the encoder, write, send its fork back.

A worker gets the names and rows of some bricks, a snapshot and an encoder on disk. Their cutouts
come as one stream, read ahead across the borders of bricks; finished bricks are written beside it,
so that the device waits for neither. No vector and no pixel travels.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
import pandas as pd

from lvm.checkpoint import load_encoder
from lvm.encoder import Encoder
from lvm.forward import Forward, ForwardConfig
from storage.batches import iterate_centres
from storage.brick_store import RowRange, read_objects
from storage.embedding_store import EmbeddingWriter
from storage.schema import ID_COLUMNS, SHARD_ROWS
from tasks.references import EncoderRef, SnapshotRef
from tasks.snapshots import open_snapshot

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EmbedRequest:
    """What a worker needs besides the names of bricks; a few hundred bytes."""

    snapshot: SnapshotRef
    encoder: EncoderRef
    group: str
    forward: ForwardConfig = field(default_factory=ForwardConfig)


@dataclass(frozen=True)
class Embedded:
    """What a worker sends back: its fork, and by what the vectors were made."""

    session: icechunk.ForkSession
    objects: int
    device: str
    precision: str


def embed_bricks(
    session: icechunk.ForkSession, request: EmbedRequest, bricks: dict[str, RowRange]
) -> Embedded:
    """Embed some bricks; runs on a worker.

    Parameters
    ----------
    session : ForkSession
        Where the vectors are written.
    bricks : dict of str to RowRange
        Rows by brickname, from the ledger of the snapshot.

    Raises
    ------
    RuntimeError
        If there are not as many embeddings as objects.
    """
    forward = forward_of(request.encoder, request.forward)
    source, survey = _session_of(request.snapshot), request.snapshot.survey
    objects = read_objects(
        source, survey, bricknames=list(bricks), columns=ID_COLUMNS, catalogue=False
    )
    rows = objects["row"].to_numpy()
    # Whole shards: a part of one costs nearly as much to read. `forward` divides what is too much.
    size = max(SHARD_ROWS, forward.batch_size)
    batches = iterate_centres(source, survey, rows, size, forward.crop_size)
    stream = forward.embed({**batch.pixels, "rows": batch.rows} for batch in batches)
    store = EmbeddingWriter(session, request.group)
    writes: list[Future[None]] = []
    with ThreadPoolExecutor(1, thread_name_prefix="write-embeddings") as writer:
        for name, ids, vectors in by_brick(objects, stream):
            writes.append(writer.submit(store.write, bricks[name], vectors, ids))
    for done in writes:
        done.result()
    if len(writes) != len(bricks):
        raise RuntimeError(f"{len(writes)} of {len(bricks)} bricks have objects to embed")
    return Embedded(session, len(objects), forward.device.type, forward.precision)


def by_brick(
    objects: pd.DataFrame, stream: Iterator[tuple[npt.NDArray[np.int64], Vectors]]
) -> Iterator[tuple[str, pd.DataFrame, Vectors]]:
    """Yield name, objects and vectors of every brick as soon as its last vector is there.

    Parameters
    ----------
    objects : DataFrame
        ``row`` and ``brickname``, ascending by row: the objects of a brick stand together.
    stream : iterator of (rows, vectors)
        Of these rows, in this order, in any portions.

    Raises
    ------
    RuntimeError
        If the stream has other rows than the objects.
    """
    names = objects["brickname"].to_numpy()
    edges = np.flatnonzero(names[1:] != names[:-1]) + 1
    ends = [*edges.tolist(), len(names)] if len(names) else []
    held: list[Vectors] = []
    start = seen = 0
    for rows, vectors in stream:
        expected = objects["row"].to_numpy()[seen : seen + len(rows)]
        if not np.array_equal(rows, expected):
            raise RuntimeError(f"rows {rows[:3]}... came where {expected[:3]}... were due")
        seen += len(rows)
        held.append(vectors)
        while ends and seen >= ends[0]:
            end = ends.pop(0)
            found = np.concatenate(held)
            count = end - start
            yield str(names[start]), objects.iloc[start:end], found[:count]
            held, start = [found[count:]], end
    if ends:
        raise RuntimeError(f"{len(names)} objects went in, {seen} embeddings came out")


def forward_of(encoder: EncoderRef, config: ForwardConfig) -> Forward:
    """Return an encoder ready on the device of this worker; loaded once a process.

    Raises
    ------
    ValueError
        If the encoder on disk is not the one that was asked for.
    """
    with _LOADING:  # two threads of a worker must not load it twice
        return _forward(encoder.path, encoder.digest, config)


def checked_encoder(reference: EncoderRef) -> Encoder:
    """Load an encoder and check that it is the one that was asked for."""
    path = Path(reference.path)
    encoder = load_encoder(path)
    found = (path / "digest").read_text().strip()
    if found != reference.digest:
        raise ValueError(
            f"the encoder at {path} has digest {found[:16]}, asked for {reference.digest[:16]}: it "
            "was replaced; pass a reference to the encoder that is meant"
        )
    return encoder


_LOADING = threading.Lock()


@lru_cache(maxsize=2)
def _forward(path: str, digest: str, config: ForwardConfig) -> Forward:
    return Forward(checked_encoder(EncoderRef(path=path, digest=digest)), config)


@lru_cache(maxsize=2)
def _session_of(snapshot: SnapshotRef) -> Any:
    """Open a snapshot once a process: a snapshot never changes."""
    return open_snapshot(snapshot)
