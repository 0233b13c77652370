"""The account of what a fetch brought."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FetchReport:
    """What a fetch brought.

    Parameters
    ----------
    files : tuple of Path
        Staged files, those that were there already among them.
    bytes : int
        Bytes that came over the wire, those of broken and wrong transfers among them.
    resumed_bytes : int
        Bytes that an earlier, broken transfer had left and that were not asked for again.
    present_bytes : int
        Bytes of files that an earlier fetch had staged whole.
    retries : int
        Requests that had to be made again.
    absent : tuple of str
        Paths below the release root that a brick could have and does not.
    """

    files: tuple[Path, ...] = ()
    bytes: int = 0
    resumed_bytes: int = 0
    present_bytes: int = 0
    retries: int = 0
    absent: tuple[str, ...] = ()

    def __add__(self, other: "FetchReport") -> "FetchReport":
        """Return the account of both."""
        return FetchReport(
            self.files + other.files,
            self.bytes + other.bytes,
            self.resumed_bytes + other.resumed_bytes,
            self.present_bytes + other.present_bytes,
            self.retries + other.retries,
            self.absent + other.absent,
        )
