"""One brick from files to cutouts: locate, verify, read, select, cut.

`survey_brick` says cheaply what a brick would give; `read_brick` gives it. Both are plain functions
of files and configuration: they write nothing and know of no store.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import xarray as xr

from storage.brick_digests import (
    brick_fingerprint,
    find_neighbours,
    neighbour_hashes,
    planned_digest,
)
from storage.bricks import Brick, brick_from_name
from storage.checksums import FileHashes, Verification, digest_of_hashes, hash_files
from storage.coadds import read_coadds
from storage.consistency import check_catalogue
from storage.cutouts import cutout_objects
from storage.detection import detect_sources
from storage.errors import ChecksumMismatch, IncompleteBrick, InconsistentBrick, StorageError
from storage.fits_files import read_table_header
from storage.ingest_config import ALGORITHM_VERSION, IngestConfig, config_digest
from storage.legacysurvey import BrickFiles, locate_brick_files
from storage.mask_policy import mask_policy
from storage.neighbour import Neighbour
from storage.object_lists import sweep_catalogue
from storage.quality.statistics import brick_statistics
from storage.selection import Selected, select
from storage.stitching import Stitched, stitch_objects
from storage.tractor import Tractor, read_tractor

__all__ = [
    "ALGORITHM_VERSION",
    "UNKNOWN",
    "BrickCutouts",
    "BrickPlan",
    "IngestConfig",
    "brick_fingerprint",
    "config_digest",
    "read_brick",
    "survey_brick",
]

_INTERMEDIATE = "intermediate catalogue (tractor-i) used"
UNKNOWN = -1  # number of objects of a plan that only the pixels can tell


@dataclass(frozen=True)
class BrickPlan:
    """What a brick would give, without its pixels.

    ``digest`` identifies the files' contents; ``fingerprint`` their names, sizes and times, which
    is cheaper and enough to see that nothing changed. ``n_objects`` is the most cutouts the brick
    can give, or `UNKNOWN` where sources are to be detected; ``dropped`` counts the other objects by
    the reason of the selection. ``status`` "empty", "failed" and "quarantined" (files that
    contradict one another) come with a ``reason``.
    """

    brickname: str
    brickid: int
    digest: str
    fingerprint: str
    n_objects: int
    status: Literal["ready", "empty", "failed", "quarantined"]
    reason: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BrickCutouts:
    """The cutouts of one brick and everything that its receipt says.

    ``dropped`` counts objects by the reason of the selection, ``without_cutout`` lists the objid of
    selected objects without a cutout by reason, ``files`` maps the names of all files that went
    into the digest to SHA-256. ``quality`` is what `brick_statistics` measured, ``neighbours`` says
    what became of each neighbouring brick that a cutout needed: see `storage.stitching`.
    """

    dataset: xr.Dataset
    brick: Brick
    digest: str
    dropped: Mapping[str, int]
    without_cutout: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]
    verification: Verification
    files: Mapping[str, str]
    quality: Mapping[str, Any] = field(default_factory=dict)
    neighbours: Mapping[str, str] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, int]:
        """Count of objects without a cutout, by every reason."""
        return dict(self.dropped) | {key: len(ids) for key, ids in self.without_cutout.items()}


def survey_brick(
    root: str | Path, brickname: str, config: IngestConfig, region: str | None = None
) -> BrickPlan:
    """Say what a brick would give; a brick that cannot be read is a plan that says why."""
    brickid, digest, fingerprint = 0, "", ""
    try:
        brick = brick_from_name(brickname)
        brickid = brick.brickid
        files = locate_brick_files(root, brickname, config.bands, region)
        fingerprint = brick_fingerprint(root, brickname, config, region)
        digest = planned_digest(files, find_neighbours(root, files, config, region), config)
        number, selected = _planned_objects(files, brick, config)
    except StorageError as error:
        reason = f"{type(error).__name__}: {error}"
        contradictory = isinstance(error, ChecksumMismatch | InconsistentBrick)
        failure: Literal["failed", "quarantined"] = "quarantined" if contradictory else "failed"
        return BrickPlan(brickname, brickid, digest, fingerprint, 0, failure, reason)
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
        Release root, region folder, or a folder with the files themselves. Neighbouring bricks are
        looked for there as well.
    brickname : str
    config : IngestConfig, optional
    region : str, optional
        "north" or "south"; needed where both hold the brick.

    Raises
    ------
    StorageError
        `BrickNotFound`, `IncompleteBrick`, `InconsistentBrick`, `SchemaMismatch`, `CorruptFile` or
        `ChecksumMismatch`; the message is fit for a receipt.
    """
    config = config or IngestConfig()
    brick = brick_from_name(brickname)
    files = locate_brick_files(root, brickname, config.bands, region)
    catalogue = _catalogue(files, brick, config)
    neighbours = find_neighbours(root, files, config, region)
    with ThreadPoolExecutor(max_workers=1) as pool:  # hashing shares the wait for the disk
        hashing = pool.submit(hash_files, files, config.verify_checksums)
        coadds = read_coadds(files, brick, config.bands, _extras(files, catalogue))
        hashes: FileHashes = hashing.result()
    tractor = _checked(files, catalogue, coadds, brick, config)
    selected = select(tractor.table, config.selection)
    stitched = _cut(coadds, selected.table, config, neighbours)
    inputs = dict(hashes.sha256) | neighbour_hashes(neighbours)
    return BrickCutouts(
        dataset=stitched.cutouts.dataset,
        brick=brick,
        digest=digest_of_hashes(inputs),
        dropped=selected.dropped,
        without_cutout=stitched.cutouts.without,
        notes=(*coadds.attrs["notes"], *tractor.notes, *selected.notes),
        verification=hashes.verification,
        files=inputs,
        quality=brick_statistics(coadds, tractor.table),
        neighbours=stitched.neighbours,
    )


def _cut(
    coadds: xr.Dataset, table: pd.DataFrame, config: IngestConfig, neighbours: tuple[Neighbour, ...]
) -> Stitched:
    if config.cutout.edge == "stitch":
        return stitch_objects(coadds, table, config.cutout.size, neighbours)
    return Stitched(cutout_objects(coadds, table, config.cutout), {})


def _catalogue(files: BrickFiles, brick: Brick, config: IngestConfig) -> Tractor | None:
    """Return the brick's catalogue, or what sweep files say of it; None asks for detection.

    Raises
    ------
    IncompleteBrick
        When there is neither, and detection is not asked for.
    """
    if files.tractor is not None:
        tractor = read_tractor(files.tractor, brick, config.bands)
        notes = () if files.tractor_kind == "tractor" else (_INTERMEDIATE,)
        return Tractor(tractor.table, (*notes, *tractor.notes))
    if config.selection.objects_from is not None:
        swept = sweep_catalogue(config.selection.objects_from, brick, config.bands)
        if swept is not None:
            return swept
    if config.detect_missing_catalogue:
        return None
    raise IncompleteBrick(
        f"brick {files.brickname} under {files.base}: no tractor catalogue; fetch "
        f"tractor-{files.brickname}.fits, or use --detect to find sources on the coadds"
    )


def _checked(
    files: BrickFiles,
    catalogue: Tractor | None,
    coadds: xr.Dataset,
    brick: Brick,
    config: IngestConfig,
) -> Tractor:
    """Return a catalogue that belongs to the coadds: the one given, or what is detected on them."""
    if catalogue is None:
        table = detect_sources(coadds, brick, policy=mask_policy(config.mask_policy))
        return Tractor(
            table, (f"no tractor catalogue: {len(table)} sources detected on the coadds",)
        )
    header = read_table_header(files.tractor) if files.tractor else {}
    notes = check_catalogue(coadds, catalogue.table, header, config.on_mismatch)
    return Tractor(catalogue.table, (*catalogue.notes, *notes))


def _planned_objects(files: BrickFiles, brick: Brick, config: IngestConfig) -> tuple[int, Selected]:
    """Return the most cutouts that the brick can give, and what is selected as far as is known."""
    if not (set(files.image) & set(files.invvar)):
        read_coadds(files, brick, config.bands)  # raises: no band can be read
    catalogue = _catalogue(files, brick, config)
    if catalogue is None:  # only the pixels tell, and reading them is what a plan must not do
        return UNKNOWN, Selected(pd.DataFrame(), {}, ())
    selected = select(catalogue.table, config.selection)
    return len(selected.table), selected


def _extras(files: BrickFiles, catalogue: Tractor | None) -> tuple[str, ...]:
    """Read PSF widths only where no catalogue gives them."""
    return ("psfsize",) if catalogue is None and files.psfsize else ()
