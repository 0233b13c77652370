"""Catalogue releases of a home: what each is, where it lies, which ones there are.

A release is a folder `<home>/catalogues/<survey>/<downstream>/<tag>` that never changes:

    release.json        what it is: model, snapshot, files with their checksums, release before it
    catalogue.parquet   all rows in one file, in the order of brick names
    catalogue.fits      the same for TOPCAT
    hats.properties, partition_info.csv, dataset/    the same as a HATS catalogue, for LSDB
    bricks.arrow        one row a brick: objects, digests, model and encoder
    changes.json, changes.html    what is other than in the release before
"""

import hashlib
from pathlib import Path

import pandas as pd
from pyarrow import feather

from storage.checksums import file_sha256
from tasks.errors import TaskError
from tasks.prediction_files import PREDICTION_VERSION
from tasks.references import CatalogueRef, ModelRef, Reference, SnapshotRef
from tasks.settings import Settings

MANIFEST = "release.json"
BRICKS = "bricks.arrow"
CHANGES, PAGE = "changes.json", "changes.html"
NUMBER_DIGITS = 4


class NoRelease(TaskError, LookupError):
    """There is no catalogue release of such a name."""


class DamagedRelease(TaskError, RuntimeError):
    """The files of a release are not those that were published."""


class ReleaseFile(Reference):
    """Size [byte] and SHA-256 of a file of a release."""

    size: int
    sha256: str


class Release(Reference):
    """One published catalogue.

    `state` is a digest of what it was made from (bricks, their versions, the model): the same
    state is never published twice in a row. `previous` is the tag of the release before it, or
    empty. `decision` says who let it pass, where a limit was passed.
    """

    tag: str
    number: int
    survey: str
    downstream: str
    created_at: str
    code_version: str
    rows: int
    bricks: int
    state: str
    previous: str
    model: ModelRef
    snapshot: SnapshotRef
    formats: tuple[str, ...]
    files: dict[str, ReleaseFile]
    flow_run_id: str = ""
    decision: str = ""


def releases_folder(settings: Settings, survey: str, downstream: str) -> Path:
    """Return the folder of the releases of a survey's downstream task."""
    return settings.catalogue_path / survey / downstream


def release_tag(survey: str, downstream: str, number: int) -> str:
    """Return the name of a release, such as dr10-south-morphology-0003."""
    return f"{survey.replace('/', '-')}-{downstream}-{number:0{NUMBER_DIGITS}d}"


def list_releases(settings: Settings, survey: str = "", downstream: str = "") -> list[Release]:
    """Return releases, those of a survey or a downstream task where they are named, oldest first.

    Within a task they come in the order of their numbers.
    """
    found = [
        read_release(path.parent) for path in settings.catalogue_path.glob(f"*/*/*/*/{MANIFEST}")
    ]
    chosen = [
        release
        for release in found
        if survey in ("", release.survey) and downstream in ("", release.downstream)
    ]
    return sorted(chosen, key=lambda one: (one.survey, one.downstream, one.number))


def newest_release(settings: Settings, survey: str, downstream: str) -> Release | None:
    """Return the newest release of a survey's downstream task, or None."""
    folder = releases_folder(settings, survey, downstream)
    found = [read_release(path.parent) for path in folder.glob(f"*/{MANIFEST}")]
    return max(found, key=lambda release: release.number, default=None)


def read_release(folder: Path) -> Release:
    """Return what the release in a folder is."""
    try:
        return Release.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NoRelease(f"{folder} holds no catalogue release: {MANIFEST} is not there") from error


def find_release(settings: Settings, name: str) -> tuple[Release, Path]:
    """Return a release by its tag or folder, with its folder.

    Raises
    ------
    NoRelease
        If there is none, or more than one of that tag.
    """
    if (Path(name) / MANIFEST).is_file():
        return read_release(Path(name)), Path(name)
    pattern = f"*/*/*/{name}/{MANIFEST}"
    folders = [path.parent for path in settings.catalogue_path.glob(pattern)]
    if len(folders) != 1:
        raise NoRelease(
            f"{len(folders)} catalogue releases are called {name!r}: give a tag of "
            "`brickyard releases`, or the folder of one"
        )
    return read_release(folders[0]), folders[0]


def folder_of(settings: Settings, release: Release) -> Path:
    """Return the folder of a release of this home."""
    return releases_folder(settings, release.survey, release.downstream) / release.tag


def reference_of(settings: Settings, release: Release) -> CatalogueRef:
    """Return a release as what flows pass on; its path is that of the manifest."""
    path = folder_of(settings, release) / MANIFEST
    return CatalogueRef(
        path=str(path),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        rows=release.rows,
        model=release.model,
        snapshot=release.snapshot,
    )


def read_release_bricks(folder: Path) -> pd.DataFrame:
    """Return the bricks of a release, indexed by brickname, in the order of names."""
    return feather.read_table(folder / BRICKS).to_pandas().set_index("brickname")


def state_of(bricks: pd.DataFrame, model: ModelRef, formats: tuple[str, ...]) -> str:
    """Return the digest of what a release is made from.

    Parameters
    ----------
    bricks : DataFrame
        Indexed by brickname: ``n_objects``, ``version``.
    """
    found = hashlib.sha256(f"{PREDICTION_VERSION} {sorted(formats)}".encode())
    found.update(f"{model.downstream} {model.version} {model.digest}\n".encode())
    ordered = bricks.sort_index()
    lines = zip(ordered.index, ordered["version"], ordered["n_objects"], strict=True)
    found.update("".join(f"{name} {version} {count}\n" for name, version, count in lines).encode())
    return found.hexdigest()


def list_files(folder: Path) -> dict[str, ReleaseFile]:
    """Return size and SHA-256 of every file below a folder but the manifest, by relative name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): ReleaseFile(
            size=path.stat().st_size, sha256=file_sha256(path)
        )
        for path in paths
        if path.name != MANIFEST
    }


def verify_release(folder: Path) -> Release:
    """Compare the files of a release with its manifest and return it.

    Raises
    ------
    DamagedRelease
        If a file is absent, added or other than published; the message names them.
    """
    release = read_release(folder)
    found = list_files(folder)
    names = sorted(set(found) | set(release.files))
    wrong = [name for name in names if found.get(name) != release.files.get(name)]
    if wrong:
        raise DamagedRelease(
            f"{release.tag}: {len(wrong)} files are not those that were published, such as "
            f"{wrong[0]}: take the release from a backup"
        )
    return release
