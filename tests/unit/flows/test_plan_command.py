import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from flows import ingest
from flows.console import plan
from storage.budget import BrickCost, CatalogueCount, Machine, Measurements, Work, budget_of
from storage.budget.budget import Parallel
from storage.budget.verdict import obstacles
from tasks import planning
from tasks.planning import Plan
from tasks.references import Receipt

MEASURED = Measurements(
    catalogues=(CatalogueCount("1238p245", 1000.0, 100), CatalogueCount("1241p245", 900.0, 80)),
    costs=(BrickCost("1238p245", 100, 0.0, 0.5, 3.0, 2.0, 0.1, 30_000_000),),
    file_bytes={"1238p245": 90_000_000, "1241p245": 80_000_000},
    peak_bytes=500_000_000,
    failures={"0001m002": "BrickNotFound: no coadd"},
)
MACHINE = Machine("/store", "/staging", 1e13, 1e13, True, 8e9, 4e9)
WORK = Work("dr10", 1005, {"not_listed": 4}, 1, np.full(1000, 950.0), True, False)


def made(work=WORK, machine=MACHINE, measured=MEASURED, config=None, workers=2):
    from flows.parameters import IngestConfig

    parallel = Parallel(workers, 1, 2, 64)
    budget = budget_of(work, config or IngestConfig(), measured, parallel)
    found = obstacles(budget, machine, parallel)
    return Plan(work, measured, parallel, budget, machine, found)


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs the command; it returns the result, the request and the calls."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")  # nothing is asked of it
    monkeypatch.setenv("BRICKYARD_WORKERS", "2")  # put back after the test
    app = typer.Typer()
    plan.register(app)

    def command(*options, outcome=None, source="/data"):
        seen, calls = [], []

        def plan_ingest(settings, request):
            seen.append((settings, request))
            return outcome or made()

        def ingest_bricks(*args):
            calls.append(args)
            return Receipt.of("dr10/south", "SNAP", [])

        monkeypatch.setattr(planning, "plan_ingest", plan_ingest)
        monkeypatch.setattr(ingest, "ingest_bricks", ingest_bricks)
        monkeypatch.setattr(plan, "show_receipt", lambda receipt: None)
        result = CliRunner().invoke(app, [source, *options])
        return result, seen[0] if seen else None, calls

    return command


def test_a_plan_is_shown_and_nothing_is_ingested(run):
    result, (_, request), calls = run("--bands", "griz", "--max-mag", "19", "--calibrate", "1")
    assert result.exit_code == 0
    assert calls == []
    for text in ("1,000", "1,005 listed", "4 not_listed", "1 in the store already", "it fits"):
        assert text in result.output
    assert "1 of 3 sampled bricks cannot be ingested, such as 0001m002" in result.output
    assert "add --yes" in result.output
    assert request.config.bands == ("g", "r", "i", "z")
    assert request.config.selection.max_mag == 19.0
    assert request.calibrate == 1


def test_yes_goes_on_with_the_same_ingest(run, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("1238p245\n")
    result, (settings, request), calls = run(
        "--yes", "--workers", "5", "--bricks-from", str(names), "--region", "north", "--again"
    )
    assert result.exit_code == 0, result.output
    ((source, release, region, bricks, config, options),) = calls
    assert (source, release, region, bricks) == ("/data", "dr10", "north", None)
    assert config == request.config
    assert options.brick_list == request.brick_list == str(names)
    assert options.again
    assert request.again
    assert settings.workers == 5


def test_a_plan_that_does_not_fit_is_refused_also_with_yes(run):
    full = made(machine=replace(MACHINE, store_free=1e9))
    result, _, calls = run("--yes", outcome=full)
    assert result.exit_code == 2
    assert calls == []
    assert "refused" in result.stderr
    assert "bricks fit" in result.stderr
    assert "it fits" not in result.output


def test_a_warning_does_not_refuse(run):
    high = made().budget.store_bytes.high
    tight = made(machine=replace(MACHINE, store_free=high * 0.99))
    result, _, calls = run("--yes", outcome=tight)
    assert result.exit_code == 0
    assert "careful" in result.stderr
    assert len(calls) == 1


def test_nothing_to_do_starts_nothing(run):
    empty = made(work=replace(WORK, candidates=np.empty(0)), measured=Measurements())
    result, _, calls = run("--yes", outcome=empty)
    assert result.exit_code == 0
    assert "nothing to do" in result.output
    assert "not measured" not in result.output
    assert calls == []


def test_a_plan_without_measurement_says_so(run):
    result, _, _ = run(outcome=made(measured=Measurements()))
    assert result.output.count("not measured") == 2


def test_the_plan_is_written_as_json(run, tmp_path):
    path = tmp_path / "plans" / "plan.json"
    run("--json", str(path))
    document = json.loads(path.read_text())
    assert document["survey"] == "dr10/south"
    assert document["budget"]["bricks"] == 1000
    assert document["measured"]["costs"][0]["objects"] == 100


@pytest.mark.parametrize(("source", "listed"), [("https://host/dr10", "/t.fits"), ("/data", None)])
def test_a_remote_ingest_takes_the_bricks_of_the_table(run, source, listed):
    _, _, calls = run("--yes", "--bricks-table", "/t.fits", source=source)
    assert calls[0][5].brick_list == listed


def test_a_wrong_option_is_explained(run):
    result, seen, _ = run("--edge", "stretch")
    assert result.exit_code == 1
    assert "edge" in result.stderr
    assert seen is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4.2 s"), (90, "90 s"), (600, "10 min"), (9000, "2.5 h"), (864_000, "10 days")],
)
def test_durations_are_told_in_their_unit(seconds, text):
    assert plan.time_text(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(1234.4, "1,234"), (76.17e6, "76.2 million"), (2e9, "2 thousand million")]
)
def test_counts_are_told_to_three_digits(number, text):
    assert plan.number_text(number) == text
