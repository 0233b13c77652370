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


#: What Dask workers load.
WORKERS = ("tasks.brick_worker", "tasks.embedding_worker", "tasks.prediction_worker")


@pytest.mark.parametrize(
    ("package", "unwanted"),
    [
        ("storage", "torch"),
        ("storage", "galsim"),
        ("lvm", "astropy"),
        ("lvm.downstream", "timm"),
        ("flows.__main__", "prefect"),
        ("flows.ingest", "torch"),
        ("flows.promote", "torch"),
        *((worker, "prefect") for worker in WORKERS),
        *((worker, "mlflow") for worker in WORKERS),
        ("tasks.brick_worker", "torch"),
    ],
)
def test_importing_a_package_does_not_load_what_it_does_not_need(package, unwanted):
    code = f"import sys, {package}; sys.exit({unwanted!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
