"""SHA-256 of survey files: lists that come with a release, and digests of what was read.

Two forms of list are understood: the pipeline's ``<sha256> *<path below the region>`` and the
release packing's ``<sha256>  <file name>``. A file that no list names is "unverified", not wrong.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.errors import ChecksumMismatch, CorruptFile
from storage.legacysurvey import BrickFiles

Verification = Literal["verified", "partly verified", "unverified"]
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


@dataclass(frozen=True)
class FileHashes:
    """SHA-256 of the files of a brick by file name, and what the lists said of them."""

    sha256: Mapping[str, str]
    verification: Verification

    def digest(self) -> str:
        """Return the content digest of the files."""
        return digest_of_hashes(self.sha256)


def read_checksums(path: Path) -> dict[str, str]:
    """Return ``{file name: sha256}`` of a list; blank lines and comments are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptFile(f"{path}: not a readable checksum list ({error})") from error
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise CorruptFile(
                f"{path}, line {number}: not '<sha256> *<path>' nor '<sha256>  <name>'; "
                "fetch the list again"
            )
        sums[Path(match.group(2)).name] = match.group(1).lower()
    return sums


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_digest(files: Iterable[Path]) -> str:
    """Return one digest of the names and contents of files, whatever folder they are in."""
    return digest_of_hashes({path.name: file_sha256(path) for path in files})


def digest_of_hashes(sha256: Mapping[str, str]) -> str:
    """Return the digest of sorted (name, sha256) pairs."""
    text = "\n".join(f"{sha256[name]} {name}" for name in sorted(sha256))
    return hashlib.sha256(text.encode()).hexdigest()


def listed_hashes(files: BrickFiles) -> dict[str, str]:
    """Return the hashes that the brick's lists give for its data files, without reading those.

    Intermediate catalogues share the file name of the final one, so a list never speaks of them.
    """
    sums: dict[str, str] = {}
    for path in files.checksum_lists:
        sums.update(read_checksums(path))
    names = {path.name for path in _verifiable(files)}
    return {name: value for name, value in sums.items() if name in names}


def hash_files(files: BrickFiles, compare: bool = True) -> FileHashes:
    """Hash the data files of a brick and, with ``compare``, compare with its lists.

    Raises
    ------
    ChecksumMismatch
        When a file is not the one that a list names.
    """
    paths = files.data_files()
    sums = {path.name: file_sha256(path) for path in paths}
    listed = listed_hashes(files) if compare else {}
    wrong = [path for path in paths if listed.get(path.name, sums[path.name]) != sums[path.name]]
    if wrong:
        lists = ", ".join(str(path) for path in files.checksum_lists)
        raise ChecksumMismatch(
            f"{', '.join(str(path) for path in wrong)}: SHA-256 differs from {lists}; "
            "fetch the files again, or the list if the brick was replaced"
        )
    if not listed:
        return FileHashes(sums, "unverified")
    return FileHashes(sums, "verified" if len(listed) == len(paths) else "partly verified")


def verify_files(files: BrickFiles) -> Verification:
    """Compare the data files of a brick with its checksum lists."""
    return hash_files(files).verification


def _verifiable(files: BrickFiles) -> tuple[Path, ...]:
    paths = files.data_files()
    return (
        paths if files.tractor_kind == "tractor" else tuple(p for p in paths if p != files.tractor)
    )
