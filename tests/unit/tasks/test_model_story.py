import json

import typer
from typer.testing import CliRunner

from flows.console import runs
from tasks import tracking as registry
from tasks.model_story import UNDECIDED, model_stories
from tasks.references import Interval

TAGS = {
    "survey": "dr10/south",
    "snapshot_id": "SNAPSHOT1",
    "training_objects": "120",
    "labels_digest": "1" * 64,
    "encoder_digest": "e" * 64,
    "mode": "head",
}


def register(settings, downstream, digit, measured=True):
    with registry.start_run(settings, experiment=downstream, run_name="r", tags=TAGS) as run:
        run.log_json("model/config.json", {"made": digit})
        if measured:
            run.set_tags({"headline": "auc"})
            run.log_metrics({"test_auc": 0.9, "test_auc_low": 0.8, "test_auc_high": 0.95})
    return registry.register_candidate(
        settings, downstream, run_id=run.run_id, artifact="model", digest=digit * 64, tags=TAGS
    )


def test_every_version_has_one_line_with_its_whole_story(tracking):
    first = register(tracking, "morphology", "a")
    register(tracking, "morphology", "b", measured=False)
    register(tracking, "parameters", "c")
    tags = {"decision": "approved", "decision.reviewer": "Vera"}
    registry.tag_version(tracking, first, tags)
    registry.set_alias(tracking, first, registry.CHAMPION)
    stories = model_stories(tracking)
    assert [(story.downstream, story.version) for story in stories] == [
        ("morphology", "2"),
        ("morphology", "1"),
        ("parameters", "1"),
    ]
    unmeasured, approved, _ = stories
    assert (unmeasured.value, unmeasured.decision) == (None, UNDECIDED)
    assert approved.value == Interval(value=0.9, low=0.8, high=0.95)
    assert (approved.aliases, approved.decision, approved.reviewer) == (
        ("champion",),
        "approved",
        "Vera",
    )
    assert approved.training_objects == 120
    assert approved.cpu_seconds > 0
    assert model_stories(tracking, "parameters") == stories[2:]


def test_the_command_shows_the_table_and_writes_it(tracking, tmp_path, monkeypatch):
    monkeypatch.setenv("BRICKYARD_HOME", str(tracking.home))
    monkeypatch.setattr(runs.console, "width", 200)
    app = typer.Typer()
    runs.register(app)
    assert "brickyard finetune" in CliRunner().invoke(app, []).stdout
    register(tracking, "morphology", "a")
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 0
    for part in ("morphology 1", "auc 0.900 (0.800 to 0.950)", "SNAPSHOT", "eeeeeeee", UNDECIDED):
        assert part in shown.stdout
    file = tmp_path / "stories.json"
    CliRunner().invoke(app, ["--json", str(file)])
    assert json.loads(file.read_text())[0]["labels_digest"] == "1" * 64
