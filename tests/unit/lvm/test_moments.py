import pytest
import torch

from lvm.encoder import FeatureSpec
from lvm.moments import MOMENTS, MomentPooling

SPEC = FeatureSpec(width=6, channels=(4, 6), reductions=(4, 8), bands=3, input_size=64)


def maps(count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn((count, width, 64 // step, 64 // step), generator=generator)
        for width, step in zip(SPEC.channels, SPEC.reductions, strict=True)
    ]


def pooling(channels=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MomentPooling(SPEC, channels)


def test_the_number_of_values_does_not_depend_on_the_objects():
    module = pooling().eval()
    assert module(maps()).shape == (5, module.width)
    assert module(maps(1)).shape == (1, module.width)
    assert module.width == 3 * MOMENTS * 4  # two maps, two windows each


def test_the_first_batch_of_a_training_sets_the_scale_and_no_later_one():
    module = pooling()
    module.eval()(maps())
    assert not module.fitted
    module.train()(maps(1))  # one object has no spread
    assert not module.fitted
    module(maps())
    before = module.scale[0].mean.clone()
    assert module.fitted
    assert before.any()
    module(maps(seed=1))
    assert torch.equal(module.scale[0].mean, before)


def raw(found):
    """Return the moments of one map of one channel under the narrow window."""
    window = pooling().get_buffer("window_0")[:MOMENTS]
    return torch.einsum("yx,kyx->k", found, window)


def blob(angle=0.0, y=0.0, x=0.0):
    """Return an elongated blob on the first map; `angle` from x to y."""
    cells = (torch.arange(16) + 0.5) * 4 - 0.5 - 32
    v, u = torch.meshgrid(cells - y, cells - x, indexing="ij")
    turn = torch.tensor(angle)
    along, across = turn.cos() * u + turn.sin() * v, turn.cos() * v - turn.sin() * u
    return torch.exp(-0.5 * ((along / 8).square() + (across / 3).square()))


def test_elongation_is_where_it_should_be():
    total, at_x, at_y, plus, cross, _ = raw(blob())
    assert total > 0.1
    assert plus > 0.2 * total
    assert abs(at_x) < 0.05 * total
    assert abs(at_y) < 0.05 * total
    assert abs(cross) < 0.05 * total
    turned = raw(blob(torch.pi / 4))
    assert turned[4] > 0.2 * turned[0]
    assert abs(turned[3]) < 0.05 * turned[0]
    upright = raw(blob(torch.pi / 2))
    assert upright[3].item() == pytest.approx(-plus.item(), rel=0.05)


def test_a_place_off_the_centre_shows_in_the_moments_of_position():
    moved = raw(blob(y=3.0))
    assert moved[2] > 0.1 * moved[0]
    assert abs(moved[1]) < 0.05 * moved[0]


def test_a_small_input_keeps_one_window_a_map():
    small = FeatureSpec(width=6, channels=(4, 6), reductions=(4, 8), bands=3, input_size=16)
    assert MomentPooling(small, 2).width == 2 * MOMENTS * 2
