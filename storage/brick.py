"""One brick from files to cutouts: locate, verify, read, select, cut.

`survey_brick` says cheaply what a brick would give; `read_brick` gives it. Both are plain functions
of files and configuration: they write nothing and know of no store.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from storage.bricks import Brick, brick_from_name
from storage.checksums import (
    FileHashes,
    Verification,
    digest_of_hashes,
    hash_files,
    listed_hashes,
)
from storage.coadds import read_coadds, wcs_of
from storage.cutouts import CutoutConfig, cutout_objects, sky_to_pixel
from storage.detection import detect_sources
from storage.errors import IncompleteBrick, SchemaMismatch, StorageError
from storage.legacysurvey import BANDS, BrickFiles, locate_brick_files
from storage.selection import Selected, Selection, select
from storage.tractor import read_tractor

#: Part of every configuration digest: raise it when the same files and configuration would give
#: other cutouts, so that stored bricks count as out of date.
ALGORITHM_VERSION = 1


@dataclass(frozen=True)
class IngestConfig:
    """How bricks become cutouts.

    Parameters
    ----------
    bands : tuple of str
        Order of the ``band`` axis; a band that a brick lacks is 0 with invvar 0.
    selection : Selection
    cutout : CutoutConfig
    detect_missing_catalogue : bool
        Find sources with `storage.detection` where a brick has no tractor catalogue.
    verify_checksums : bool
        Compare files with their SHA-256 lists, where there are any.
    """

    bands: tuple[str, ...] = ("g", "r", "z")
    selection: Selection = field(default_factory=Selection)
    cutout: CutoutConfig = field(default_factory=CutoutConfig)
    detect_missing_catalogue: bool = False
    verify_checksums: bool = True

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise SchemaMismatch(f"bands {self.bands}: give at least one band, each once")
        if unknown := [band for band in self.bands if band not in BANDS]:
            raise SchemaMismatch(f"bands {unknown}: unknown; choose from {', '.join(BANDS)}")


@dataclass(frozen=True)
class BrickPlan:
    """What a brick would give, without its pixels.

    ``digest`` identifies the files' contents; ``fingerprint`` their names, sizes and times, which
    is cheaper and enough to see that nothing changed. ``n_objects`` is the most cutouts the brick
    can give, ``dropped`` counts the other objects by the reason of the selection. ``status``
    "failed" and "empty" come with a ``reason``.
    """

    brickname: str
    brickid: int
    digest: str
    fingerprint: str
    n_objects: int
    status: Literal["ready", "empty", "failed"]
    reason: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BrickCutouts:
    """The cutouts of one brick and everything that its receipt says.

    ``dropped`` counts objects by the reason of the selection, ``without_cutout`` lists the objid of
    selected objects without a cutout by reason, ``files`` maps file names to SHA-256.
    """

    dataset: xr.Dataset
    brick: Brick
    digest: str
    dropped: Mapping[str, int]
    without_cutout: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]
    verification: Verification
    files: Mapping[str, str]

    @property
    def reasons(self) -> dict[str, int]:
        """Count of objects without a cutout, by every reason."""
        return dict(self.dropped) | {key: len(ids) for key, ids in self.without_cutout.items()}


def config_digest(config: object, algorithm_version: int = ALGORITHM_VERSION) -> str:
    """Return the digest of a configuration dataclass and the version of the algorithm."""
    if not is_dataclass(config) or isinstance(config, type):
        raise SchemaMismatch(f"{config!r} is no configuration; give a dataclass")
    content = {"config": asdict(config), "algorithm": algorithm_version}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def brick_fingerprint(
    root: str | Path, brickname: str, bands: Sequence[str], region: str | None = None
) -> str:
    """Return a digest of the names, sizes and modification times of a brick's files.

    Costs well under a millisecond: enough to see that a brick already in the store did not change.
    """
    return _fingerprint(locate_brick_files(root, brickname, bands, region))


def survey_brick(
    root: str | Path, brickname: str, config: IngestConfig, region: str | None = None
) -> BrickPlan:
    """Say what a brick would give; a brick that cannot be read is a plan that says why."""
    brickid, digest, fingerprint = 0, "", ""
    try:
        brick = brick_from_name(brickname)
        brickid = brick.brickid
        files = locate_brick_files(root, brickname, config.bands, region)
        fingerprint = _fingerprint(files)
        digest = _planned_digest(files, config)
        _require_catalogue(files, config)
        selected = _planned_objects(files, brick, config)
    except StorageError as error:
        reason = f"{type(error).__name__}: {error}"
        return BrickPlan(brickname, brickid, digest, fingerprint, 0, "failed", reason)
    number = len(selected.table)
    status: Literal["ready", "empty"] = "ready" if number else "empty"
    reason = "" if number else "; ".join(("no object is selected", *selected.notes))
    return BrickPlan(
        brickname, brickid, digest, fingerprint, number, status, reason, selected.dropped
    )


def read_brick(
    root: str | Path,
    brickname: str,
    *,
    config: IngestConfig | None = None,
    region: str | None = None,
) -> BrickCutouts:
    """Read a brick and cut its selected objects out.

    Parameters
    ----------
    root : str or Path
        Release root, region folder, or a folder with the files themselves.
    brickname : str
    config : IngestConfig, optional
    region : str, optional
        "north" or "south"; needed where both hold the brick.

    Raises
    ------
    StorageError
        `BrickNotFound`, `IncompleteBrick`, `SchemaMismatch`, `CorruptFile` or `ChecksumMismatch`;
        the message is fit for a receipt.
    """
    config = config or IngestConfig()
    brick = brick_from_name(brickname)
    files = locate_brick_files(root, brickname, config.bands, region)
    _require_catalogue(files, config)
    with ThreadPoolExecutor(max_workers=1) as pool:  # hashing shares the wait for the disk
        hashing = pool.submit(hash_files, files, config.verify_checksums)
        coadds = read_coadds(files, brick, config.bands, _extras(files))
        selected = _selected_objects(files, brick, coadds, config)
        cutouts = cutout_objects(coadds, selected.table, config.cutout)
        hashes: FileHashes = hashing.result()
    return BrickCutouts(
        dataset=cutouts.dataset,
        brick=brick,
        digest=hashes.digest(),
        dropped=selected.dropped,
        without_cutout=cutouts.without,
        notes=(*coadds.attrs["notes"], *selected.notes),
        verification=hashes.verification,
        files=hashes.sha256,
    )


def _selected_objects(
    files: BrickFiles, brick: Brick, coadds: xr.Dataset, config: IngestConfig
) -> Selected:
    notes: list[str] = []
    if files.tractor is None:
        table = detect_sources(coadds, brick)
        notes.append(f"no tractor catalogue: {len(table)} sources detected on the coadds")
    else:
        table, notes = _catalogue(files.tractor, files.tractor_kind, brick, config)
        notes += _displacement(coadds, table)
    selected = select(table, config.selection)
    return Selected(selected.table, selected.dropped, (*notes, *selected.notes))


def _catalogue(
    path: Path, kind: str, brick: Brick, config: IngestConfig
) -> tuple[pd.DataFrame, list[str]]:
    tractor = read_tractor(path, brick, config.bands)
    notes = [] if kind == "tractor" else ["intermediate catalogue (tractor-i) used"]
    return tractor.table, [*notes, *tractor.notes]


def _displacement(coadds: xr.Dataset, table: pd.DataFrame) -> list[str]:
    """Note a catalogue that was fitted to other pixels than the coadds show (DR10 known issue)."""
    y, x = sky_to_pixel(wcs_of(coadds), table["ra"], table["dec"])
    distance = np.hypot(y - table["by"].to_numpy(), x - table["bx"].to_numpy())
    distance = distance[np.isfinite(distance)]
    if not len(distance) or np.median(distance) <= 1.0:
        return []
    return [
        f"catalogue bx, by are {np.median(distance):.1f} pixels from ra, dec on these coadds; "
        "ra, dec are used"
    ]


def _planned_objects(files: BrickFiles, brick: Brick, config: IngestConfig) -> Selected:
    if not (set(files.image) & set(files.invvar)):
        read_coadds(files, brick, config.bands)  # raises: no band can be read
    if files.tractor is None:  # only the pixels tell; as slow as reading the brick
        coadds = read_coadds(files, brick, config.bands)
        return select(detect_sources(coadds, brick), config.selection)
    table, _ = _catalogue(files.tractor, files.tractor_kind, brick, config)
    return select(table, config.selection)


def _planned_digest(files: BrickFiles, config: IngestConfig) -> str:
    """Take the digest from the lists where they name every file: reading checks them anyway."""
    listed = listed_hashes(files) if config.verify_checksums else {}
    if len(listed) == len(files.data_files()):
        return digest_of_hashes(listed)
    return hash_files(files, config.verify_checksums).digest()


def _require_catalogue(files: BrickFiles, config: IngestConfig) -> None:
    if files.tractor is None and not config.detect_missing_catalogue:
        raise IncompleteBrick(
            f"brick {files.brickname} under {files.base}: no tractor catalogue; fetch "
            f"tractor-{files.brickname}.fits, or use --detect to find sources on the coadds"
        )


def _extras(files: BrickFiles) -> tuple[str, ...]:
    """Read PSF widths only where no catalogue gives them."""
    return ("psfsize",) if files.tractor is None and files.psfsize else ()


def _fingerprint(files: BrickFiles) -> str:
    hasher = hashlib.sha256()
    for path in (*files.data_files(), *files.checksum_lists):
        stat = path.stat()
        hasher.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return hasher.hexdigest()
