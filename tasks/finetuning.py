"""Fit one downstream task on a frozen data set and register the result as a candidate."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from lvm.checkpoint import load_encoder
from lvm.downstream import DownstreamModel, DownstreamTask, create_task
from lvm.finetuning import FineTuneConfig, FineTuneResult, fine_tune
from lvm.training import BatchFactory, Event, TrainConfig, constant_batches
from storage.embedding_store import embedding_group, read_embeddings
from tasks import tracking
from tasks.datasets import DATASET_ARTIFACT, KEY, labelled_objects, votes_of
from tasks.embedding import open_embeddings
from tasks.loaders import CutoutLoader
from tasks.progress import report
from tasks.references import DatasetRef, EmbeddingsRef, EncoderRef, ModelRef
from tasks.settings import Settings

MODEL_ARTIFACT = "model"
# A class ten times rarer than average weighs ten times as much; rarer ones would let a handful of
# objects steer the training.
MAX_CLASS_WEIGHT = 10.0


@dataclass(frozen=True)
class DownstreamConfig:
    """How `finetune_downstream` makes a candidate.

    Parameters
    ----------
    fine_tune : FineTuneConfig
        `mode` "head" fits on the embeddings of the store, "full" trains the encoder as well.
    options : mapping
        Options of the downstream task, such as `{"hidden": 256}`.
    batch_size : int
        Cutouts in a training batch of "full" mode.
    """

    fine_tune: FineTuneConfig = field(
        default_factory=lambda: FineTuneConfig(
            mode="full", full=TrainConfig(epochs=12, learning_rate=5e-4, layer_decay=0.75)
        )
    )
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 32


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
        Its train split is used; nothing of the val and test splits is looked at.
    encoder : EncoderRef
        Where the training starts.
    embeddings : EmbeddingsRef
        Of the same encoder and snapshot; read in "head" mode.

    Returns
    -------
    ModelRef
        The registered version.
    """
    table = labelled_objects(dataset)
    table = table[table["split"] == "train"].reset_index(drop=True)
    target = votes_of(table, dataset)
    objective = _create_task(dataset, config, target)
    facts = _facts(dataset, encoder, config)
    with tracking.start_run(
        settings,
        experiment=dataset.question,
        run_name=f"{dataset.question} {config.fine_tune.mode}",
        params=facts | tracking.flat_params(config.fine_tune),
        tags=facts,
    ) as run:
        batches = _batches(dataset, embeddings, table, target, config)
        model = load_encoder(Path(encoder.path))
        tracked = _Tracker(run, config.fine_tune)
        result = fine_tune(objective, model, batches, config.fine_tune, callbacks=[tracked])
        return _register(settings, run, dataset, facts, result)


class _Tracker:
    """Training callback: epochs of head and encoder training under names of their own."""

    def __init__(self, run: Any, config: FineTuneConfig) -> None:
        self._run, self._config, self._phase = run, config, "head"

    def __call__(self, event: Event) -> None:
        """Log the means of an epoch and report progress."""
        if event.kind == "end":
            self._phase = "full"
        if event.kind != "epoch":
            return
        values = {f"{self._phase}_{name}": value for name, value in event.values.items()}
        self._run.log_metrics(values, step=event.epoch)
        total = getattr(self._config, self._phase).epochs
        report(f"fine-tuning, {self._phase}", event.epoch, total)


def load_model(settings: Settings, reference: ModelRef) -> DownstreamModel:
    """Load a registered model and check that it is the one the reference names.

    Raises
    ------
    ValueError
        If the stored weights have another digest than the reference.
    """
    directory = tracking.download_model(settings, reference)
    model = DownstreamModel.load(directory)
    found = (directory / "digest").read_text().strip()
    if found != reference.digest:
        raise ValueError(
            f"{reference.downstream} version {reference.version} has digest {found[:16]}, recorded "
            f"as {reference.digest[:16]}: its files were changed after it was registered"
        )
    return model


def _create_task(
    dataset: DatasetRef, config: DownstreamConfig, target: npt.NDArray[np.float32]
) -> DownstreamTask:
    """Create the downstream task, rare classes weighted up unless weights are given."""
    options = dict(config.options)
    known = {entry.name for entry in dataclasses.fields(create_task(dataset.question).config)}
    if "class_weights" in known and "class_weights" not in options:
        counts = np.bincount(target.argmax(axis=1), minlength=target.shape[1]).clip(min=1)
        weights = (len(target) / (target.shape[1] * counts)).clip(max=MAX_CLASS_WEIGHT)
        options["class_weights"] = tuple(round(float(weight), 4) for weight in weights)
    return create_task(dataset.question, options)


def _facts(dataset: DatasetRef, encoder: EncoderRef, config: DownstreamConfig) -> dict[str, str]:
    """Return the lineage of a candidate, as tags and parameters of its run and version."""
    train = sum(dataset.counts["train"].values())
    return {
        "survey": dataset.snapshot.survey,
        "store": dataset.snapshot.store,
        "snapshot_id": dataset.snapshot.snapshot_id,
        "dataset_digest": dataset.content_digest(),
        "split_digest": dataset.split_digest,
        "labels_digest": dataset.labels_digest,
        "labels_as_of": dataset.labels_as_of,
        "training_objects": str(train),
        "encoder_digest": encoder.digest,
        "mode": config.fine_tune.mode,
        "code_version": tracking.code_version(),
        "flow_run_id": str(flow_run.id or ""),
    }


def _batches(
    dataset: DatasetRef,
    embeddings: EmbeddingsRef,
    table: pd.DataFrame,
    target: npt.NDArray[np.float32],
    config: DownstreamConfig,
) -> BatchFactory:
    rows = table["row"].to_numpy()
    if config.fine_tune.mode == "head":
        group = embedding_group(embeddings.encoder_digest, embeddings.survey)
        vectors, _ = read_embeddings(
            open_embeddings(embeddings),
            group,
            rows,
            expected=table[KEY],
        )
        batch = {"embedding": vectors.astype(np.float32), "target": target, "rows": rows}
        return constant_batches([batch])
    seed = config.fine_tune.full.seed
    loader = CutoutLoader(dataset.snapshot, rows, {"target": target}, seed=seed)
    return lambda epoch: loader.epoch(epoch, config.batch_size)


def _register(
    settings: Settings,
    run: Any,
    dataset: DatasetRef,
    facts: dict[str, str],
    result: FineTuneResult,
) -> ModelRef:
    run.log_json(DATASET_ARTIFACT, dataset)
    source = f"{dataset.snapshot.store}#{dataset.snapshot.survey}@{dataset.snapshot.snapshot_id}"
    run.log_dataset(dataset.question, dataset.content_digest(), source=source, context="training")
    histories = {"head": result.head, "full": result.full}
    run.log_json(
        "history.json",
        {name: [dict(row) for row in fit.history] for name, fit in histories.items() if fit},
    )
    with TemporaryDirectory() as folder:
        directory = Path(folder) / MODEL_ARTIFACT
        digest = result.model.save(directory)
        run.log_artifacts(directory, MODEL_ARTIFACT)
    return tracking.register_candidate(
        settings,
        dataset.question,
        run_id=run.run_id,
        artifact=MODEL_ARTIFACT,
        digest=digest,
        tags=facts,
    )
