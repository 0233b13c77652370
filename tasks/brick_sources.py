"""Bricks as a source of ingest: those below a local folder, or those of a release elsewhere."""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from storage.brick import read_brick, survey_brick
from storage.brick_digests import brick_fingerprint
from storage.brick_lists import BrickList, read_brick_names
from storage.brick_overlap import needed_neighbours
from storage.bricks import brick_from_name, discover_bricks
from storage.checksums import content_digest, listed_hashes
from storage.errors import BrickNotFound, StorageError
from storage.fetch import FetchConfig, ReleaseTree, StagingFull
from storage.footprint import bricks_inside
from storage.ingest_config import IngestConfig, config_digest
from storage.legacysurvey import locate_brick_files
from storage.schema import SurveyLayout
from storage.selection import external_files
from tasks.settings import Settings
from tasks.sources import UnitCutouts, UnitList, UnitPlan, broken_plan, unit_cutouts, unit_plan

logger = logging.getLogger(__name__)

Stamp = tuple[str, int, int]  # path, size, time of modification
HASHED_BYTES = 2 * 1024**3  # of the files of a selection: beyond, as a folder of all sweeps is
NEIGHBOUR_KINDS = ("image", "invvar", "maskbits")  # what a cutout takes from a neighbouring brick


@dataclass(frozen=True)
class BrickSource:
    """Bricks below a folder, in any layout that `storage.legacysurvey` knows.

    See `tasks.sources.Source` for the methods.
    """

    root: str
    region: str
    config: IngestConfig

    def list_units(self, wanted: list[str] | None, name_list: str | None = None) -> UnitList:
        """Return brick names: those wanted, in order and once, else all that are found.

        Raises
        ------
        BrickNotFound
            If the folder is absent or holds no brick.
        """
        named = _named(wanted, name_list)
        found = named or tuple(discover_bricks(self.root, self.region))
        if not found:
            raise BrickNotFound(
                f"no brick below {self.root}: give the folder that holds coadd/ and tractor/"
            )
        return _inside(self.config, found)

    def fingerprints(self, names: Sequence[str]) -> dict[str, str]:
        """Return digests of names, sizes and times of the files of bricks that are there."""
        found = {}
        for name in names:
            with suppress(StorageError, OSError):  # ingest will say what is wrong with it
                found[name] = brick_fingerprint(self.root, name, self.config, self.region)
        return found

    def layout(self) -> SurveyLayout:
        """Return the layout of a survey in nanomaggies."""
        return SurveyLayout(bands=self.config.bands, size=self.config.cutout.size)

    def config_digest(self) -> str:
        """Return the digest of the configuration and of the files that its selection refers to."""
        digest, files = config_digest(self.config), external_files(self.config.selection)
        if not files:
            return digest
        contents = _files_digest(tuple(map(_stamp, files)))
        return hashlib.sha256(f"{digest} {contents}".encode()).hexdigest()

    def configuration(self) -> dict[str, Any]:
        """Return the ingest configuration, the selection of objects among it."""
        return asdict(self.config)

    def survey(self, name: str) -> UnitPlan:
        """Say what a brick would give."""
        return unit_plan(survey_brick(self.root, name, self.config, self.region))

    def read(self, name: str) -> UnitCutouts:
        """Read a brick."""
        return unit_cutouts(read_brick(self.root, name, config=self.config, region=self.region))

    def forget(self, names: Sequence[str]) -> None:
        """Do nothing: the files are the user's."""


@dataclass(frozen=True)
class RemoteBrickSource:
    """Bricks of a release on a web server or on object storage.

    A brick is staged whole when it is planned, so that what is planned is what is read, and given
    up after its commit. Files that contradict their checksums are set aside with a note.
    """

    tree: ReleaseTree
    staging: str
    config: IngestConfig

    @property
    def staged(self) -> BrickSource:
        """The source of what is staged."""
        return BrickSource(self.staging, self.tree.region, self.config)

    def list_units(self, wanted: list[str] | None, name_list: str | None = None) -> UnitList:
        """Return brick names: those wanted, else all of the region's survey-bricks table."""
        named = _named(wanted, name_list)
        return _inside(self.config, named or self.tree.list_bricks(Path(self.staging)))

    def fingerprints(self, names: Sequence[str]) -> dict[str, str]:
        """Return digests of checksum lists, or of sizes and versions, of the bricks' files."""
        return self.tree.fingerprints(names, self.config.bands)

    def layout(self) -> SurveyLayout:
        """Return the layout of a survey in nanomaggies."""
        return self.staged.layout()

    def config_digest(self) -> str:
        """Return the digest of the ingest configuration."""
        return self.staged.config_digest()

    def configuration(self) -> dict[str, Any]:
        """Return the ingest configuration."""
        return self.staged.configuration()

    def survey(self, name: str) -> UnitPlan:
        """Stage a brick and say what it would give.

        Raises
        ------
        StagingFull
            If the disk has no room for it; what has arrived is kept.
        """
        fingerprint, verified = "", False
        try:
            fingerprint = self.tree.fingerprints([name], self.config.bands).get(name, "")
            self._stage(name)
            plan = self.staged.survey(name)
            verified = plan.status != "failed" and self._is_verified(name)
        except StagingFull:
            raise
        except StorageError as error:
            plan = broken_plan(name, error)
        if plan.status == "quarantined":
            self.tree.quarantine(Path(self.staging), name, plan.reason)
            verified = False
        return replace(plan, fingerprint=fingerprint, verification="verified" if verified else "")

    def read(self, name: str) -> UnitCutouts:
        """Read a staged brick; what another run has given up meanwhile is staged again."""
        self._stage(name)
        return self.staged.read(name)

    def forget(self, names: Sequence[str]) -> None:
        """Remove the staged files of bricks, and of neighbours that were staged for them."""
        around = {other for name in names for other in _around(name, self.config)}
        for name in sorted({*names, *around}):
            self.tree.discard(Path(self.staging), name)

    def _stage(self, name: str) -> None:
        staging, bands = Path(self.staging), self.config.bands
        self.tree.fetch(name, bands, staging)
        for other in _around(name, self.config):
            with suppress(BrickNotFound):  # reading says which cutouts lack it
                self.tree.fetch(other, bands, staging, NEIGHBOUR_KINDS)

    def _is_verified(self, name: str) -> bool:
        """Tell whether lists name every staged file; each was compared when it was staged."""
        files = locate_brick_files(self.staging, name, self.config.bands, self.tree.region)
        return self.tree.config.verify and len(listed_hashes(files)) == len(files.data_files())


def open_bricks(
    settings: Settings,
    source: str,
    survey: tuple[str, str],
    config: IngestConfig,
    fetch: FetchConfig | None = None,
) -> BrickSource | RemoteBrickSource:
    """Return the source for a folder, or for the address of a release.

    Parameters
    ----------
    source : str
        Folder; or https://, s3:// or another URL that fsspec knows.
    survey : tuple of str
        Release and region.
    fetch : FetchConfig, optional
        Limits and patience of transfers.

    Raises
    ------
    StorageError
        If a release elsewhere has no known layout.
    """
    release, region = survey
    if "://" not in source or source.startswith("file://"):
        folder = Path(urlparse(source).path if "://" in source else source)
        return BrickSource(str(folder.absolute()), region, config)  # workers have other folders
    tree = ReleaseTree(source, release, region, fetch or FetchConfig())
    return RemoteBrickSource(tree, str(settings.staging_path / release), config)


def _around(brickname: str, config: IngestConfig) -> list[str]:
    """Return the names of the neighbours that cutouts of a brick may take pixels from."""
    if config.cutout.edge != "stitch":
        return []
    brick, primary_only = brick_from_name(brickname), config.selection.primary_only
    return [b.brickname for b in needed_neighbours(brick, config.cutout.size, primary_only)]


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=8)
def _files_digest(stamps: tuple[Stamp, ...]) -> str:
    """Return a digest of files: of their contents, or where that is too much of their stamps."""
    if sum(size for _, size, _ in stamps) <= HASHED_BYTES:
        return content_digest(Path(path) for path, _, _ in stamps)
    return hashlib.sha256(repr(stamps).encode()).hexdigest()


def _named(wanted: list[str] | None, name_list: str | None) -> tuple[str, ...]:
    listed = read_brick_names(name_list) if name_list else BrickList(())
    for note in listed.notes:
        logger.warning("%s: %s", name_list, note)
    return tuple(dict.fromkeys([*(wanted or ()), *listed]))


def _inside(config: IngestConfig, names: tuple[str, ...]) -> UnitList:
    """Leave out bricks that can hold no selected object, before any of their files is opened."""
    cover = bricks_inside(config.selection, names)
    reasons = zip(cover.bricknames, cover.reasons.tolist(), strict=True)
    skipped = {name: f"no object can be selected: {why}" for name, why in reasons if why}
    return UnitList(tuple(name for name in names if name not in skipped), skipped)
