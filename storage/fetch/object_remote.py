"""Files of any other place that fsspec knows: a local folder, S3-compatible storage.

Bytes are asked for in ranges. These file systems tell a missing file from a fault by the type of
the exception.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from storage.errors import StorageError
from storage.fetch.config import FetchConfig
from storage.fetch.errors import ContentChanged, FetchRefused, TransientFault
from storage.fetch.remote_files import Identity, Stream

RANGE_BYTES = 8 << 20
#: s3fs translates answers that another try cannot change into these.
LASTING = frozenset({errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOSYS})
#: botocore's exceptions by name, since it may not be installed.
LASTING_NAMES = frozenset({"NoCredentialsError", "PartialCredentialsError", "ParamValidationError"})


class ObjectRemote:
    """A tree of files below an fsspec URL; see `storage.fetch.remote_files.Remote`."""

    def __init__(self, url: str, config: FetchConfig) -> None:
        protocol = url.partition("://")[0] if "://" in url else "file"
        options = config.options()
        if protocol in ("s3", "s3a"):
            timeouts = dict.fromkeys(("connect_timeout", "read_timeout"), config.timeout_seconds)
            options["config_kwargs"] = timeouts | options.get("config_kwargs", {})
        try:
            self._files = fsspec.filesystem(protocol, use_listings_cache=False, **options)
        except ImportError as error:
            raise StorageError(
                f"{url}: reading {protocol} needs a package that is not installed ({error}); "
                "for S3: pip install brickyard[s3]"
            ) from error
        except ValueError as error:
            raise StorageError(
                f"{url}: {error}; give a folder, or a URL that starts with https:// or s3://"
            ) from error
        self._url = url.rstrip("/")

    def look(self, path: str) -> Identity | None:
        """Return what a file is, or None where there is none."""
        found = self._ask("info", path)
        if found is None or found.get("type") != "file":
            return None
        when = found.get("LastModified") or found.get("mtime") or ""
        etag = found.get("ETag") or ""
        return Identity(int(found["size"]), str(etag), str(when))

    @contextmanager
    def open(
        self, path: str, offset: int = 0, known: Identity | None = None
    ) -> Iterator[Stream | None]:
        """Open a file; see `Remote.open`."""
        identity = self.look(path)
        if identity is None:
            yield None
            return
        same = known is not None and identity.same_as(known) and offset < identity.size
        start = offset if same else 0
        yield Stream(start, identity, self._blocks(path, start, identity))

    def _blocks(self, path: str, start: int, identity: Identity) -> Iterator[bytes]:
        for first in range(start, identity.size, RANGE_BYTES):
            last = min(first + RANGE_BYTES, identity.size)
            block = self._ask("cat_file", path, start=first, end=last)
            if block is None or len(block) != last - first:
                raise TransientFault(f"{self._url}/{path}: short read at byte {first}")
            yield block
        if self.look(path) != identity:
            raise ContentChanged(f"{self._url}/{path}: changed during its transfer")

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        """Call a method of the file system; None where there is no such file."""
        url = f"{self._url}/{path}"
        try:
            return getattr(self._files, method)(url, **options)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise FetchRefused(f"{url}: {error}; check the credentials") from error
        except Exception as error:
            # The exceptions of botocore, s3fs and urllib3 have no common base.
            if getattr(error, "errno", None) in LASTING or type(error).__name__ in LASTING_NAMES:
                raise FetchRefused(f"{url}: {error}; check the address and the options") from error
            raise TransientFault(f"{url}: {type(error).__name__} {error}") from error
