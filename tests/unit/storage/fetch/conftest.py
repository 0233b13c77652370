"""Fixtures of transfers: a release of random files, the server that has it, a staging folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_http import FaultyServer
from fetch_release import FileRelease


@pytest.fixture(autouse=True)
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the limits of a server that one test leaves from another's."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def release(tmp_path: Path) -> FileRelease:
    return FileRelease(tmp_path / "release").write()


@pytest.fixture
def server(release: FileRelease) -> Iterator[FaultyServer]:
    with FaultyServer(release.root).running() as running:
        yield running


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    return tmp_path / "staging"
