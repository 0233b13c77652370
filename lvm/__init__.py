"""The model: encoders, pre-training, downstream tasks. Tensors in, tensors out; no survey files.

The names below are the public ones; each is imported from its module when it is first used: timm
and torchvision take seconds, and what only asks for the name of a task needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "lvm.checkpoint": ("CheckpointError", "encoder_digest", "load_encoder", "save_encoder"),
    "lvm.downstream": ("DOWNSTREAM_TASKS", "DownstreamModel", "create_task"),
    "lvm.encoder": ("PRESETS", "Encoder", "EncoderConfig", "create_encoder"),
    "lvm.finetuning": ("FineTuneConfig", "fine_tune"),
    "lvm.inference": ("embed", "evaluate", "predict"),
    "lvm.objectives": ("ObjectiveConfig", "pretrain"),
    "lvm.simmim": ("SimMIMConfig",),
    "lvm.training": ("Event", "StopTraining", "TrainConfig", "fit"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lvm' has no public name {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
