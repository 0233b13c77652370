"""What a server says of a file and of a brick, and what any kind of server must be able to do."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from storage.checksums import digest_of_hashes


@dataclass(frozen=True)
class Identity:
    """What tells one content of a remote file from another, as far as the server says it.

    Empty strings and a size of -1 mean "not said".
    """

    size: int = -1
    etag: str = ""
    last_modified: str = ""

    @property
    def validator(self) -> str:
        """A value for If-Range: a strong ETag, else the time; empty where a resume is not safe."""
        return self.last_modified if self.etag.startswith("W/") else self.etag or self.last_modified

    def same_as(self, other: "Identity") -> bool:
        """Tell whether two answers speak of one content; never true where nothing tells."""
        if self.size != other.size and -1 not in (self.size, other.size):
            return False
        if self.etag and other.etag:
            return self.etag == other.etag
        return bool(self.last_modified) and self.last_modified == other.last_modified


@dataclass(frozen=True)
class RemoteFile:
    """A file of a brick on a server: `path` is below the release root, `size` [bytes]."""

    path: str
    kind: str
    band: str
    identity: Identity

    @property
    def size(self) -> int:
        """Size [bytes], -1 where the server does not say it."""
        return self.identity.size


@dataclass(frozen=True)
class RemoteBrick:
    """What a release has of a brick.

    Parameters
    ----------
    files : tuple of RemoteFile
        Files that exist, checksum lists (kind "checksums") among them.
    absent : tuple of str
        Paths below the release root of files that it could have and has not.
    listed : mapping
        SHA-256 by file name, from the brick's checksum lists, of the files above.
    """

    brickname: str
    files: tuple[RemoteFile, ...]
    absent: tuple[str, ...]
    listed: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.size for file in self.files if file.size >= 0)

    def fingerprint(self) -> str:
        """Return a digest that changes when a file of the brick does, without reading it.

        Where the lists name the catalogue and an image, they name all that the pipeline wrote, and
        their SHA-256 decide. Else every file counts by its size and its ETag or time.
        """
        if lists_all(self.listed):
            return digest_of_hashes(self.listed)
        lines = [
            f"{file.path} {identity.size} {identity.etag or identity.last_modified}"
            for file in self.files
            if file.kind != "checksums" and (identity := file.identity)
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def lists_all(listed: Mapping[str, str]) -> bool:
    """Tell whether checksum lists speak of a whole brick: of its catalogue and of an image."""
    return any(name.startswith("tractor-") for name in listed) and any(
        "-image-" in name for name in listed
    )


@dataclass(frozen=True)
class Stream:
    """An open transfer: the bytes of a file from `offset` on, and what the file is."""

    offset: int
    identity: Identity
    blocks: Iterator[bytes]


class Remote(Protocol):
    """A place that files come from; `path` is below its root.

    Every method raises `storage.fetch.errors.TransientFault` for a fault of a moment,
    `FetchRefused` for one that stays.
    """

    def look(self, path: str) -> Identity | None:
        """Return what a file is, or None where there is none."""
        ...

    def open(
        self, path: str, offset: int = 0, known: Identity | None = None
    ) -> AbstractContextManager[Stream | None]:
        """Open a file, from `offset` where it is still the `known` one, else from its start.

        The context is None where there is no file.
        """
        ...
