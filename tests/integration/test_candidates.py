"""Candidates of every kind of task, made and measured on a small survey with a real MLflow."""

import json
import shutil

import numpy as np
import pytest
from mlflow import MlflowClient
from placed_survey import SPLIT, place_galaxies

from lvm.finetuning import FineTuneConfig
from lvm.training import TrainConfig
from tasks import tracking
from tasks.datasets import freeze_dataset
from tasks.evaluation import evaluate_on_test
from tasks.finetuning import DownstreamConfig, fit_candidate
from tasks.models import load_model
from tasks.settings import Settings

QUICK = TrainConfig(epochs=2, learning_rate=1e-2)
HEAD = DownstreamConfig(
    fine_tune=FineTuneConfig(mode="head", head=QUICK, cutouts=QUICK), batch_size=32
)


@pytest.fixture(scope="module")
def settings(empty_tracking, tmp_path_factory):
    home = tmp_path_factory.mktemp("placed") / "home"
    shutil.copytree(empty_tracking, home)
    return Settings(home=home)


@pytest.fixture(scope="module")
def placed(settings):
    return place_galaxies(settings, bricks=1, count=70)


def candidate(settings, placed, downstream, options=None):
    config = DownstreamConfig(
        fine_tune=HEAD.fine_tune, options=options or {}, batch_size=HEAD.batch_size
    )
    dataset = freeze_dataset.fn(settings, placed.snapshot, downstream, SPLIT, options)
    model = fit_candidate.fn(settings, dataset, placed.encoder, placed.embeddings, config)
    return dataset, model


@pytest.fixture(scope="module")
def voted(settings, placed):
    """Return data set, model and evaluation of a morphology head."""
    dataset, model = candidate(settings, placed, "morphology")
    return dataset, model, evaluate_on_test(settings, model, dataset)


def test_a_head_on_stored_embeddings_is_measured_on_its_test_split(voted):
    dataset, _, evaluation = voted
    assert evaluation.test_objects == dataset.totals()["test"] >= 5
    assert evaluation.headline in evaluation.metrics
    assert sum(map(sum, evaluation.confusion)) == evaluation.test_objects
    assert set(evaluation.baselines) == {"majority class", "colours, logistic regression"}
    assert set(evaluation.per_class) == set(dataset.classes)


def test_the_run_of_a_candidate_tells_its_story(settings, voted):
    dataset, model, evaluation = voted
    run = tracking.read_run(settings, model.run_id)
    assert run.tags["encoder_digest"]
    assert run.tags["labels_digest"] == dataset.labels_digest
    assert run.tags["dataset.training.digest"] == dataset.content_digest()
    assert run.tags["model_version"] == "morphology 1"
    assert run.tags["headline"] == evaluation.headline
    headline = evaluation.metrics[evaluation.headline]
    assert run.metrics[f"test_{evaluation.headline}"] == pytest.approx(headline.value)
    assert run.metrics[f"test_{evaluation.headline}_low"] == pytest.approx(headline.low)
    assert any(name.startswith("calibration_") for name in run.metrics)
    assert run.params["options.classes"] == ",".join(dataset.classes)
    client = MlflowClient(settings.mlflow_uri)
    [data] = client.get_run(model.run_id).inputs.dataset_inputs
    assert json.loads(data.dataset.source)["split_digest"] == dataset.split_digest
    assert len(client.get_metric_history(model.run_id, "head_loss")) == QUICK.epochs


def test_figures_are_kept_as_pictures_and_numbers(settings, voted):
    _, model, _ = voted
    client = MlflowClient(settings.mlflow_uri)
    names = {item.path for item in client.list_artifacts(model.run_id, "figures")}
    for name in ("confusion", "reliability", "training-head", "examples"):
        assert {f"figures/{name}.png", f"figures/{name}.json"} <= names
    kept = {item.path for item in client.list_artifacts(model.run_id, "data")}
    assert kept == {"data/objects.csv.gz"}


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # MLflow's own import
def test_mlflow_loads_a_registered_model_by_its_signature_and_without_pickle(settings, voted):
    import mlflow.pyfunc
    from mlflow.models import Model

    _, model, _ = voted
    folder = tracking.download_model(settings, model)
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pt", ".pth")]
    signature = Model.load(str(folder)).signature
    assert [spec.name for spec in signature.inputs] == ["image", "invvar", "maskbits"]
    assert "answer" in [spec.name for spec in signature.outputs]
    served = mlflow.pyfunc.load_model(str(folder))
    sky = {
        "image": np.zeros((2, 3, 24, 24), np.float32),
        "invvar": np.ones((2, 3, 24, 24), np.float32),
        "maskbits": np.zeros((2, 24, 24), np.int32),
    }
    assert list(served.predict(sky)["answer"]) == [served.predict(sky)["answer"][0]] * 2
    assert load_model(settings, model).task.name == "morphology"


def test_a_task_on_catalogue_columns_goes_the_same_way(settings, placed):
    dataset, model = candidate(settings, placed, "parameters")
    assert dataset.question == dataset.labels_digest == ""
    assert dataset.counts["train"] == {"objects": dataset.totals()["train"]}
    assert sum(dataset.totals().values()) + sum(dataset.left_out.values()) == 70
    evaluation = evaluate_on_test(settings, model, dataset)
    assert evaluation.headline in evaluation.metrics
    assert evaluation.confusion == evaluation.classes == ()
    for values in evaluation.slices.values():
        assert set(values) == {"objects", evaluation.headline}


def test_a_task_on_the_sources_of_a_cutout_goes_the_same_way(settings, placed):
    dataset, model = candidate(settings, placed, "detection")
    assert evaluate_on_test(settings, model, dataset).test_objects == dataset.totals()["test"]


def test_a_task_that_needs_no_answer_goes_the_same_way(settings, placed):
    dataset, model = candidate(settings, placed, "restoration")
    assert dataset.left_out["no usable answer"] == 0
    evaluation = evaluate_on_test(settings, model, dataset)
    assert evaluation.headline in evaluation.metrics
