"""Delete files of predictions that nothing refers to any more; they can be made again.

A file of a brick is needed by the releases that were made of it, and by the champion for the newest
state of its brick. Everything else is left of former champions and of bricks that have changed
since. Files that are young are kept whatever they are: a release of them may wait for a person.
"""

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks import tracking
from tasks.errors import TaskError
from tasks.prediction import written_bricks
from tasks.prediction_files import file_name, prediction_folder
from tasks.references import ModelRef
from tasks.releases import BRICKS, folder_of, list_releases, read_release_bricks
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

DAY_SECONDS = 24 * 3600.0
DEFAULT_DAYS = 14  # a release that passed a limit waits a week for a person
UNFINISHED = "unfinished releases"


class CannotPrune(TaskError, RuntimeError):
    """It cannot be told what is needed; nothing was deleted."""


@dataclass(frozen=True)
class Prunable:
    """Files of one kind that nothing needs: what they are of, how many, how large [byte]."""

    what: str
    files: int
    bytes: int


@dataclass(frozen=True)
class PruningPlan:
    """What would be deleted, and how many files are kept for which reason."""

    paths: tuple[Path, ...]
    prunable: tuple[Prunable, ...]
    kept: dict[str, int]

    @property
    def bytes(self) -> int:
        """Return the size of what would be deleted [byte]."""
        return sum(item.bytes for item in self.prunable)


def plan_pruning(
    settings: Settings, days: float = DEFAULT_DAYS, *, now: float | None = None
) -> PruningPlan:
    """Say which files of predictions nothing needs; nothing is changed.

    Parameters
    ----------
    days : float
        Younger files are kept.
    now : float, optional
        Seconds since 1970; the present by default.

    Raises
    ------
    CannotPrune
        If a release does not say which bricks it has.
    StorageError
        If a survey with predictions cannot be read.
    """
    place = settings.predictions_path
    if not place.is_dir():
        return PruningPlan((), (), {})
    oldest = (time.time() if now is None else now) - days * DAY_SECONDS
    needed = {"a release": _of_releases(settings), "the champion": _of_champions(settings)}
    paths, kept = [], Counter[str]()
    found: dict[str, list[int]] = defaultdict(list)
    for path in _files(place):
        reasons = [why for why, folders in needed.items() if path.name in folders[_folder(path)]]
        state = path.stat()
        if not reasons and state.st_mtime > oldest:
            reasons = ["being young"]
        if reasons:
            kept[reasons[0]] += 1
            continue
        paths.append(path)
        found[_what(place, path)].append(state.st_size)
    prunable = (Prunable(what, len(sizes), sum(sizes)) for what, sizes in sorted(found.items()))
    return PruningPlan(tuple(paths), tuple(prunable), dict(kept))


def prune(settings: Settings, plan: PruningPlan) -> int:
    """Delete what a plan names, and the folders that this leaves empty.

    A cycle that goes on meanwhile predicts again what it misses.

    Returns
    -------
    int
        The number of files deleted.
    """
    deleted, place = 0, settings.predictions_path
    for path in plan.paths:
        try:
            path.unlink()
        except FileNotFoundError:  # somebody else prunes as well
            continue
        deleted += 1
    folders = {folder for path in plan.paths for folder in path.parents}
    below = [folder for folder in folders if folder.is_relative_to(place) and folder != place]
    for folder in sorted(below, key=lambda one: len(one.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            shutil.rmtree(folder)
    return deleted


def _of_releases(settings: Settings) -> dict[Path, set[str]]:
    """Return the names of the files that releases were made of, by the folder of the model."""
    needed: dict[Path, set[str]] = defaultdict(set)
    for release in list_releases(settings):
        try:
            bricks = read_release_bricks(folder_of(settings, release))
        except (OSError, ValueError) as error:
            raise CannotPrune(
                f"{release.tag}: {BRICKS} cannot be read, so nobody knows what it needs ({error}); "
                "take the release from a backup"
            ) from error
        names = {file_name(str(name), str(v)) for name, v in bricks["version"].items()}
        needed[prediction_folder(settings, release.survey, release.model)] |= names
    return needed


def _of_champions(settings: Settings) -> dict[Path, set[str]]:
    """Return the names of the files that champions have of the newest state of surveys."""
    needed: dict[Path, set[str]] = defaultdict(set)
    champions = [_champion(settings, name) for name in tracking.registered_models(settings)]
    for survey in _surveys(settings):
        present = [model for model in champions if model and _has(settings, survey, model)]
        if not present:
            continue
        bricks = written_bricks(find_snapshot(settings, survey, None))
        names = {file_name(str(name), str(v)) for name, v in bricks["version"].items()}
        for model in present:
            needed[prediction_folder(settings, survey, model)] |= names
    return needed


def _champion(settings: Settings, downstream: str) -> ModelRef | None:
    return tracking.champion(settings, downstream)


def _has(settings: Settings, survey: str, model: ModelRef) -> bool:
    return prediction_folder(settings, survey, model).is_dir()


def _surveys(settings: Settings) -> Iterator[str]:
    """Yield the surveys that have predictions."""
    place = settings.predictions_path
    for region in sorted(place.glob("*/*")):
        if region.is_dir() and not region.parent.name.startswith("."):
            yield region.relative_to(place).as_posix()


def _files(place: Path) -> Iterator[Path]:
    """Yield the files of bricks, and those of releases that were never finished."""
    yield from sorted(path for path in place.glob(".*.part/**/*") if path.is_file())
    yield from sorted(place.glob("[!.]*/*/*/*/*/*.parquet"))


def _folder(path: Path) -> Path:
    """Return the folder of the model that a file of a brick lies in."""
    return path.parent.parent


def _what(place: Path, path: Path) -> str:
    """Return what a file is of: survey, downstream task and version of the model."""
    parts = path.relative_to(place).parts
    if parts[0].startswith("."):
        return UNFINISHED
    return f"{parts[0]}/{parts[1]} {parts[2]} {parts[3]}"
