"""Fixtures that all tests share. Only what more than one folder of tests needs stands here."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real survey data, or skip where it does not exist."""
    path = REPOSITORY.parent / "shared" / "real"
    if not path.is_dir():
        pytest.skip(
            "real survey data (../shared/real beside the repository) is not on this machine"
        )
    return path
