"""Fit one downstream task on a frozen data set and register the result as a candidate."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from lvm.checkpoint import load_encoder
from lvm.configs import config_to_dict
from lvm.downstream import DownstreamModel, DownstreamTask, create_task
from lvm.finetuning import FineTuneConfig, calibrate_head, fine_tune, takes_embeddings
from lvm.inference import predict
from lvm.training import BatchFactory, Event, TrainConfig, constant_batches
from storage.embedding_store import embedding_group, read_embeddings
from tasks import tracking
from tasks.datasets import KEY, Answered, answered_objects, votes_of
from tasks.embedding import open_embeddings
from tasks.loaders import CutoutLoader
from tasks.progress import report
from tasks.references import DatasetRef, EmbeddingsRef, EncoderRef, ModelRef
from tasks.run_records import log_dataset, log_training
from tasks.settings import Settings

MODEL_ARTIFACT = "model"
# A class ten times rarer than average weighs ten times as much; rarer ones would let a handful of
# objects steer the training.
MAX_CLASS_WEIGHT = 10.0
# Objects of a task on feature maps that are calibrated or tested on: all outputs, which are images,
# are in memory together.
MAX_IMAGES = 256


@dataclass(frozen=True)
class DownstreamConfig:
    """How `finetune_downstream` makes a candidate.

    Parameters
    ----------
    fine_tune : FineTuneConfig
        `mode` "head" fits on the embeddings of the store, "full" trains the encoder as well.
    options : mapping
        Options of the downstream task, such as `{"hidden": 256}`. They are frozen with the data
        set (`tasks.datasets.freeze_dataset`), since they may decide what an answer is.
    batch_size : int
        Cutouts in a training batch of "full" mode, and of tasks on feature maps.
    max_objects : int
        Largest number of objects trained on, see `tasks.datasets.Answered.drawn`; 0 uses all.
    """

    fine_tune: FineTuneConfig = field(
        default_factory=lambda: FineTuneConfig(
            mode="full", full=TrainConfig(epochs=12, learning_rate=5e-4, layer_decay=0.75)
        )
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    max_objects: int = 0


@task(name="fit-candidate", cache_policy=NO_CACHE)
def fit_candidate(
    settings: Settings,
    dataset: DatasetRef,
    encoder: EncoderRef,
    embeddings: EmbeddingsRef,
    config: DownstreamConfig,
) -> ModelRef:
    """Train a downstream model, track it in MLflow and register it as a candidate.

    Parameters
    ----------
    dataset : DatasetRef
        Trained on its train split, calibrated on its val split; nothing of test is looked at.
    encoder : EncoderRef
        Where the training starts.
    embeddings : EmbeddingsRef
        Of the same encoder and snapshot; read in "head" mode of a task on embeddings, so that all
        heads share what was computed once.

    Returns
    -------
    ModelRef
        The registered version.
    """
    found = answered_objects(dataset)
    train, val = found.of("train"), found.of("val")
    train = train.drawn(config.max_objects) if config.max_objects else train
    objective = _create_task(dataset, train)
    val = val.drawn(MAX_IMAGES) if objective.uses != "embedding" else val
    facts = _facts(dataset, encoder, config, len(train.table)) | {"trained_by": settings.user}
    with tracking.start_run(
        settings,
        experiment=dataset.downstream,
        run_name=f"{dataset.downstream} {config.fine_tune.mode}",
        params=facts | _params(objective, config),
        tags=facts,
    ) as run:
        log_dataset(run, dataset, found)
        model = load_encoder(Path(encoder.path))
        epochs = {
            "head": config.fine_tune.first(objective).epochs,
            "full": config.fine_tune.full.epochs,
        }
        tracked = _Tracker(run, epochs)
        source = _Source(dataset, embeddings, config, takes_embeddings(objective))
        result = fine_tune(
            objective, model, source.batches(train), config.fine_tune, callbacks=[tracked]
        )
        said = calibrate_head(
            result.model, source.batches(val)(0), device=config.fine_tune.first(objective).device
        )
        run.log_metrics({f"calibration_{name}": value for name, value in said.items()})
        log_training(run, result)
        return _register(settings, run, dataset, facts, result.model)


@dataclass(frozen=True)
class _Source:
    """Where the batches of a training come from: embeddings of the store, or cutouts."""

    dataset: DatasetRef
    embeddings: EmbeddingsRef
    config: DownstreamConfig
    takes_embeddings: bool

    def batches(self, objects: Answered) -> BatchFactory:
        rows = objects.table["row"].to_numpy()
        if self.takes_embeddings and self.config.fine_tune.mode == "head":
            group = embedding_group(self.embeddings.encoder_digest, self.embeddings.survey)
            vectors, _ = read_embeddings(
                open_embeddings(self.embeddings), group, rows, expected=objects.table[KEY]
            )
            batch = {"embedding": vectors.astype(np.float32), "rows": rows, **objects.columns}
            return constant_batches([batch])
        seed = self.config.fine_tune.full.seed
        loader = CutoutLoader(self.dataset.snapshot, rows, objects.columns, seed=seed)
        return lambda epoch: loader.epoch(epoch, self.config.batch_size)


class _Tracker:
    """Training callback: epochs of head and encoder training under names of their own."""

    def __init__(self, run: Any, epochs: Mapping[str, int]) -> None:
        self._run, self._epochs, self._phase = run, epochs, "head"

    def __call__(self, event: Event) -> None:
        """Log the means of an epoch and report progress."""
        if event.kind == "end":
            self._phase = "full"
        if event.kind != "epoch":
            return
        values = {f"{self._phase}_{name}": value for name, value in event.values.items()}
        self._run.log_metrics(values, step=event.epoch)
        report(f"fine-tuning, {self._phase}", event.epoch, self._epochs[self._phase])


def _create_task(dataset: DatasetRef, train: Answered) -> DownstreamTask:
    """Create the downstream task, rare classes weighted up unless weights are given."""
    options = dict(dataset.options)
    known = {entry.name for entry in dataclasses.fields(create_task(dataset.downstream).config)}
    if dataset.classes and "class_weights" in known and "class_weights" not in options:
        winner = votes_of(train.table, dataset).argmax(axis=1)
        counts = np.bincount(winner, minlength=len(dataset.classes)).clip(min=1)
        weights = (len(winner) / (len(counts) * counts)).clip(max=MAX_CLASS_WEIGHT)
        options["class_weights"] = tuple(round(float(weight), 4) for weight in weights)
    return create_task(dataset.downstream, options)


def _params(objective: DownstreamTask, config: DownstreamConfig) -> dict[str, str]:
    return (
        tracking.flat_params(config.fine_tune)
        | tracking.flat_params(config_to_dict(objective.config), "options.")
        | {"batch_size": str(config.batch_size), "max_objects": str(config.max_objects)}
    )


def _facts(
    dataset: DatasetRef, encoder: EncoderRef, config: DownstreamConfig, train: int
) -> dict[str, str]:
    """Return the lineage of a candidate, as tags and parameters of its run and version."""
    return {
        "downstream": dataset.downstream,
        "survey": dataset.snapshot.survey,
        "store": dataset.snapshot.store,
        "snapshot_id": dataset.snapshot.snapshot_id,
        "dataset_digest": dataset.content_digest(),
        "split_digest": dataset.split_digest,
        "test_digest": dataset.test_digest,
        "labels_digest": dataset.labels_digest,
        "labels_as_of": dataset.labels_as_of,
        "training_objects": str(train),
        "encoder_digest": encoder.digest,
        "mode": config.fine_tune.mode,
        "code_version": tracking.code_version(),
        "flow_run_id": str(flow_run.id or ""),
    }


def _register(
    settings: Settings,
    run: tracking.Run,
    dataset: DatasetRef,
    facts: dict[str, str],
    model: DownstreamModel,
) -> ModelRef:
    with TemporaryDirectory() as folder:
        directory = Path(folder) / MODEL_ARTIFACT
        digest = model.save(directory)
        encoder = model.encoder.config
        columns = _presented(model)
        tracking.write_interface(
            directory,
            run.run_id,
            bands=len(encoder.bands),
            size=encoder.cutout_size,
            columns=columns,
        )
        run.log_artifacts(directory, MODEL_ARTIFACT)
    return tracking.register_candidate(
        settings,
        dataset.downstream,
        run_id=run.run_id,
        artifact=MODEL_ARTIFACT,
        digest=digest,
        tags=facts,
    )


def _presented(model: DownstreamModel) -> dict[str, np.dtype[Any]]:
    """Return the columns that a model presents, asked with an empty piece of sky."""
    encoder = model.encoder.config
    cube = (1, len(encoder.bands), encoder.cutout_size, encoder.cutout_size)
    sky = {
        "image": np.zeros(cube, np.float32),
        "invvar": np.ones(cube, np.float32),
        "maskbits": np.zeros((1, *cube[2:]), np.int32),
    }
    [(_, columns)] = predict(model, [sky])
    return {name: np.asarray(values).dtype for name, values in columns.items()}
