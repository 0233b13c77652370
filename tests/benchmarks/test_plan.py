"""Planning a survey as large as DR10 with `brickyard plan`: seconds and memory of the command."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from figures import REPOSITORY, Figure, record

from storage.brick_ledger import BrickRecord, record_bricks
from storage.brick_lists import names_of
from storage.brick_store import create_survey
from storage.ingest_config import IngestConfig
from storage.repository import open_repository, transaction
from storage.schema import BrickState
from storage.synthetic import SyntheticConfig, write_synthetic_release
from tasks.brick_sources import open_bricks
from tasks.settings import Settings

BRICKS = 366_898  # of DR10 south
DONE = 4_000
RUNS = 3
BANDS = ("g", "r", "i", "z")
GIB = 2**30


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Return the names of as many bricks as DR10 has, from the south pole on."""
    return names_of(np.arange(1, BRICKS + 1))


@pytest.fixture(scope="module")
def table(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a region table with the columns of the official one, and numbers like its own."""
    rng = np.random.default_rng(8)
    nobjs = rng.gamma(9.0, 856.0, BRICKS).astype(np.int32)  # 2.83e9 objects, as in DR10
    columns = {"brickname": names, "brickid": np.arange(1, BRICKS + 1, dtype=np.int32)}
    columns |= {name: rng.uniform(0, 360, BRICKS) for name in ("ra", "dec", "area")}
    shares = {"psf": 0.35, "rex": 0.4, "exp": 0.1, "dev": 0.08, "ser": 0.06, "dup": 0.01}
    columns |= {"nobjs": nobjs}
    columns |= {f"n{kind}": (nobjs * share).astype(np.int32) for kind, share in shares.items()}
    for band in BANDS:
        columns[f"nexp_{band}"] = rng.integers(1, 12, BRICKS).astype(np.int16)
        for quantity in ("psfsize", "psfdepth", "galdepth", "trans", "ext", "cosky"):
            columns[f"{quantity}_{band}"] = rng.uniform(0, 25, BRICKS).astype(np.float32)
    columns |= {"ebv": rng.uniform(0, 0.1, BRICKS).astype(np.float32)}
    columns |= {name: rng.uniform(size=BRICKS) < 0.8 for name in ("survey_primary", "in_desi")}
    path = tmp_path_factory.mktemp("plan") / "survey-bricks-dr10-south.fits.gz"
    Table(columns).write(path)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the bricks that the calibration reads."""
    root = tmp_path_factory.mktemp("release")
    write_synthetic_release(
        root, SyntheticConfig(count=2, brick_size=460, density=10.0, seed=4, processes=1)
    )
    return root


@pytest.fixture(scope="module")
def home(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home whose store has some thousand bricks of the survey in its ledger."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home)
    bricks = open_bricks(settings, "/nowhere", ("dr10", "south"), IngestConfig())
    digest = bricks.config_digest()
    repository = open_repository(f"{settings.store_path}/survey", create=True)
    with transaction(repository, "done bricks") as session:
        create_survey(session, "dr10/south", bricks.layout())
        records = [
            BrickRecord(name, number, BrickState.WRITTEN, config_digest=digest, n_objects=230)
            for number, name in enumerate(names[:DONE], start=1)
        ]
        record_bricks(session, "dr10/south", records)
    return home


def run_plan(home: Path, source: Path, table: Path) -> tuple[float, float, dict]:
    """Run the command; return seconds, GiB of all its processes, and the plan."""
    path = home / "plan.json"
    command = [sys.executable, "-m", "flows", "--home", str(home), "plan", str(source)]
    command += ["--bricks-table", str(table), "--json", str(path), "--calibrate", "2"]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 2)  # 2: the survey does not fit on this disk
    plan = json.loads(path.read_text(encoding="utf-8"))
    # ru_maxrss is that of the largest process; the one that calibrates runs beside the command.
    return seconds, (usage.ru_maxrss * 1024 + plan["measured"]["peak_bytes"]) / GIB, plan


def test_planning_a_survey_of_366898_bricks(home, source, table):
    seconds, gib = [], []
    for _ in range(RUNS):
        took, memory, plan = run_plan(home, source, table)
        seconds.append(took)
        gib.append(memory)
        assert plan["work"]["listed"] == BRICKS
        assert plan["work"]["done"] == DONE
        assert plan["budget"]["bricks"] == BRICKS - DONE
        assert plan["work"]["counted"]
        assert plan["budget"]["objects"]["best"] > 1e6
    bound = f"a table of {BRICKS:,} bricks, {DONE:,} in the ledger, two bricks of 460 px measured"
    took = record(Figure("plan.survey_366898_seconds", "s", "<= 60", bound, seconds))
    memory = record(
        Figure(
            "plan.survey_366898_gib", "GiB", "<= 2", f"{bound}; command and calibration added", gib
        )
    )
    assert took <= 60
    assert memory <= 2
