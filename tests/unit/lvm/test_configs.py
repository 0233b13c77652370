from dataclasses import dataclass

import pytest

from lvm.configs import config_from_dict, config_to_dict
from lvm.encoder import EncoderConfig, SwinShape
from lvm.finetuning import FineTuneConfig
from lvm.preprocess import PreprocessConfig, default_preprocess


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(),
        EncoderConfig("x", shape=SwinShape(16, 4, 8, (1, 1), (2, 2), 2)),
        default_preprocess(("g", "r"), 16, 16),
        FineTuneConfig(mode="full"),
    ],
)
def test_a_config_survives_the_round_trip(config):
    assert config_from_dict(type(config), config_to_dict(config)) == config


def test_nested_tuples_come_back_as_tuples():
    config = config_from_dict(
        PreprocessConfig, config_to_dict(default_preprocess(("g", "r"), 16, 16))
    )
    assert config.fill_bits == ((2, 5), (3, 6))


def test_a_misspelt_key_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ValueError, match="cutout_size"):
        config_from_dict(EncoderConfig, {"cutoutsize": 152})


def test_a_misspelt_nested_key_is_refused():
    values = config_to_dict(FineTuneConfig())
    values["head"]["epoch"] = 3
    with pytest.raises(ValueError, match="TrainConfig"):
        config_from_dict(FineTuneConfig, values)


def test_values_that_json_cannot_hold_are_refused():
    @dataclass(frozen=True)
    class Odd:
        value: object = object()

    with pytest.raises(TypeError, match="plain values"):
        config_to_dict(Odd())
