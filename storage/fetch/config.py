"""How hard to press a server and how long to try; what is fetched is not decided here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.errors import StorageError

StorageOptions = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class FetchConfig:
    """Limits and patience of transfers. The limits hold for all processes of one user on one host.

    Parameters
    ----------
    connections : int
        Requests under way at a time to one server. Survey portals are shared services.
    requests_per_second : float
        Requests started a second to one server.
    bytes_per_second : float, optional
        Bytes read a second from one server; None sets no limit.
    attempts : int
        Tries in a row that bring nothing new before a file is given up; a try that brings bytes
        starts the count again.
    first_wait_seconds, longest_wait_seconds : float
        The waits between tries double from the first to the longest, each taken at random
        from the upper half; the server's own Retry-After is honoured whatever it says.
    timeout_seconds : float
        For a connection, and for each silence in a transfer.
    storage_options : mapping or pairs
        For fsspec, such as ``{"endpoint_url": ..., "anon": True}`` for S3. Never shown: they may
        hold keys.
    verify : bool
        Compare each file with the survey's checksum list, where there is one.
    """

    connections: int = 4
    requests_per_second: float = 20.0
    bytes_per_second: float | None = None
    attempts: int = 6
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 60.0
    timeout_seconds: float = 60.0
    storage_options: Mapping[str, Any] | StorageOptions = field(default=(), repr=False)
    verify: bool = True

    def __post_init__(self) -> None:
        options = dict(self.storage_options)
        object.__setattr__(self, "storage_options", tuple(sorted(options.items())))
        positive = {
            "connections": self.connections,
            "requests_per_second": self.requests_per_second,
            "bytes_per_second": self.bytes_per_second or 1.0,
            "attempts": self.attempts,
            "first_wait_seconds": self.first_wait_seconds,
            "timeout_seconds": self.timeout_seconds,
        }
        wrong = [name for name, value in positive.items() if value <= 0]
        if wrong or (self.bytes_per_second is not None and self.bytes_per_second <= 0):
            wrong = wrong or ["bytes_per_second"]
            raise StorageError(f"FetchConfig: {', '.join(wrong)} must be above 0")
        if self.longest_wait_seconds < self.first_wait_seconds:
            raise StorageError("FetchConfig: longest_wait_seconds is below first_wait_seconds")

    def options(self) -> dict[str, Any]:
        """Return a copy of the storage options."""
        return dict(self.storage_options)
