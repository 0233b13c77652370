import pytest
import typer
from typer.testing import CliRunner

from flows.console import benchmark
from tasks.detection_benchmark import runner
from tasks.detection_benchmark.runner import MEASURES, METHODS, Cell


@pytest.fixture
def app():
    application = typer.Typer()
    application.callback()(lambda: None)
    benchmark.register(application)
    return application


def cell_of(method):
    return Cell(
        method=method,
        seed=0,
        settings={"test": 9, "fields": 20, "epochs": 2},
        measures={**dict.fromkeys(MEASURES, 0.75), "required": 31.0},
        intervals={"f1": (0.7, 0.8)},
        slices={"magnitude": [[17, 18, 0.5, 4]], "neighbour": [[0, 1, 0.25, 2]]},
        real={"eso": {"f1": 0.5}} if method == "encoder" else {},
        cpu_seconds=12.0,
        fields_seen=40,
    )


def test_the_table_names_methods_slices_and_the_record(app, monkeypatch, tmp_path):
    cells = [cell_of(method) for method in METHODS]
    monkeypatch.setattr(runner, "run_detection", lambda *given: cells)
    monkeypatch.setattr(benchmark.console, "width", 160)
    done = CliRunner().invoke(app, ["benchmark", "detection", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for text in ("Mask R-CNN", "0.750", "0.700-0.800", "17 to 18", "eso", "31 sources"):
        assert text in done.output


def test_an_unknown_size_is_refused(app):
    done = CliRunner().invoke(app, ["benchmark", "detection", "--size", "huge"])
    assert done.exit_code == 1


def test_both_benchmarks_are_commands(app):
    shown = CliRunner().invoke(app, ["benchmark", "--help"]).output
    assert "detection" in shown
    assert "few-shot" in shown
