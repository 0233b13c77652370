"""A folder of colour pictures as cutouts of the survey schema, with bands r, g, b.

Pixels are JPEG intensities from 0 to 255, kept as they are: no flux, no noise model (invvar 1
everywhere), pixel scale unknown unless given. A picture is cropped to its central square and
resized with antialiasing; its rows are turned over, so that y runs north as in coadds. Pictures are
read in blocks, which stand where bricks stand in the ledger.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from storage.brick import BrickCutouts, BrickPlan
from storage.bricks import Brick
from storage.checksums import digest_of_hashes, file_sha256
from storage.coadds import READ_THREADS
from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch, StorageError
from storage.image_labels import (
    CLASS_NAMES,
    answers,
    match_rows,
    positions,
    read_image_table,
    rows_where,
)
from storage.pictures import image_release_code, list_pictures, picture_objid, read_picture
from storage.schema import catalogue_columns
from storage.tractor import ObjectType

IMAGE_BANDS = ("r", "g", "b")
IMAGE_UNIT = "jpeg intensity"
BLOCK_PICTURES = 256  # four shards of the store, 142 MB of float32 image and invvar
BRICKID = 0  # of every picture, so that its identity does not depend on the block it falls into


@dataclass(frozen=True)
class ImageFolderConfig:
    """How a folder of pictures becomes cutouts and labels.

    Parameters
    ----------
    size : int
        Side of a cutout [pixel].
    central_fraction : float
        Part of the central square's side that is kept before resizing.
    pixel_scale : float
        Of the cutouts, after resizing [arcsec]; NaN where unknown.
    id_column : str or None
        Column of the label table with file names or stems; found by itself when None.
    question : str
        Question that the labels answer.
    label_column : str or None
        Column with one answer a row.
    votes : mapping of str to str
        ``{column: answer}`` of columns with votes or vote fractions, instead of ``label_column``.
    count_column : str or None
        Number of voters that vote fractions are multiplied with.
    where : str or None
        pandas expression; the other rows give no labels. Their pictures are read all the same.
    rename : mapping of str to str
        Class names that replace those of the table.
    """

    size: int = 152
    central_fraction: float = 1.0
    pixel_scale: float = float("nan")
    id_column: str | None = None
    question: str = "morphology"
    label_column: str | None = None
    votes: Mapping[str, str] = field(default_factory=dict)
    count_column: str | None = None
    where: str | None = None
    rename: Mapping[str, str] = field(default_factory=lambda: dict(CLASS_NAMES))

    def __post_init__(self) -> None:
        if self.size < 1:
            raise SchemaMismatch(f"cutout size {self.size}: give at least 1 pixel")
        if not 0.0 < self.central_fraction <= 1.0:
            raise SchemaMismatch(f"central_fraction {self.central_fraction}: give above 0, up to 1")


def list_blocks(folder: str | Path) -> list[str]:
    """Return the names of the blocks of a folder, "block-00000" and so on."""
    number = -(-len(list_pictures(folder)) // BLOCK_PICTURES)
    return [f"block-{index:05d}" for index in range(number)]


def survey_block(
    folder: str | Path,
    name: str,
    block: str,
    labels: str | Path | None = None,
    config: ImageFolderConfig | None = None,
) -> BrickPlan:
    """Say what a block would give, without decoding pictures; the parameters are `read_block`'s."""
    config = config or ImageFolderConfig()
    try:
        pictures = _pictures_of(folder, block)
        hashes = _hashes(pictures, _positions(folder, pictures, labels, config.id_column))
    except StorageError as error:
        return BrickPlan(block, BRICKID, "", "", 0, "failed", f"{type(error).__name__}: {error}")
    stats = (f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in pictures)
    fingerprint = hashlib.sha256("\n".join((name, *stats)).encode()).hexdigest()
    digest = digest_of_hashes(hashes)
    return BrickPlan(block, BRICKID, digest, fingerprint, len(pictures), "ready")


def read_block(
    folder: str | Path,
    name: str,
    block: str,
    labels: str | Path | None = None,
    config: ImageFolderConfig | None = None,
) -> BrickCutouts:
    """Read a block of pictures.

    Parameters
    ----------
    folder : str or Path
    name : str
        Of the survey; gives the RELEASE code.
    block : str
        From `list_blocks`.
    labels : str or Path, optional
        Table whose columns ra, dec give positions.
    config : ImageFolderConfig, optional

    Returns
    -------
    BrickCutouts
        Reasons in ``without_cutout``: "unreadable", and "repeated_name" for a second file with the
        same objid.
    """
    config = config or ImageFolderConfig()
    pictures = _pictures_of(folder, block)
    place = _positions(folder, pictures, labels, config.id_column)
    objid = np.array([picture_objid(path.stem) for path in pictures], np.int64)
    repeated = pd.Series(objid).duplicated().to_numpy(bool)
    images, broken = _read_pictures(pictures, config)
    unreadable = np.array([path in broken for path in pictures], bool) & ~repeated
    keep = ~(repeated | unreadable)
    table = pd.DataFrame({"objid": objid, "ra": place[0], "dec": place[1]})[keep]
    kept = [images[path] for path, wanted in zip(pictures, keep, strict=True) if wanted]
    hashes = _hashes(pictures, place)
    return BrickCutouts(
        dataset=_dataset(kept, table, image_release_code(name), config, block),
        brick=Brick(block, BRICKID, *[float("nan")] * 6),
        digest=digest_of_hashes(hashes),
        dropped={},
        without_cutout=_without(objid, unreadable=unreadable, repeated_name=repeated),
        notes=(*list(broken.values())[:10], _note(pictures, config)),
        verification="unverified",
        files=hashes,
    )


def read_image_labels(
    folder: str | Path, name: str, labels: str | Path, config: ImageFolderConfig | None = None
) -> pd.DataFrame:
    """Return the labels of a folder's pictures as rows for `storage.label_store.append_labels`.

    Returns
    -------
    DataFrame
        Columns survey, release, brickid, objid, question, answer, count, annotator; one row an
        object and answer. The annotator is the name of the table.
    """
    config = config or ImageFolderConfig()
    path = Path(labels)
    table, text = read_image_table(path)
    rows = match_rows(path, text, [p.stem for p in list_pictures(folder)], config.id_column)
    found = answers(path, table, config.label_column, config.votes, config.count_column)
    objid = {row: picture_objid(stem) for stem, row in rows.items()}
    kept = rows_where(path, table, config.where)
    wanted = [bool(kept[int(row)]) and int(row) in objid for row in found["row"]]
    found = found.loc[np.array(wanted, bool)]
    answer = [config.rename.get(str(value), str(value)) for value in found["answer"]]
    return pd.DataFrame(
        {
            "survey": f"images/{name}",
            "release": image_release_code(name),
            "brickid": BRICKID,
            "objid": np.array([objid[int(row)] for row in found["row"]], np.int64),
            "question": config.question,
            "answer": answer,
            "count": found["count"].to_numpy(np.float64),
            "annotator": path.stem,
        }
    )


def _pictures_of(folder: str | Path, block: str) -> list[Path]:
    index = block.removeprefix("block-")
    pictures = list_pictures(folder) if index.isdigit() else []
    start = int(index) * BLOCK_PICTURES if index.isdigit() else 0
    if start >= len(pictures):
        raise BrickNotFound(f"{folder}: no {block!r}; take a name from list_blocks")
    return pictures[start : start + BLOCK_PICTURES]


def _read_pictures(
    pictures: list[Path], config: ImageFolderConfig
) -> tuple[dict[Path, NDArray[np.float32]], dict[Path, str]]:
    """Return the pixels of the readable pictures, and what is wrong with the others."""
    images: dict[Path, NDArray[np.float32]] = {}
    broken: dict[Path, str] = {}

    def read(path: Path) -> None:
        try:
            images[path] = read_picture(path, config.size, config.central_fraction)
        except CorruptFile as error:
            broken[path] = str(error)

    with ThreadPoolExecutor(max_workers=READ_THREADS) as pool:
        list(pool.map(read, pictures))
    return images, broken


def _without(objid: NDArray[np.int64], **reasons: NDArray[np.bool_]) -> dict[str, tuple[int, ...]]:
    return {
        reason: tuple(int(value) for value in objid[wrong])
        for reason, wrong in reasons.items()
        if wrong.any()
    }


def _positions(
    folder: str | Path, pictures: list[Path], labels: str | Path | None, id_column: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    stems = [path.stem for path in pictures]
    if labels is None:
        return np.full(len(stems), np.nan), np.full(len(stems), np.nan)
    table, text = read_image_table(labels)
    everyone = [path.stem for path in list_pictures(folder)]  # a block may have no row at all
    return positions(table, match_rows(Path(labels), text, everyone, id_column), stems)


def _hashes(
    pictures: list[Path], place: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> dict[str, str]:
    """Return hashes of the files, and of their positions, which the cutouts hold as well."""
    hashes = {path.name: file_sha256(path) for path in pictures}
    return hashes | {"positions": hashlib.sha256(np.stack(place).tobytes()).hexdigest()}


def _note(pictures: list[Path], config: ImageFolderConfig) -> str:
    return (
        f"{len(pictures)} pictures: central {config.central_fraction:.0%} of the central square, "
        f"resized to {config.size} pixels"
    )


def _dataset(
    images: list[NDArray[np.float32]],
    table: pd.DataFrame,
    release: int,
    config: ImageFolderConfig,
    block: str,
) -> xr.Dataset:
    number, columns = len(table), catalogue_columns(IMAGE_BANDS)
    shape = (number, len(IMAGE_BANDS), config.size, config.size)
    image = np.stack(images) if images else np.zeros(shape, np.float32)
    return xr.Dataset(
        {
            "image": (("object", "band", "y", "x"), image),
            "invvar": (("object", "band", "y", "x"), np.ones(shape, np.float32)),
            "maskbits": (("object", "y", "x"), np.zeros((number, *shape[2:]), np.int32)),
            "release": ("object", np.full(number, release, np.int32)),
            "brickid": ("object", np.full(number, BRICKID, np.int32)),
            "objid": ("object", table["objid"].to_numpy(np.int64)),
            "ra": ("object", table["ra"].to_numpy(np.float64)),
            "dec": ("object", table["dec"].to_numpy(np.float64)),
            "type": ("object", np.full(number, ObjectType.IMAGE, np.uint8)),
            "catalogue": (
                ("object", "column"),
                np.full((number, len(columns)), np.nan, np.float32),
            ),
        },
        coords={"band": list(IMAGE_BANDS), "column": list(columns)},
        attrs={"brickname": block},
    )
