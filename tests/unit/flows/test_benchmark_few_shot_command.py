"""`brickyard benchmark few-shot`: what it asks for and what it prints."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import tasks.few_shot
from flows.console import benchmark_few_shot
from tasks.few_shot import config as methods
from tasks.few_shot.config import FewShotConfig
from tasks.few_shot.curves import LabelCurve, label_ratio
from tasks.few_shot.report import DataReport, FewShotReport

LABELS = np.array([8, 16, 32])


@pytest.fixture
def run():
    app = typer.Typer()
    app.callback()(lambda: None)
    benchmark_few_shot.register(app)
    return lambda *arguments: CliRunner().invoke(app, ["few-shot", *arguments])


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Return the configurations that the benchmark was run with."""
    seen: list[FewShotConfig] = []

    def measured(config):
        seen.append(config)
        low = LabelCurve(LABELS, np.array([[0.6, 0.7, 0.8], [0.6, 0.7, 0.8]]))
        high = LabelCurve(LABELS, np.array([[0.85, 0.91, 0.95], [0.86, 0.92, 0.95]]))
        curves = {methods.BASELINE: low, methods.DESCRIBED: high, methods.HITL: high}
        ratios = {methods.HITL: label_ratio(low, high, 0.9)}
        counts = {"objects": 40, "per_class": [10] * 4, "digest": "d"}
        both = {"auc": curves, "balanced_accuracy": curves}
        same = label_ratio(high, high, 0.9)
        part = DataReport("sky", both, ratios, same, (1.0, 1.0), counts, counts, tmp_path / "p.png")
        return FewShotReport(config, (part,), 12.0, tmp_path / "few_shot.json")

    monkeypatch.setattr(tasks.few_shot, "run_few_shot", measured)
    return seen


def test_prints_curves_and_ratio_and_says_that_it_is_a_bound(run, asked, tmp_path):
    result = run("--out", str(tmp_path), "--labels", "32,8,16", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert asked[0].labels == asked[0].network_labels == (8, 16, 32)
    assert asked[0].seeds == 2
    assert "0.915" in result.output
    assert "at least 2." in result.output
    assert "few_shot.json" in result.output


def test_bad_options_end_with_a_message(run, tmp_path, capfd):
    assert run("--out", str(tmp_path), "--size", "huge").exit_code == 1
    assert run("--out", str(tmp_path), "--labels", "8,many").exit_code == 1
