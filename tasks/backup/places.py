"""Where the state of an installation is: which files are state, in which order they are saved.

The order makes a backup consistent while services run. What refers is saved before what it refers
to: a catalogue before the registry, the registry before artifacts and encoders, embeddings before
the survey. All of these only grow, so whatever was named at the time of the one is there at the
later time of the other.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.object_storage import is_object_storage
from storage.repository import EMBEDDING_REPOSITORY, SURVEY_REPOSITORY
from tasks.settings import Settings

PREFECT, MLFLOW, DECISIONS = "prefect/prefect.db", "mlflow.db", "decisions.sqlite"
# Saved as one, while nobody can decide: an alias agrees with the decision that moved it.
GATE = (DECISIONS, MLFLOW)
REPOSITORIES = (EMBEDDING_REPOSITORY, SURVEY_REPOSITORY)  # embeddings refer to survey snapshots
UNFINISHED = ".restoring"
PREDICTED = "predictions of bricks"  # why files are left out

_BEFORE_THE_GATE = (PREFECT, "prefect/", "catalogues/", "reports/", "receipts/", "queue.sqlite")
_RECORDS = ("services.json", "prefect-server.json")  # of what runs now
_PARTIAL = re.compile(r"\.\d+\.part$|#\d+$")  # tasks.whole_files; object stores' own
_SIDES = ("-wal", "-shm", "-journal")  # of an SQLite file; what they hold is in its copy
_SQLITE = b"SQLite format 3\x00"


@dataclass(frozen=True)
class HomeFiles:
    """Files of a home folder by the time at which they are saved, and a count of the others."""

    before: tuple[str, ...]
    gate: tuple[str, ...]
    after: tuple[str, ...]
    left_out: Mapping[str, int]


def find_home_files(settings: Settings, *, predictions: bool = False) -> HomeFiles:
    """Return the files of the home folder that are state, without the store.

    Parameters
    ----------
    predictions : bool
        With the predictions of bricks, which can be made again.
    """
    home = settings.home.resolve()
    apart = {settings.staging_path: "being fetched", home / UNFINISHED: "unfinished restore"}
    if not predictions:
        apart[settings.predictions_path] = PREDICTED
    left_out: dict[str, int] = {}
    kept: list[str] = []
    remote = is_object_storage(settings.store_path)
    store = None if remote else Path(settings.store_path).resolve()
    for path in walk(home):
        if store is not None and path.is_relative_to(store):
            continue
        name = path.relative_to(home).as_posix()
        within = [why for folder, why in apart.items() if path.is_relative_to(folder)]
        reason = within[0] if within else reason_to_leave_out(name)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            kept.append(name)
    before = [name for name in kept if name.startswith(_BEFORE_THE_GATE)]
    gate = [name for name in GATE if name in kept]
    after = [name for name in kept if name not in {*before, *gate}]
    before.sort(key=lambda name: (name != PREFECT, name))
    return HomeFiles(tuple(before), tuple(gate), tuple(sorted(after)), left_out)


def reason_to_leave_out(name: str) -> str:
    """Return why a file of the home folder or the store is no state; empty if it is."""
    if name in _RECORDS:
        return "records of running services"
    if name.endswith((".lock", ".lock.json")):
        return "locks"
    if "/" not in name and name.endswith(".log"):
        return "logs of services"
    if _PARTIAL.search(name):
        return "files being written"
    return "sides of databases" if name.endswith(_SIDES) else ""


def is_database(path: Path) -> bool:
    """Say whether a file is an SQLite database, whatever its name."""
    with path.open("rb") as source:
        return source.read(len(_SQLITE)) == _SQLITE


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, also through links to folders, each folder once."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name for name in sorted(folders) if os.path.realpath(Path(place, name)) not in seen
        ]
        seen.update(os.path.realpath(Path(place, name)) for name in folders)
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file():  # no sockets, no dead links
                yield path


def state_elsewhere(settings: Settings, environment: Mapping[str, str]) -> list[str]:
    """Say of all state that is not in files of this host where it is and how it is saved there."""
    found = []
    if is_object_storage(settings.store_path):
        found.append(
            f"the store {settings.store_path}: use the versioning or replication of its bucket, or "
            "copy its objects, those below refs/ first"
        )
    if settings.tracking_uri and not _is_home_database(settings):
        found.append(
            f"MLflow at {_without_password(settings.tracking_uri)}: dump its database (pg_dump) "
            "and then copy its artifacts"
        )
    names = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
    found += [
        f"Prefect's database at {_without_password(environment[name])}: dump it (pg_dump)"
        for name in names
        if environment.get(name)
    ]
    prefect_home = environment.get("PREFECT_HOME")
    if prefect_home and not Path(prefect_home).resolve().is_relative_to(settings.home.resolve()):
        found.append(f"Prefect's own folder {prefect_home}: stop its server and copy it")
    return found


def _is_home_database(settings: Settings) -> bool:
    return settings.tracking_uri == Settings(home=settings.home, tracking_uri="").mlflow_uri


def _without_password(url: str) -> str:
    return re.sub(r"//([^:/@]+):[^@]*@", r"//\1:***@", url)
