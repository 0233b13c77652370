"""Repositories on S3-compatible object storage: where they are, and how they are reached.

The place is a URL, ``s3://<bucket>/<prefix>``. Credentials, region and endpoint are those of every
program that speaks to S3: the environment variables ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION`` and ``AWS_ENDPOINT_URL`` (or ``AWS_ENDPOINT_URL_S3``), or
the files that AWS's own tools read.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import icechunk

from storage.errors import StorageError

SCHEME = "s3://"
DEFAULT_REGION = "us-east-1"  # what compatible servers take when none is set


def is_object_storage(place: str | Path) -> bool:
    """Say whether a store or repository is on object storage, not in a folder."""
    return str(place).startswith(SCHEME)


def object_storage(url: str) -> icechunk.Storage:
    """Return Icechunk's storage for a repository URL.

    Parameters
    ----------
    url : str
        ``s3://<bucket>/<prefix>``.

    Raises
    ------
    StorageError
        When the URL names no bucket or no prefix.
    """
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if not parts.netloc or not prefix:
        raise StorageError(f"{url!r} is no place for a repository: give s3://<bucket>/<prefix>")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return icechunk.s3_storage(
        bucket=parts.netloc,
        prefix=prefix,
        region=os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or DEFAULT_REGION,
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=bool(endpoint),  # compatible servers have no host name for every bucket
        from_env=True,
    )


def lock_folder(url: str | Path) -> Path:
    """Return the place on this host whose locks belong to a repository URL."""
    digest = hashlib.sha256(str(url).encode()).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / f"brickyard-locks-{os.getuid()}" / digest
