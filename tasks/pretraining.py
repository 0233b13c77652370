"""Pre-train an encoder on the cutouts of a snapshot and save it by its digest."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.checkpoint import encoder_digest, load_encoder, save_encoder
from lvm.configs import config_to_dict
from lvm.distributed import World, joined, launched_device, launched_world, share_of_rows
from lvm.encoder import Encoder, EncoderConfig, create_encoder
from lvm.objectives import ObjectiveConfig, painters, pretrain
from lvm.training import Callback, Event, Trainable, TrainConfig
from tasks import tracking
from tasks.datasets import freeze_dataset, labelled_objects, votes_of
from tasks.encoders import find_encoder
from tasks.errors import TaskError
from tasks.loaders import CutoutLoader, load_cutouts
from tasks.probing import EncoderProbe, find_probe
from tasks.progress import report
from tasks.references import EncoderRef, SnapshotRef
from tasks.settings import Settings
from tasks.sheets import painting_sheet

PREPROCESS_SAMPLE = 512  # cutouts that the scaling is fitted on: noise to about one per cent
PICTURES = 8  # cutouts in the sheet of reconstructions


class UnfitEncoder(TaskError, ValueError):
    """The encoder to start from was made for other cutouts."""


@dataclass(frozen=True)
class PretrainConfig:
    """What `pretrain_encoder` does.

    Parameters
    ----------
    encoder : EncoderConfig
        `bands` and `cutout_size` are taken from the survey. Not used with `start`.
    objective : ObjectiveConfig
    train : TrainConfig
    batch_size : int
        Of one process.
    max_objects : int
        Largest number of cutouts used, drawn by `train.seed`; 0 uses all.
    start : str
        Encoder to go on from instead of random weights: the name of shipped weights, a folder, or
        the first digits of a digest. It keeps its own preprocessing.
    probe_every : int
        Epochs between two looks at the encoder with a linear probe and nearest neighbours, where
        the snapshot has morphology labels; 0 for none.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=20))
    batch_size: int = 64
    max_objects: int = 0
    start: str = ""
    probe_every: int = 5


@task(name="pretrain-encoder", cache_policy=NO_CACHE)
def pretrain_on_snapshot(
    settings: Settings, snapshot: SnapshotRef, config: PretrainConfig
) -> EncoderRef:
    """Train an encoder by self-supervision, tracked in MLflow, and save it.

    A run that was killed is taken up where it was when the same is asked for again. Under
    `torchrun` this is process 0; the others call `assist_pretraining`.

    Returns
    -------
    EncoderRef
        The encoder in `<home>/encoders/<first 16 digits of its digest>`.

    Raises
    ------
    ValueError
        If the snapshot holds no object.
    """
    with joined(launched_device(config.train.device)) as world:
        job = _Job(settings, snapshot, config, world)
        params = {"snapshot_id": snapshot.snapshot_id, "objects": job.objects}
        with tracking.start_run(
            settings,
            experiment="pretrain",
            run_name=f"{job.encoder.config.name} {'+'.join(config.objective.names)}",
            params=params | {"processes": world.size} | tracking.flat_params(config),
            tags={"survey": snapshot.survey, "code_version": tracking.code_version()},
        ) as run:
            callbacks = [epoch_logger(run, "pre-training", config.train.epochs)]
            callbacks += _watchers(run, job)
            model = job.train(callbacks, run)
            _log_pictures(run, model, job.sample)
            encoder = _save(settings, job.encoder, run)
        job.checkpoint.unlink(missing_ok=True)
        return encoder


def assists() -> bool:
    """Return whether `torchrun` started this process to help process 0."""
    return not launched_world().leads


def assist_pretraining(settings: Settings, snapshot: SnapshotRef, config: PretrainConfig) -> None:
    """Train beside process 0 of `torchrun`: the same model, another share of the rows."""
    with joined(launched_device(config.train.device)) as world:
        _Job(settings, snapshot, config, world).train([], None)


class _Job:
    """A pre-training as one process sees it."""

    def __init__(
        self, settings: Settings, snapshot: SnapshotRef, config: PretrainConfig, world: World
    ) -> None:
        self.settings, self.snapshot, self.config, self.world = settings, snapshot, config, world
        seed = config.train.seed
        whole = CutoutLoader(snapshot, limit=config.max_objects, seed=seed)
        self.objects = len(whole.rows)
        if not self.objects:
            raise ValueError(
                f"{snapshot.survey} has no objects in snapshot {snapshot.snapshot_id}: ingest first"
            )
        chosen = np.random.default_rng(seed).permutation(whole.rows)[:PREPROCESS_SAMPLE]
        self.sample = load_cutouts(snapshot, np.sort(chosen))
        self.encoder = _first_encoder(settings, whole, config, self.sample)
        rows = share_of_rows(whole.rows, world)
        columns = {}
        if "classification" in config.objective.names:
            columns["target"] = _votes(settings, snapshot, config.objective.classes, rows)
        self.loader = CutoutLoader(snapshot, rows, columns, seed=seed)
        self.device = launched_device(config.train.device)
        self.checkpoint = settings.home.resolve() / "pretraining" / f"{self._key()}.pt"

    def train(self, callbacks: list[Callback], run: tracking.Run | None) -> Trainable:
        """Train the encoder in place and return the objective."""
        result = pretrain(
            self.encoder,
            lambda epoch: self.loader.epoch(epoch, self.config.batch_size),
            replace(self.config.train, device=self.device),
            self.config.objective,
            callbacks,
            self.checkpoint,
        )
        if run is not None:
            run.log_json("history.json", [dict(means) for means in result.fit.history])
        return result.model

    def _key(self) -> str:
        """Return what identifies this training: another one has another checkpoint."""
        what = [self.snapshot.model_dump(), config_to_dict(self.config), self.world.size]
        start = encoder_digest(self.encoder)  # the newest encoder of a name may be another one
        text = json.dumps([*what, start], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def epoch_logger(run: tracking.Run, what: str, epochs: int) -> Callable[[Event], None]:
    """Return a training callback that tracks the means of every epoch and reports progress."""

    def tell(event: Event) -> None:
        if event.kind == "epoch":
            run.log_metrics(event.values, step=event.epoch)
            report(f"{what} (loss {event.values['loss']:.4f})", event.epoch, epochs)

    return tell


def _watchers(run: tracking.Run, job: _Job) -> list[Callback]:
    """Return the callbacks of pre-training alone: throughput, and probes where there are labels."""
    watchers = [_throughput_logger(run, job.objects)]
    config = job.config
    found = (
        find_probe(job.settings, job.snapshot, config.train.seed) if config.probe_every else None
    )
    if found is not None:
        watchers.append(_probe_logger(run, job, found))
    return watchers


def _throughput_logger(run: tracking.Run, objects: int) -> Callback:
    last = time.perf_counter()

    def tell(event: Event) -> None:
        nonlocal last
        if event.kind == "epoch":
            now = time.perf_counter()
            run.log_metrics({"images_per_second": objects / (now - last)}, step=event.epoch)
            last = now

    return tell


def _probe_logger(run: tracking.Run, job: _Job, found: EncoderProbe) -> Callback:
    config = job.config

    def look(epoch: int) -> None:
        scores = found.scores(job.encoder, job.device, config.batch_size)
        run.log_metrics(scores.named(), step=epoch)

    def tell(event: Event) -> None:
        last = event.epoch == config.train.epochs
        if event.kind == "epoch" and (event.epoch % config.probe_every == 0 or last):
            look(event.epoch)

    look(0)  # what there was before the training is what it has to beat
    return tell


def _first_encoder(
    settings: Settings, loader: CutoutLoader, config: PretrainConfig, sample: dict[str, Any]
) -> Encoder:
    wanted = loader.encoder_config(config.encoder)
    if not config.start:
        return create_encoder(wanted, sample=sample, seed=config.train.seed)
    encoder = load_encoder(Path(find_encoder(settings, config.start).path))
    made_for = encoder.config
    if made_for.bands != wanted.bands or (made_for.crop_size or 0) > wanted.cutout_size:
        raise UnfitEncoder(
            f"encoder {config.start!r} was made for bands {made_for.bands} and cutouts of at least "
            f"{made_for.crop_size} pixels; here are {wanted.bands}, {wanted.cutout_size} px: "
            "start from random weights, or ingest such cutouts"
        )
    return encoder


def _votes(
    settings: Settings, snapshot: SnapshotRef, classes: tuple[str, ...], rows: Any
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return votes (row, class) of the training split; 0 where there are none."""
    dataset = freeze_dataset.fn(settings, snapshot, "morphology")
    if dataset.classes != classes:
        raise ValueError(
            f"objective.classes is {classes}, but the labels have {dataset.classes}: use those"
        )
    table = labelled_objects(dataset)
    table = table[(table["split"] == "train").to_numpy() & np.isin(table["row"], rows)]
    votes = np.zeros((len(rows), len(classes)), dtype=np.float32)
    votes[np.searchsorted(rows, table["row"].to_numpy())] = votes_of(table, dataset)
    return votes


def _log_pictures(run: tracking.Run, model: Trainable, sample: dict[str, Any]) -> None:
    """Keep a sheet of each painting objective: target, what was shown, what was painted."""
    few = {name: values[:PICTURES] for name, values in sample.items()}
    for name, painter in painters(model).items():
        painting = painter.show(few, torch.Generator().manual_seed(0))
        rows = [painting.target, painting.shown, painting.painted]
        with TemporaryDirectory() as folder:
            painting_sheet([row.cpu().numpy() for row in rows], Path(folder) / f"{name}.png")
            run.log_artifacts(Path(folder), "pictures")


def _save(settings: Settings, encoder: Encoder, run: tracking.Run) -> EncoderRef:
    digest = encoder_digest(encoder)
    directory = settings.encoder_path / digest[:16]
    save_encoder(encoder, directory)
    run.set_tags({"encoder_digest": digest, "encoder_path": str(directory)})
    return EncoderRef(path=str(directory), digest=digest)
