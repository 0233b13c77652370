"""Fetching bricks of a release from a folder, a web server or S3-compatible storage.

`ReleaseTree` is the door: it lists the bricks of a release, says what files a brick has, and stages
them into a local folder in the canonical layout, where `storage.legacysurvey.locate_brick_files`
finds them. Nothing here opens a coadd or a catalogue.
"""

from storage.fetch.config import FetchConfig
from storage.fetch.errors import FetchFailed, FetchRefused, StagingFull
from storage.fetch.remote_files import RemoteBrick, RemoteFile
from storage.fetch.report import FetchReport
from storage.fetch.tree import ReleaseTree

__all__ = [
    "FetchConfig",
    "FetchFailed",
    "FetchRefused",
    "FetchReport",
    "ReleaseTree",
    "RemoteBrick",
    "RemoteFile",
    "StagingFull",
]
