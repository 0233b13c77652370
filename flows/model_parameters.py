"""What a run does with networks: the configurations of lvm as parameters of flows.

They stand apart from `flows.parameters`, so that what reads bricks does not load torch.
"""

from flows.parameters import forbid_unknown_keys
from lvm.forward import ForwardConfig
from tasks.finetuning import DownstreamConfig
from tasks.pretraining import PretrainConfig
from tasks.round_choice import RoundConfig

__all__ = ["DownstreamConfig", "ForwardConfig", "PretrainConfig", "RoundConfig"]

for _config in (ForwardConfig, RoundConfig, DownstreamConfig, PretrainConfig):
    forbid_unknown_keys(_config)
