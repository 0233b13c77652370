"""Pre-train an encoder on the cutouts of a snapshot and save it by its digest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.checkpoint import encoder_digest, save_encoder
from lvm.encoder import Encoder, EncoderConfig, create_encoder
from lvm.simmim import SimMIM, SimMIMConfig, pretrain
from lvm.training import Event, TrainConfig
from tasks import tracking
from tasks.loaders import CutoutLoader, load_cutouts
from tasks.progress import report
from tasks.references import EncoderRef, SnapshotRef
from tasks.settings import Settings
from tasks.sheets import painting_sheet

PREPROCESS_SAMPLE = 512  # cutouts that the scaling is fitted on: noise to about one per cent
PICTURES = 8  # cutouts in the sheet of reconstructions


@dataclass(frozen=True)
class PretrainConfig:
    """What `pretrain_encoder` does.

    Parameters
    ----------
    encoder : EncoderConfig
        `bands` and `cutout_size` are taken from the survey.
    objective : SimMIMConfig
    train : TrainConfig
    batch_size : int
    max_objects : int
        Largest number of cutouts used, drawn by `train.seed`; 0 uses all.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    objective: SimMIMConfig = field(default_factory=SimMIMConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=20))
    batch_size: int = 64
    max_objects: int = 0


@task(name="pretrain-encoder", cache_policy=NO_CACHE)
def pretrain_on_snapshot(
    settings: Settings, snapshot: SnapshotRef, config: PretrainConfig
) -> EncoderRef:
    """Train an encoder by masked-image modelling, tracked in MLflow, and save it.

    Returns
    -------
    EncoderRef
        The encoder in `<home>/encoders/<first 16 digits of its digest>`.

    Raises
    ------
    ValueError
        If the snapshot holds no object.
    """
    loader = CutoutLoader(snapshot, limit=config.max_objects, seed=config.train.seed)
    if not len(loader.rows):
        raise ValueError(
            f"{snapshot.survey} has no objects in snapshot {snapshot.snapshot_id}: ingest first"
        )
    rng = np.random.default_rng(config.train.seed)
    chosen = rng.permutation(loader.rows)[:PREPROCESS_SAMPLE]
    sample = load_cutouts(snapshot, np.sort(chosen))
    encoder = create_encoder(
        loader.encoder_config(config.encoder), sample=sample, seed=config.train.seed
    )
    params = {"snapshot_id": snapshot.snapshot_id, "objects": len(loader.rows)}
    with tracking.start_run(
        settings,
        experiment="pretrain",
        run_name=f"{config.encoder.name} {config.objective.objective}",
        params=params | tracking.flat_params(config),
        tags={"survey": snapshot.survey, "code_version": tracking.code_version()},
    ) as run:
        result = pretrain(
            encoder,
            lambda epoch: loader.epoch(epoch, config.batch_size),
            config.train,
            config.objective,
            callbacks=[epoch_logger(run, "pre-training", config.train.epochs)],
        )
        run.log_json("history.json", [dict(means) for means in result.fit.history])
        _log_pictures(run, result.model, sample)
        return _save(settings, encoder, run)


def epoch_logger(run: tracking.Run, what: str, epochs: int) -> Callable[[Event], None]:
    """Return a training callback that tracks the means of every epoch and reports progress."""

    def tell(event: Event) -> None:
        if event.kind == "epoch":
            run.log_metrics(event.values, step=event.epoch)
            report(f"{what} (loss {event.values['loss']:.4f})", event.epoch, epochs)

    return tell


def _log_pictures(run: tracking.Run, model: SimMIM, sample: dict[str, Any]) -> None:
    """Keep a sheet of reconstructions with the run: target, what was shown, what was painted."""
    few = {name: values[:PICTURES] for name, values in sample.items()}
    painting = model.show(few, torch.Generator().manual_seed(0))
    rows = [painting.target, painting.shown, painting.painted]
    with TemporaryDirectory() as folder:
        painting_sheet([row.cpu().numpy() for row in rows], Path(folder) / "painted.png")
        run.log_artifacts(Path(folder), "pictures")


def _save(settings: Settings, encoder: Encoder, run: tracking.Run) -> EncoderRef:
    digest = encoder_digest(encoder)
    directory = settings.encoder_path / digest[:16]
    save_encoder(encoder, directory)
    run.set_tags({"encoder_digest": digest, "encoder_path": str(directory)})
    return EncoderRef(path=str(directory), digest=digest)
