"""A release somewhere: in a folder, on a web server, in S3-compatible storage."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from astropy.io import fits

from storage.checksums import digest_of_hashes
from storage.errors import BrickNotFound, CorruptFile, StorageError
from storage.fetch.brick_transfer import bring_brick, in_threads, read_lists
from storage.fetch.config import FetchConfig
from storage.fetch.manners import Manners, NoManners
from storage.fetch.patience import Patience
from storage.fetch.remote_files import Identity, Remote, RemoteBrick, RemoteFile, lists_all
from storage.fetch.report import FetchReport
from storage.fetch.staging import Staging
from storage.fetch.transfer import Transfer
from storage.layouts import BRICK_KINDS, ReleaseLayout, layout_of
from storage.legacysurvey import BRICK_NAME


@dataclass(frozen=True)
class ReleaseTree:
    """The bricks of one region of a release, below a folder or a URL. Small; travels to workers.

    Parameters
    ----------
    url : str
        Release root, with or without the region's folder: a local folder, ``https://...``,
        ``s3://bucket/...`` or any other URL that fsspec knows.
    release, region : str
        Such as "dr9", "north".
    config : FetchConfig

    Raises
    ------
    StorageError
        When no layout of the release and region is known.
    """

    url: str
    release: str
    region: str
    config: FetchConfig = field(default_factory=FetchConfig)

    def __post_init__(self) -> None:
        layout_of(self.release, self.region)
        url = self.url.rstrip("/").removesuffix(f"/{self.region}")
        object.__setattr__(self, "url", url)

    @property
    def layout(self) -> ReleaseLayout:
        """The layout of the release."""
        return layout_of(self.release, self.region)

    @property
    def is_local(self) -> bool:
        """Tell whether the release is a folder of this machine, which needs no staging."""
        return "://" not in self.url or self.url.startswith("file://")

    def list_bricks(self, staging: Path | None = None) -> tuple[str, ...]:
        """Return the names of the region's bricks, from its survey-bricks table.

        `staging` keeps the table for the next time.
        """
        if staging is not None:
            return _bricknames(self.fetch_file(self.layout.region_bricks_path, staging))
        with tempfile.TemporaryDirectory(prefix="brickyard-") as folder:
            return self.list_bricks(Path(folder))

    def fetch_file(self, path: str, staging: Path) -> Path:
        """Stage one file, such as a table of bricks or a sweep; `path` is below the release root.

        Raises
        ------
        StorageError
            When the release has no such file.
        """
        report = self._transfer(staging).bring(path)
        if not report.files:
            raise StorageError(
                f"{self.url}/{path}: no such file; check the source's address, release and region"
            )
        return report.files[0]

    def describe(self, brickname: str, bands: Sequence[str]) -> RemoteBrick:
        """Say which files a brick has, by one request a file that it could have.

        Raises
        ------
        BrickNotFound
            When the name is no brick's.
        FetchFailed, FetchRefused
        """
        candidates = self._candidates(brickname, bands)
        remote, manners = self._remote(), self._manners()

        def look(candidate: tuple[str, str, str]) -> Identity | None:
            return Patience(self.config, manners).look(remote, candidate[2])

        identities = in_threads(look, candidates, self.config.connections)
        found = tuple(
            RemoteFile(path, kind, band, identity)
            for (kind, band, path), identity in zip(candidates, identities, strict=True)
            if identity is not None
        )
        paths = {file.path for file in found}
        absent = tuple(path for _, _, path in candidates if path not in paths)
        lists = [file.path for file in found if file.kind == "checksums"]
        listed = self._read_lists(lists)
        return RemoteBrick(brickname, found, absent, _of_candidates(listed, candidates))

    def fingerprint(self, brick: RemoteBrick) -> str:
        """Return a digest that changes when a file of the brick does; asks the server nothing."""
        return brick.fingerprint()

    def fingerprints(self, bricknames: Iterable[str], bands: Sequence[str]) -> dict[str, str]:
        """Return fingerprints by brick name, by one request a brick where the pipeline's list is.

        They are those of `fingerprint`. Bricks without a file are left out.
        """

        def ask(brickname: str) -> str:
            candidates = self._candidates(brickname, bands)
            lists = self.layout.checksum_paths(brickname)
            listed = _of_candidates(self._read_lists(lists), candidates)
            if lists_all(listed):
                return digest_of_hashes(listed)
            brick = replace(self, config=one_by_one).describe(brickname, bands)
            return brick.fingerprint() if brick.files else ""

        one_by_one = replace(self.config, connections=1)  # the threads are for the bricks
        names = tuple(bricknames)
        digests = in_threads(ask, names, self.config.connections)
        return {name: digest for name, digest in zip(names, digests, strict=True) if digest}

    def fetch(
        self,
        brickname: str,
        bands: Sequence[str],
        staging: Path,
        kinds: Sequence[str] | None = None,
    ) -> FetchReport:
        """Stage the files of a brick, so that `locate_brick_files(staging, ...)` finds them.

        Whole files that are staged already are not fetched again, broken transfers are resumed.

        Parameters
        ----------
        kinds : sequence of str, optional
            Such as ``("tractor",)`` to plan; default all of `storage.layouts.BRICK_KINDS`.

        Raises
        ------
        BrickNotFound
            When the release has neither a coadd nor a catalogue of the brick.
        ChecksumMismatch
            When a file is, twice, not the one that the survey's list names; see `quarantine`.
        FetchFailed, FetchRefused, StagingFull
        """
        kinds = tuple(kinds or BRICK_KINDS)
        lists = self.layout.checksum_paths(brickname)
        paths = [path for _, _, path in self._candidates(brickname, bands, kinds)]
        report = bring_brick(self._transfer(staging), paths[: -len(lists)], lists)
        if "image" in kinds and not any(_is_data(path) for path in report.files):
            raise BrickNotFound(
                f"{self.url}: {self.layout.survey_key} has no coadd and no catalogue of brick "
                f"{brickname}; check the name against the region's survey-bricks table"
            )
        return report

    def discard(self, staging: Path, brickname: str) -> None:
        """Remove the staged files of a brick and what broken transfers left of them.

        Lists that other bricks of its group share stay.
        """
        folder = Staging(staging)
        for path in self._own_paths(brickname):
            folder.forget(path)
        self._remove_folder(staging, brickname)

    def quarantine(self, staging: Path, brickname: str, reason: str) -> Path:
        """Move the staged files of a brick to ``<staging>/quarantine`` and return that folder.

        A note.json in it says why. What an earlier quarantine of the brick kept is replaced.
        """
        note = {"brickname": brickname, "source": self.url, "reason": reason}
        folder = f"{self.release}-{self.region}/{brickname}"
        aside = Staging(staging).set_aside(self._own_paths(brickname), folder, note)
        self._remove_folder(staging, brickname)
        return aside

    def _candidates(
        self, brickname: str, bands: Sequence[str], kinds: Sequence[str] = BRICK_KINDS
    ) -> list[tuple[str, str, str]]:
        """Return (kind, band, path) of all files that a brick can have, its lists at the end."""
        if BRICK_NAME.fullmatch(brickname) is None:
            raise BrickNotFound(f"{brickname!r} is no brick name; write it as '1238p245'")
        lists = (("checksums", "", path) for path in self.layout.checksum_paths(brickname))
        return [*self.layout.brick_paths(brickname, bands, kinds), *lists]

    def _own_paths(self, brickname: str) -> list[str]:
        candidates = self._candidates(brickname, self.layout.bands)
        return [path for _, _, path in candidates if not self.layout.shares(path)]

    def _remove_folder(self, staging: Path, brickname: str) -> None:
        """Remove the folder of a brick's coadds; those above it are shared by other bricks."""
        path = next(path for kind, _, path in self._candidates(brickname, ()) if kind == "maskbits")
        folder = (staging / path).parent
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _remote(self) -> Remote:
        # Imported where they are used: fsspec and aiohttp cost a command its start.
        if self.url.startswith(("http://", "https://")):
            from storage.fetch.http_remote import HttpRemote

            return HttpRemote(self.url, self.config)
        from storage.fetch.object_remote import ObjectRemote

        return ObjectRemote(self.url, self.config)

    def _manners(self) -> Manners:
        return NoManners() if self.is_local else Manners(self.url, self.config)

    def _read_lists(self, paths: Iterable[str]) -> dict[str, str]:
        with tempfile.TemporaryDirectory(prefix="brickyard-") as folder:
            return read_lists(self._transfer(Path(folder)), paths)

    def _transfer(self, staging: Path) -> Transfer:
        return Transfer(self._remote(), Staging(staging), self._manners(), self.config)


def _of_candidates(
    listed: Mapping[str, str], candidates: Iterable[tuple[str, str, str]]
) -> dict[str, str]:
    names = {PurePosixPath(path).name for _, _, path in candidates}
    return {name: sha256 for name, sha256 in listed.items() if name in names}


def _is_data(path: Path) -> bool:
    return path.name.startswith("tractor-") or "-image-" in path.name


def _bricknames(table: Path) -> tuple[str, ...]:
    """Return the column BRICKNAME of a table of bricks, without keeping the others."""
    try:
        with fits.open(table, memmap=False) as hdus:
            names = hdus[1].data["brickname"]
    except (OSError, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        raise CorruptFile(
            f"{table}: not a readable table of bricks ({error}); remove it"
        ) from error
    return tuple(str(name).strip() for name in names)
