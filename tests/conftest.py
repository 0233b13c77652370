"""Fixtures that all tests share. Only what more than one folder of tests needs stands here."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The console takes its width when it is first imported: tables are as wide in every process of a
# parallel run, however long the paths in them are.
os.environ["COLUMNS"] = "200"
# Tests that run beside others, and their processes, compute in one thread: more would fight for
# the same cores. Read by torch, BLAS and numba when they are first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ |= dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
# A property fails with the change that broke it, not on a day of chance, and is never timed.
# `--hypothesis-profile explore` draws other examples at every run.
settings.register_profile("explore", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Put the environment back: the `brickyard` command sets where things are for its process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute in one thread: two would only wait for each other at the size of a test."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real survey data, or skip where it does not exist."""
    path = REPOSITORY.parent / "shared" / "real"
    if not path.is_dir():
        pytest.skip(
            "real survey data (../shared/real beside the repository) is not on this machine"
        )
    return path
