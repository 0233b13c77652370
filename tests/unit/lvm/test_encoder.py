import dataclasses

import pytest
import timm
import torch

from lvm.encoder import PRESETS, EncoderConfig, SwinShape, create_encoder
from lvm.heads import SwinDecoder


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("bands", [("g", "r", "z"), ("g", "r", "i", "z"), ("z",)])
def test_any_number_of_bands_goes_in(bands):
    encoder = create_encoder(EncoderConfig(bands=bands))
    inputs = torch.randn(2, len(bands), 80, 80)
    assert encoder.features(inputs).shape == (2, encoder.spec.width)


def test_feature_maps_go_from_high_to_low_resolution_as_the_spec_says():
    encoder = create_encoder()
    spec = encoder.spec
    maps = encoder.feature_maps(torch.randn(2, 3, 80, 80))
    assert [m.shape[1] for m in maps] == list(spec.channels)
    assert [80 // m.shape[2] for m in maps] == list(spec.reductions)
    assert list(spec.reductions) == sorted(spec.reductions)


def test_the_embedding_is_the_mean_over_the_last_tokens():
    encoder = create_encoder()
    inputs = torch.randn(2, 3, 80, 80)
    with torch.no_grad():
        mean = encoder.feature_maps(inputs)[-1].mean(dim=(2, 3))
        assert torch.allclose(encoder(inputs), mean, atol=1e-5)


@pytest.mark.parametrize(("size", "centre"), [(80, slice(2, 3)), (64, slice(1, 3))])
def test_centre_pooling_takes_the_tokens_of_the_object(size, centre):
    encoder = create_encoder(EncoderConfig(input_size=size, pooling="centre"))
    inputs = torch.randn(2, 3, size, size)
    with torch.no_grad():
        last = encoder.feature_maps(inputs)[-1]
        assert torch.equal(encoder(inputs), last[:, :, centre, centre].mean(dim=(2, 3)))


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling"):
        EncoderConfig(pooling="max")


def test_the_seed_decides_the_weights_and_the_global_state_is_untouched():
    state = torch.random.get_rng_state()
    first, second, other = (create_encoder(seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_batch_of_one_gives_the_same_as_within_a_batch(tiny_encoder, batch):
    with torch.inference_mode():
        inputs = tiny_encoder.prepare(batch).inputs
        whole = tiny_encoder(inputs)
        assert torch.allclose(tiny_encoder(inputs[3:4]), whole[3:4], atol=1e-5)


def test_presets_have_the_size_they_are_said_to_have():
    nano = create_encoder(EncoderConfig("nano"))
    assert 1.5e6 < parameters(nano) < 3e6


@pytest.mark.slow
def test_base_with_its_decoder_has_the_hundred_million_of_the_paper():
    with torch.device("meta"):
        base = create_encoder(EncoderConfig("base"))
        decoder = SwinDecoder(base.spec)
    assert 76e6 < parameters(base) < 78e6
    assert 95e6 < parameters(base) + parameters(decoder) < 105e6


def test_a_resolved_config_does_not_change_with_the_presets(monkeypatch):
    config = EncoderConfig().resolved()
    monkeypatch.setitem(PRESETS, "nano", SwinShape(32, 4, 8, (1, 1), (1, 1), 2))
    assert config.resolved() == config


def test_a_wider_crop_is_resized():
    config = EncoderConfig(crop_size=152).resolved()
    assert (config.crop_size, config.input_size) == (152, 80)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["convnext_atto", "convnextv2_atto", "vit_tiny_patch16_224", "swinv2_tiny_window8_256"],
)
@pytest.mark.parametrize("bands", [("g", "r", "z"), ("g", "r", "i", "z")])
def test_other_timm_trunks_serve_through_the_same_contract(name, bands):
    encoder = create_encoder(EncoderConfig(name, bands=bands, input_size=64))
    inputs = torch.randn(2, len(bands), 64, 64)
    with torch.inference_mode():
        maps = encoder.feature_maps(inputs)
        assert encoder.features(inputs).shape == (2, encoder.spec.width)
    assert len(maps) == len(encoder.spec.channels)
    for found, channels, reduction in zip(
        maps, encoder.spec.channels, encoder.spec.reductions, strict=True
    ):
        assert found.shape == (2, channels, 64 // reduction, 64 // reduction)
        assert torch.isfinite(found).all()


def test_a_model_of_the_hub_is_made_by_timm_from_its_name_there(monkeypatch):
    asked = []

    def create(name, **options):
        asked.append((name, options["in_chans"]))
        return real("convnext_atto", **options)

    real = timm.create_model
    monkeypatch.setattr("timm.create_model", create)
    encoder = create_encoder(EncoderConfig("hf-hub:someone/galaxies", input_size=64))
    assert asked == [("hf-hub:someone/galaxies", 3)]
    assert encoder.features(torch.randn(1, 3, 64, 64)).shape == (1, encoder.spec.width)


def test_an_unknown_name_is_refused_with_the_presets():
    with pytest.raises(ValueError, match="'base', 'nano', 'tiny'"):
        create_encoder(EncoderConfig("swim"))


def test_sizes_that_would_pad_tokens_are_refused():
    with pytest.raises(ValueError, match="no multiple of 16"):
        EncoderConfig("nano", input_size=90).resolved()
    with pytest.raises(ValueError, match="one value for each"):
        dataclasses.replace(PRESETS["nano"], depths=(1, 2))


def test_senseless_configs_are_refused():
    with pytest.raises(ValueError, match="different names"):
        EncoderConfig(bands=("g", "g"))
    with pytest.raises(ValueError, match="larger than the cutouts"):
        EncoderConfig(cutout_size=64, crop_size=80)
