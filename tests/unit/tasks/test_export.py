"""The step and the sub-command that export a snapshot, on a small store."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
import xarray as xr
from typer.testing import CliRunner

from flows.console.export import register
from storage.brick_ledger import BrickRecord, record_bricks
from storage.brick_rows import allocate
from storage.brick_store import write_cutouts
from storage.errors import StorageError
from storage.repository import SURVEY_REPOSITORY, open_repository, tag_snapshot, transaction
from storage.schema import BrickState, SurveyLayout, catalogue_columns
from storage.survey_group import create_survey
from tasks.export import export_table
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

SURVEY = "dr9/north"
COLUMNS = catalogue_columns("z")


def block(number: int) -> xr.Dataset:
    pixels = np.zeros((number, 1, 4, 4), np.float32)
    cube, axis = ("object", "band", "y", "x"), "object"
    return xr.Dataset(
        {
            "image": (cube, pixels),
            "invvar": (cube, pixels + 1),
            "maskbits": (("object", "y", "x"), np.zeros((number, 4, 4), np.int32)),
            "release": (axis, np.full(number, 9011, np.int32)),
            "brickid": (axis, np.full(number, 5, np.int32)),
            "objid": (axis, np.arange(number, dtype=np.int64)),
            "ra": (axis, np.full(number, 10.0)),
            "dec": (axis, np.full(number, 40.0)),
            "type": (axis, np.full(number, 2, np.uint8)),
            "catalogue": (("object", "column"), np.ones((number, len(COLUMNS)), np.float32)),
        },
        coords={"band": ["z"], "column": list(COLUMNS)},
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return the settings of a store with three objects in a tagged snapshot, now five."""
    settings = Settings(home=tmp_path / "home")
    repository = open_repository(Path(settings.store_path) / SURVEY_REPOSITORY, create=True)
    for name, number in (("0001p400", 3), ("0002p400", 2)):
        with transaction(repository, "allocate") as session:
            create_survey(session, SURVEY, SurveyLayout(bands=("z",), size=4))
            rows = allocate(session, SURVEY, {name: number})[name]
        with transaction(repository, "write") as session:
            write_cutouts(session, SURVEY, rows, block(number))
            record = BrickRecord(name, 5, BrickState.WRITTEN, rows=rows, n_objects=number)
            record_bricks(session, SURVEY, [record])
        if name == "0001p400":
            tag_snapshot(repository, "first", repository.lookup_branch("main"))
    return settings


def test_the_step_says_what_it_wrote(settings: Settings, tmp_path: Path) -> None:
    snapshot = find_snapshot(settings, SURVEY, None)
    written = export_table.fn(snapshot, str(tmp_path / "a.parquet"), ["type"])
    assert (written.rows, written.snapshot) == (5, snapshot)
    assert written.columns == ("release", "brickid", "objid", "ra", "dec", "type")
    assert pq.read_table(written.path).num_rows == 5
    with pytest.raises(StorageError, match="is there already"):
        export_table.fn(snapshot, written.path)


def test_the_command(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRICKYARD_HOME", str(settings.home))
    app = typer.Typer()
    register(app)
    target = tmp_path / "a.parquet"
    options = [SURVEY, str(target), "--tag", "first", "--columns", "flux_z, type"]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    assert pq.read_table(target).num_rows == 3
    assert pq.read_schema(target).names[-2:] == ["type", "flux_z"]
    again = CliRunner().invoke(app, options)
    assert again.exit_code == 1
    assert pq.read_table(target).num_rows == 3
    newest = CliRunner().invoke(app, [SURVEY, str(target), "--overwrite"])
    assert newest.exit_code == 0
    assert pq.read_table(target).num_rows == 5
