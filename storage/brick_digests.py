"""What tells that a brick's inputs changed: a cheap fingerprint, and the digest of their contents.

The inputs are the brick's own files and, where cutouts may leave its image and are stitched, those
of the neighbours that are there. So a new neighbour changes the digest of the bricks beside it that
can use it, and of no other. Nothing is decoded here.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from storage.brick_overlap import needed_neighbours
from storage.bricks import Brick, brick_from_name
from storage.checksums import digest_of_hashes, hash_files, listed_hashes
from storage.errors import BrickNotFound, StorageError
from storage.ingest_config import IngestConfig
from storage.layouts import LAYOUTS
from storage.legacysurvey import REGIONS, BrickFiles, locate_brick_files
from storage.neighbour import Neighbour, unreadable

_PIXEL_KINDS = ("image", "invvar")


def brick_fingerprint(
    root: str | Path, brickname: str, config: IngestConfig, region: str | None = None
) -> str:
    """Return a digest of the names, sizes and modification times of a brick's inputs.

    Costs well under a millisecond where the files are in the survey's own layout: enough to see
    that a brick already in the store did not change.

    Raises
    ------
    BrickNotFound
        When no file of the brick is under the root.
    StorageError
        When two regions hold the brick and none is named.
    """
    lines = _survey_lines(root, brickname, config.bands, region, catalogue=True)
    if lines is None:
        lines = _lines_of(locate_brick_files(root, brickname, config.bands, region))
    for other in _needed(brick_from_name(brickname), config):
        beside = _survey_lines(root, other.brickname, config.bands, region, catalogue=False)
        if beside is None:
            with suppress(StorageError):  # absent, or as good as that: reading says so
                files = locate_brick_files(root, other.brickname, config.bands, region)
                beside = _lines_of(replace(files, tractor=None))
        lines += beside or []
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def find_neighbours(
    root: str | Path, files: BrickFiles, config: IngestConfig, region: str | None
) -> tuple[Neighbour, ...]:
    """Return the neighbours that cutouts of a brick may need, in order of BRICKID."""
    if files.base.name in REGIONS:
        region = files.base.name
    found = []
    for other in _needed(brick_from_name(files.brickname), config):
        beside, problem = None, ""
        try:
            beside = locate_brick_files(root, other.brickname, config.bands, region)
            beside = replace(beside, tractor=None)
        except BrickNotFound:
            pass
        except StorageError as error:
            problem = unreadable(error)
        if beside is not None and not beside.data_files():
            beside = None
        verify = config.verify_checksums
        found.append(Neighbour(other, config.bands, beside, verify, problem))
    return tuple(found)


def planned_digest(files: BrickFiles, neighbours: Sequence[Neighbour], config: IngestConfig) -> str:
    """Return the digest that reading the brick will find.

    It is taken from the checksum lists where they name every file: reading checks them anyway.
    """
    listed = listed_hashes(files) if config.verify_checksums else {}
    if len(listed) != len(files.data_files()):
        listed = dict(hash_files(files, config.verify_checksums).sha256)
    return digest_of_hashes(listed | neighbour_hashes(neighbours))


def neighbour_hashes(neighbours: Sequence[Neighbour]) -> dict[str, str]:
    """Return ``{file name: sha256}`` of the files of all neighbours that are there."""
    sums: dict[str, str] = {}
    for other in neighbours:
        with suppress(StorageError):  # its list is no list: its problem, found when it is needed
            sums |= other.hashes()
    return sums


def _needed(brick: Brick, config: IngestConfig) -> tuple[Brick, ...]:
    if config.cutout.edge != "stitch":
        return ()
    return needed_neighbours(brick, config.cutout.size, config.selection.primary_only)


def _lines_of(files: BrickFiles) -> list[str]:
    return [_line(path.name, path.stat()) for path in (*files.data_files(), *files.checksum_lists)]


def _line(name: str, stat: os.stat_result) -> str:
    return f"{name} {stat.st_size} {stat.st_mtime_ns}"


def _survey_lines(
    root: str | Path, brickname: str, bands: Sequence[str], region: str | None, *, catalogue: bool
) -> list[str] | None:
    """Return name, size and time of the files where the survey puts them; None if some are not."""
    base = os.path.join(root, region) if region else str(root)
    if region and not os.path.isdir(base):
        base = str(root)
    folder = os.path.join(base, "coadd", brickname[:3], brickname)
    wanted = {f"legacysurvey-{brickname}-{kind}-{band}" for kind in _PIXEL_KINDS for band in bands}
    wanted.add(f"legacysurvey-{brickname}-maskbits")
    try:
        with os.scandir(folder) as entries:
            found = [
                (entry.name, entry.stat())
                for entry in entries
                if entry.name.partition(".fits")[0] in wanted or entry.name.endswith(".sha256sum")
            ]
    except OSError:
        return None
    tables = os.path.join(base, "tractor", brickname[:3])
    names = [f"brick-{brickname}.sha256sum"]
    names += [
        f"legacysurvey_{release}_{of}_tractor_{brickname[:3]}.sha256sum"
        for release, of in LAYOUTS
        if region in (None, of)
    ]
    if catalogue:
        names.append(f"tractor-{brickname}.fits")
    for name in names:
        with suppress(OSError):
            found.append((name, os.stat(os.path.join(tables, name))))
    if not found or (catalogue and found[-1][0] != names[-1]):
        return None
    return [_line(name, stat) for name, stat in sorted(found, key=lambda item: item[0])]
