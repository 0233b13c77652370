"""The staging folder: where fetched files lie, where broken transfers wait, what is set aside.

::

    <staging>/<region>/coadd/..., tractor/...   whole files only, in the canonical layout
    <staging>/.transfer/                        parts, records of what was fetched, locks
    <staging>/quarantine/<release>-<region>/<brick>/   files set aside, with a note.json
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from filelock import FileLock

from storage.fetch.remote_files import Identity

#: Locks of targets are shared by chance rather than made one a file, which would pile up: a lock
#: file cannot be removed safely.
LOCKS = 256


@dataclass(frozen=True)
class Record:
    """What was fetched into a part or a staged file; `sha256` once it was compared with a list."""

    identity: Identity
    sha256: str = ""


@dataclass(frozen=True)
class Staging:
    """Paths and moves inside a staging folder; `path` is below the release root."""

    root: Path
    transfers: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "transfers", self.root / ".transfer")
        self.transfers.mkdir(parents=True, exist_ok=True)

    def target(self, path: str) -> Path:
        """Return where a whole file lies."""
        return self.root / path

    def part(self, path: str) -> Path:
        """Return where the beginning of a file waits for the rest."""
        return self._beside(path, "part")

    def wrong(self, path: str) -> Path:
        """Return where a file lies that is not the one its list names."""
        return self._beside(path, "wrong")

    def lock(self, path: str) -> FileLock:
        """Return a lock that no two processes hold for one file."""
        return FileLock(self.transfers / f"{zlib.crc32(path.encode()) % LOCKS:03d}.lock")

    def record(self, path: str) -> Record | None:
        """Return what is known of a part or a staged file, None where that is nothing."""
        try:
            content = json.loads(self._beside(path, "json").read_text(encoding="utf-8"))
            return Record(Identity(**content["identity"]), content["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_record(self, path: str, record: Record) -> None:
        """Keep what is known of a part or a staged file."""
        kept = self._beside(path, "json")
        temporary = kept.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
        os.replace(temporary, kept)

    def publish(self, path: str) -> Path:
        """Give a whole part its name."""
        target = self.target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.part(path), target)
        self.wrong(path).unlink(missing_ok=True)
        _sync(target.parent)
        return target

    def forget(self, path: str) -> None:
        """Remove a file in every form."""
        for found in (self.target(path), *self._transfer_files(path)):
            found.unlink(missing_ok=True)

    def set_aside(self, paths: Iterable[str], folder: str, note: dict[str, str]) -> Path:
        """Move files to `quarantine/<folder>`, in place of what an earlier time left there."""
        aside = self.root / "quarantine" / folder
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        sizes = {}
        for path in paths:
            name = PurePosixPath(path).name
            for found in (self.target(path), self.wrong(path)):
                if found.is_file():
                    os.replace(found, aside / name)
                    sizes[name] = (aside / name).stat().st_size
            self.forget(path)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        content = json.dumps(note | {"when": when, "bytes": sizes}, indent=1)
        (aside / "note.json").write_text(content, encoding="utf-8")
        return aside

    def free_bytes(self) -> int:
        """Return the bytes that are free on the disk of the folder."""
        return shutil.disk_usage(self.root).free

    def _transfer_files(self, path: str) -> tuple[Path, ...]:
        return tuple(self._beside(path, suffix) for suffix in ("part", "wrong", "json", "new"))

    def _beside(self, path: str, suffix: str) -> Path:
        return self.transfers / f"{path.replace('/', '--')}.{suffix}"


def _sync(folder: Path) -> None:
    """Make a rename outlast a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
