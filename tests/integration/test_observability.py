"""A flow run seen from outside: Prefect's figures, its report, the link to Dask's dashboard."""

from pathlib import Path

import pytest
from prefect import flow
from prefect.runtime import flow_run
from prometheus_client.parser import text_string_to_metric_families
from tiny_bricks import TinyBrick

from flows.ingest import ingest_bricks
from storage.brick import IngestConfig
from storage.bricks import brick_at, brick_from_id
from storage.cutouts import CutoutConfig
from tasks.metrics_endpoint import metrics_text, registry_of
from tasks.run_report import report_survey
from tasks.settings import load_settings

CONFIG = IngestConfig(cutout=CutoutConfig(size=24, edge="pad"))


@flow
def nightly(source: str) -> str:
    ingest_bricks(source, config=CONFIG)
    return str(flow_run.id)


@flow
def broken() -> None:
    raise ValueError("on purpose")


def test_a_run_is_seen_in_figures_and_report(home: Path, tmp_path: Path):
    first = brick_at(150.0, 2.0).brickid
    for number in range(2):
        TinyBrick(tmp_path / "dr10" / "south", brick=brick_from_id(first + number)).write()
    whole = nightly(str(tmp_path / "dr10"))
    with pytest.raises(ValueError, match="on purpose"):
        broken()

    settings = load_settings()
    text = metrics_text(registry_of(settings)).decode()
    figures = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert figures["brickyard_part_readable", "runs"] == 1
    assert figures["brickyard_flow_runs_ended", "completed"] >= 2
    assert figures["brickyard_flow_runs_ended", "failed"] >= 1
    assert figures["brickyard_approvals_waiting",] == 0
    assert figures["brickyard_units_total", "written", "dr10/south"] == 2

    page = Path(report_survey(settings, "dr10/south", whole).path).read_text(encoding="utf-8")
    assert "ingest-bricks" in page
    assert "Completed" in page
    unknown = report_survey(settings, "dr10/south", "0" * 8 + "-0000-4000-8000-" + "0" * 12)
    assert "Prefect knows no flow run" in unknown.missing["The run"]


def test_the_dashboard_of_dask_is_an_artifact_of_the_run(home: Path, tmp_path: Path):
    ids = []

    @flow
    def watched() -> None:
        from tasks.cluster import open_cluster

        with open_cluster(load_settings()):
            ids.append(str(flow_run.id))

    watched()
    TinyBrick(tmp_path / "south").write()
    ingest_bricks(str(tmp_path), config=CONFIG)
    page = Path(report_survey(load_settings(), "dr10/south", ids[0]).path).read_text("utf-8")
    assert "Dask dashboard, while the run goes on" in page
    assert "/status" in page
