import pytest
import torch

from lvm.encoder import FeatureSpec
from lvm.heads import (
    AnswerHead,
    LinearDecoder,
    Standardise,
    SwinDecoder,
    create_decoder,
    embedding_head,
)

SPEC = FeatureSpec(width=64, channels=(32, 64), reductions=(4, 8), bands=4, input_size=32)


def maps():
    return [torch.randn(2, 32, 8, 8), torch.randn(2, 64, 4, 4)]


@pytest.mark.parametrize("decoder", [LinearDecoder(SPEC), SwinDecoder(SPEC, depth=2)])
def test_decoders_return_every_band_at_the_input_size(decoder):
    assert decoder(maps()).shape == (2, 4, 32, 32)


def test_the_swin_decoder_uses_every_map():
    decoder = SwinDecoder(SPEC, depth=1)
    given = [m.requires_grad_() for m in maps()]
    decoder(given).sum().backward()
    assert all(m.grad.abs().sum() > 0 for m in given)


def test_the_swin_decoder_refuses_maps_that_do_not_halve():
    flat = FeatureSpec(64, (32, 32), (16, 16), 3, 32)
    with pytest.raises(ValueError, match="LinearDecoder"):
        SwinDecoder(flat)


def test_an_unknown_decoder_is_refused():
    with pytest.raises(ValueError, match="'linear' or 'swin'"):
        create_decoder("unet", SPEC)


def test_standardise_gives_mean_0_and_deviation_1_and_survives_dead_channels():
    embeddings = torch.randn(500, 3) * torch.tensor([100.0, 1.0, 0.0]) + 7.0
    standardise = Standardise(3)
    standardise.fit(embeddings)
    scaled = standardise(embeddings)
    assert torch.allclose(scaled.mean(dim=0), torch.zeros(3), atol=1e-3)
    assert torch.allclose(scaled[:, :2].std(dim=0), torch.ones(2), atol=0.01)
    assert scaled[:, 2].abs().max() < 1.0


def test_a_new_head_answers_nothing_in_particular():
    output = embedding_head(16, 4, hidden=8)(torch.randn(5, 16))
    assert output.shape == (5, 4)
    assert output.abs().max() < 0.5


def test_a_head_without_hidden_layer_is_linear():
    head = embedding_head(16, 4)
    a, b = torch.randn(2, 3, 16)
    assert torch.allclose(head(a + b) + head(torch.zeros(1, 16)), head(a) + head(b), atol=1e-5)


def test_a_calibrated_head_says_how_its_logits_are_to_be_read():
    head = AnswerHead(embedding_head(16, 5), questions=2)
    embeddings = torch.randn(3, 16)
    logits = head(embeddings)
    assert logits.shape == (3, 5)
    head.calibrate(torch.tensor([1.5, 2.0]), torch.tensor([0.7, 0.8]))
    output = head(embeddings)
    assert torch.equal(output[:, :5], logits)
    assert torch.allclose(output[:, 5:], torch.tensor([1.5, 2.0, 0.7, 0.8]).expand(3, 4))
    again = AnswerHead(embedding_head(16, 5), questions=2)
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(embeddings), output)


def test_a_temperature_of_0_is_refused():
    with pytest.raises(ValueError, match="positive"):
        AnswerHead(embedding_head(4, 2)).calibrate(torch.zeros(1), torch.zeros(1))
