"""A small file system for tests of full disks; skips where it cannot be mounted."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FILLING = "filling"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of a given size at a new folder."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int = 8192) -> None:
    """Fill a file system but for a few bytes."""
    found = os.statvfs(folder)
    with (folder / FILLING).open("wb") as file:
        file.write(b"\0" * max(0, found.f_bavail * found.f_frsize - leave))


def empty(folder: Path) -> None:
    """Take away what filled it."""
    (folder / FILLING).unlink()
