import json
from dataclasses import dataclass, field

import pytest
from mlflow import MlflowClient
from pydantic import BaseModel

from tasks import tracking as registry
from tasks.tracking import code_version, flat_params


def registered(settings, digest, tags=None):
    with registry.start_run(settings, experiment="finetune", run_name="r") as run:
        run.log_json("model/config.json", {"digest": digest})
    return registry.register_candidate(
        settings, "morphology", run_id=run.run_id, artifact="model", digest=digest, tags=tags
    )


def test_run_keeps_params_metrics_tags_dataset_and_artifacts(tracking, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"png")
    with registry.start_run(
        tracking,
        experiment="finetune",
        run_name="first",
        params={f"p{number}": number for number in range(150)} | {"long": "x" * 9000},
        tags={"survey": "dr10/south"},
    ) as run:
        for epoch, loss in enumerate((2.0, 1.0), start=1):
            run.log_metrics({"loss": loss}, step=epoch)
        run.log_dataset("votes", "d" * 64, source={"survey": "s"}, context="training")
        run.log_json("history.json", [{"loss": 1.0}])
        run.log_artifacts(tmp_path / "pictures", "pictures")
    found = registry.read_run(tracking, run.run_id)
    assert (found.name, found.status) == ("first", "FINISHED")
    assert found.params["p149"] == "149"
    assert len(found.params["long"]) == registry.TEXT_LIMIT
    assert found.metrics["loss"] == 1.0
    assert {"cpu_seconds", "wall_seconds", "peak_memory_gib"} <= set(found.metrics)
    assert found.metrics["system/system_memory_usage_megabytes"] > 0
    ran_on = json.loads(registry.read_artifact(tracking, run.run_id, "environment.json"))
    assert {"torch", "mlflow", "numpy"} <= set(ran_on["packages"])
    assert found.tags["survey"] == "dr10/south"
    assert found.tags["dataset.training.digest"] == "d" * 64
    assert json.loads(registry.read_artifact(tracking, run.run_id, "history.json"))[0]["loss"] == 1
    assert list(tracking.artifact_path.glob("finetune/*/artifacts/pictures/a.png"))


def test_a_data_set_is_an_input_that_mlflow_can_give_back(tracking):
    with registry.start_run(tracking, experiment="finetune", run_name="r") as run:
        run.log_dataset(
            "votes",
            "d" * 64,
            source={"survey": "dr10/south", "snapshot_id": "S"},
            context="training",
            profile={"train": 3},
        )
    client = MlflowClient(tracking.mlflow_uri)
    [found] = client.get_run(run.run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("votes", "d" * 36)
    assert json.loads(found.dataset.source)["snapshot_id"] == "S"
    assert json.loads(found.dataset.profile) == {"train": 3}
    assert [tag.value for tag in found.tags] == ["training"]


def test_a_tag_of_a_version_is_found_in_a_search_of_runs(tracking):
    model = registered(tracking, "a" * 64)
    registry.tag_version(tracking, model, {"decision": "approved"})
    [run] = registry.find_runs(tracking, "finetune", {"decision": "approved"})
    assert run.run_id == model.run_id
    assert run.tags["model_version"] == "morphology 1"
    assert registry.registered_models(tracking) == ["morphology"]
    MlflowClient(tracking.mlflow_uri).delete_run(model.run_id)
    registry.tag_version(tracking, model, {"decision": "rejected"})
    assert registry.version_tags(tracking, model)["decision"] == "rejected"


def test_run_that_fails_is_marked_so_and_the_error_passes(tracking):
    with (
        pytest.raises(ZeroDivisionError),
        registry.start_run(tracking, experiment="e", run_name="r") as run,
    ):
        raise ZeroDivisionError
    assert registry.read_run(tracking, run.run_id).status == "FAILED"


def test_runs_are_found_by_tags_newest_first(tracking):
    for name, survey in (("one", "a"), ("two", "b"), ("three", "a")):
        with registry.start_run(
            tracking, experiment="pretrain", run_name=name, tags={"survey": survey}
        ):
            pass
    found = registry.find_runs(tracking, "pretrain", {"survey": "a"})
    assert [run.name for run in found] == ["three", "one"]
    assert registry.find_runs(tracking, "no such experiment") == []


def test_registering_the_same_artifact_again_returns_the_same_version(tracking):
    first = registered(tracking, "a" * 64, {"survey": "s"})
    again = registry.register_candidate(
        tracking, "morphology", run_id=first.run_id, artifact="model", digest="a" * 64
    )
    second = registered(tracking, "b" * 64)
    assert again == first
    assert (first.version, second.version) == ("1", "2")
    assert registry.version_tags(tracking, first) == {"survey": "s", "digest": "a" * 64}
    assert [record.model for record in registry.model_versions(tracking, "morphology")] == [
        second,
        first,
    ]


def test_alias_points_at_one_version_and_can_be_taken_away(tracking):
    first, second = registered(tracking, "a" * 64), registered(tracking, "b" * 64)
    assert registry.champion(tracking, "morphology") is None
    assert registry.champion(tracking, "no such model") is None
    registry.set_alias(tracking, first, registry.CHAMPION)
    registry.set_alias(tracking, second, registry.CHAMPION)
    assert registry.champion(tracking, "morphology") == second
    aliases = {r.model.version: r.aliases for r in registry.model_versions(tracking, "morphology")}
    assert aliases == {"1": (), "2": ("champion",)}
    registry.remove_alias(tracking, "morphology", registry.CHAMPION)
    registry.remove_alias(tracking, "morphology", registry.CHAMPION)
    assert registry.champion(tracking, "morphology") is None


def test_model_is_copied_once_to_the_home_folder(tracking):
    model = registered(tracking, "a" * 64)
    folder = registry.download_model(tracking, model)
    assert json.loads((folder / "config.json").read_text()) == {"digest": "a" * 64}
    assert folder == tracking.home.resolve() / "models" / "morphology-1" / ("a" * 16)
    (folder / "config.json").write_text("kept")
    assert registry.download_model(tracking, model) == folder
    assert (folder / "config.json").read_text() == "kept"
    assert [path.name for path in folder.parent.iterdir()] == ["a" * 16]


def test_version_that_does_not_exist_says_what_to_do(tracking):
    registered(tracking, "a" * 64)
    for name, number in (("morphology", "7"), ("no such model", "1")):
        with pytest.raises(registry.UnknownModel, match="brickyard finetune"):
            registry.read_version(tracking, name, number)


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


class Form(BaseModel):
    name: str = "x"


@dataclass(frozen=True)
class Outer:
    train: Inner = field(default_factory=Inner)
    bands: tuple[str, ...] = ("g", "r")
    form: Form = field(default_factory=Form)
    seed: int | None = None


def test_flat_params_names_nested_fields_with_dots():
    assert flat_params(Outer()) == {
        "train.rate": "0.1",
        "bands": "g,r",
        "form.name": "x",
        "seed": "None",
    }
    assert flat_params({"a": {"b": 1}}, "c.") == {"c.a.b": "1"}
    with pytest.raises(TypeError, match="dataclass"):
        flat_params(3)


def test_code_version_is_a_commit_of_this_project_or_its_version():
    version = code_version()
    commit = version.removesuffix("+dirty")
    assert version.startswith("brickyard ") or (
        len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    )


def test_code_version_outside_a_checkout_is_the_package_version(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code_version().startswith("brickyard ")
