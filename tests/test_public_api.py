"""The names that users import; a change here is a change for them."""

import importlib
import subprocess
import sys

import pytest

PUBLIC = {
    "storage": (
        "Brick",
        "open_repository",
        "read_brick",
        "cutout",
        "write_synthetic_release",
        "StorageError",
    ),
    "lvm": ("create_encoder", "load_encoder", "embed", "predict", "DOWNSTREAM_TASKS"),
    "flows.ingest": ("ingest_bricks", "ingest_images"),
    "flows.pretrain": ("pretrain_encoder",),
    "flows.embed": ("embed_survey",),
    "flows.finetune": ("finetune_downstream",),
    "flows.promote": ("promote_model",),
    "flows.predict": ("publish_catalogue",),
    "flows.survey_cycle": ("run_survey_cycle",),
    "flows.training_cycle": ("run_training_cycle",),
    "flows.label_round": ("run_label_round",),
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in names]
)
def test_public_names_can_be_imported(module, name):
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("storage", ("torch", "galsim")),
        ("lvm", ("astropy",)),
        ("lvm.downstream", ("timm",)),
        ("flows.__main__", ("prefect",)),
        ("flows.ingest", ("torch",)),
        ("flows.promote", ("torch",)),
        # What Dask workers load.
        ("tasks.brick_worker", ("prefect", "mlflow", "torch")),
        ("tasks.embedding_worker", ("prefect", "mlflow")),
        ("tasks.prediction_worker", ("prefect", "mlflow")),
    ],
)
def test_importing_a_package_does_not_load_what_it_does_not_need(package, unwanted):
    code = f"import sys, {package}; print([name for name in {unwanted} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"
