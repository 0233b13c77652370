"""The model: encoders, pre-training, downstream tasks. Tensors in, tensors out; no survey files."""

from lvm.checkpoint import CheckpointError, encoder_digest, load_encoder, save_encoder
from lvm.downstream import DOWNSTREAM_TASKS, DownstreamModel, create_task
from lvm.encoder import PRESETS, Encoder, EncoderConfig, create_encoder
from lvm.finetuning import FineTuneConfig, fine_tune
from lvm.inference import embed, evaluate, predict
from lvm.objectives import ObjectiveConfig, pretrain
from lvm.simmim import SimMIMConfig
from lvm.training import Event, StopTraining, TrainConfig, fit

__all__ = [
    "DOWNSTREAM_TASKS",
    "PRESETS",
    "CheckpointError",
    "DownstreamModel",
    "Encoder",
    "EncoderConfig",
    "Event",
    "FineTuneConfig",
    "ObjectiveConfig",
    "SimMIMConfig",
    "StopTraining",
    "TrainConfig",
    "create_encoder",
    "create_task",
    "embed",
    "encoder_digest",
    "evaluate",
    "fine_tune",
    "fit",
    "load_encoder",
    "predict",
    "pretrain",
    "save_encoder",
]
