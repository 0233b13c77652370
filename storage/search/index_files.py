"""Where the index of a survey's embeddings lies, what it was built from, when it is built again.

An index is a derived file: `<root>/<encoder>/<survey>/<digest of the embeddings>/`. It is built
beside its place and renamed into it, so that a reader sees a whole one or none, and opened only
for the embeddings that it was built from.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import icechunk
from filelock import FileLock

from storage.errors import SchemaMismatch
from storage.search.vector_index import (
    IndexConfig,
    VectorIndex,
    build_index,
    check_room,
    open_index,
)
from storage.search.vectors import EmbeddedRows, iterate_vectors, sample_vectors

HEADER_FILE = "index.json"
_DIGITS = 16  # of digests in names of folders
_LOCK_SECONDS = 6 * 3600  # longer than the largest index takes to build


class StaleIndex(SchemaMismatch):
    """An index is absent, damaged, or was built from other embeddings; build it again."""


def index_folder(root: Path, rows: EmbeddedRows) -> Path:
    """Return the folder of the index of these embeddings, whether it exists or not."""
    return _survey_folder(root, rows) / rows.digest[:_DIGITS]


def read_header(folder: Path) -> dict[str, Any]:
    """Return what an index was built from.

    Raises
    ------
    StaleIndex
        When there is no index, or a file of it is not as long as it was when it was built.
    """
    try:
        header: dict[str, Any] = json.loads((folder / HEADER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StaleIndex(f"no index in {folder}: build it") from error
    if _sizes(folder) != header["files"]:
        raise StaleIndex(f"the index in {folder} is damaged ({_sizes(folder)}): build it again")
    return header


def load_index(root: Path, rows: EmbeddedRows, config: IndexConfig | None = None) -> VectorIndex:
    """Open the index of these embeddings.

    Raises
    ------
    StaleIndex
        When there is none, or that in its place was built from others: another encoder, survey or
        set of bricks, or other settings.
    """
    chosen = config or IndexConfig()
    folder = index_folder(root, rows)
    header = read_header(folder)
    wanted = _identity(rows) | {"config": _build_settings(chosen)}
    found = {name: header.get(name) for name in wanted}
    if found != wanted:
        wrong = ", ".join(name for name in wanted if found[name] != wanted[name])
        raise StaleIndex(f"the index in {folder} was built from another {wrong}: build it again")
    return open_index(folder, chosen.probes)


def refresh_index(
    root: Path,
    session: icechunk.Session,
    rows: EmbeddedRows,
    provenance: Mapping[str, str],
    config: IndexConfig | None = None,
) -> tuple[VectorIndex, bool]:
    """Open the index of these embeddings, after building it where it is absent or outdated.

    Parameters
    ----------
    root : Path
        Folder of all indexes.
    session : Session
        Of the repository of embeddings.
    rows : EmbeddedRows
        From `storage.search.vectors.embedded_rows`.
    provenance : mapping
        Recorded with the index: the snapshots that it was read from.

    Returns
    -------
    index, built : VectorIndex, bool
    """
    try:
        return load_index(root, rows, config), False
    except StaleIndex:
        pass
    with _building(root, rows):
        try:  # another process may have built it while this one waited
            return load_index(root, rows, config), False
        except StaleIndex:
            _build(root, session, rows, provenance, config or IndexConfig())
    return load_index(root, rows, config), True


def _build(
    root: Path,
    session: icechunk.Session,
    rows: EmbeddedRows,
    provenance: Mapping[str, str],
    config: IndexConfig,
) -> None:
    if rows.total == 0:
        raise SchemaMismatch(
            f"{rows.survey_key} has no embeddings that are up to date: run embed, then retry"
        )
    final = index_folder(root, rows)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=final.parent) as name:
        folder = Path(name) / "index"
        folder.mkdir()
        _, sample = sample_vectors(session, rows, config.sample_size(rows.total), config.seed)
        check_room(folder, rows.total, sample.shape[1])
        build_index(folder, iterate_vectors(session, rows), sample, rows.total, config, final)
        header = {
            **_identity(rows),
            "bricks": len(rows.starts),
            "left_out": rows.left_out,
            "width": int(sample.shape[1]),
            "library": f"faiss {faiss.__version__}",
            "config": _build_settings(config),
            **provenance,
            "files": _sizes(folder),
        }
        (folder / HEADER_FILE).write_text(json.dumps(header, indent=1), encoding="utf-8")
        _replace(folder, final)


def _replace(folder: Path, final: Path) -> None:
    """Put a new index into its place; those of former embeddings are of no more use."""
    for old in final.parent.iterdir():
        if old.is_dir() and not old.name.startswith("."):
            shutil.rmtree(old)
    folder.rename(final)


@contextmanager
def _building(root: Path, rows: EmbeddedRows) -> Iterator[None]:
    folder = _survey_folder(root, rows)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout=_LOCK_SECONDS):
        for broken in folder.glob(".building-*"):  # of a killed process: this one has the lock
            shutil.rmtree(broken)
        yield


def _identity(rows: EmbeddedRows) -> dict[str, Any]:
    return {
        "encoder_digest": rows.encoder_digest,
        "survey": rows.survey_key,
        "embeddings_digest": rows.digest,
        "total": rows.total,
    }


def _build_settings(config: IndexConfig) -> dict[str, Any]:
    settings = asdict(config)
    del settings["probes"], settings["memory_vectors"]  # they do not change what is built
    return settings


def _survey_folder(root: Path, rows: EmbeddedRows) -> Path:
    return root / rows.encoder_digest[:_DIGITS] / rows.survey_key.replace("/", "-")


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: path.stat().st_size for path in files if path.name != HEADER_FILE}
