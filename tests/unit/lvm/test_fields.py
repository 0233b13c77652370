import numpy as np
import pytest
import torch

from lvm.downstream import create_task
from lvm.downstream.base import DownstreamModel
from lvm.encoder import EncoderConfig, create_encoder
from lvm.field_symmetry import turn_pixels, turn_places
from lvm.fields import search_field
from lvm.testing import TINY_SHAPE, TinyEncoder


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("element", range(8))
def test_pixels_and_places_turn_together(side, element):
    image = torch.zeros(1, 1, side, side)
    image[0, 0, 6, 2] = 1.0
    chosen = torch.tensor([element])
    places = torch.tensor([[[2.0 - side // 2, 6.0 - side // 2, 3.0, 1.0, 18.0]]])
    y, x = torch.nonzero(turn_pixels(image, chosen)[0, 0], as_tuple=True)
    turned = turn_places(places, chosen, side)[0, 0]
    assert turned[0] + side // 2 == x.item()
    assert turned[1] + side // 2 == y.item()
    assert turned[2:].tolist() == ([1.0, 3.0] if element & 1 else [3.0, 1.0]) + [18.0]


class Marked(DownstreamModel):
    """Says that a source is wherever the first band is above 0, as a trained model might."""

    def forward(self, batch):
        side = batch["image"].shape[-1]
        bright = batch["image"][:, 0] > 0
        output = torch.zeros(len(bright), 5, side, side)
        output[:, 0] = torch.where(bright, 5.0, -10.0)
        return output


@pytest.fixture
def marked():
    return Marked(create_task("detection", {"stride": 1}), TinyEncoder())


def test_every_source_of_a_field_is_found_once_wherever_the_tiles_meet(marked):
    image = np.zeros((3, 61, 45), np.float32)
    rng = np.random.default_rng(2)
    taken = [(y, x) for y in range(0, 61, 5) for x in range(0, 45, 4) if rng.random() < 0.6]
    for y, x in taken:
        image[0, y, x] = 1.0
    places, logit = search_field(marked, {"image": image})
    assert sorted((round(y), round(x)) for x, y in places[:, :2]) == taken
    assert (logit == 5.0).all()


def test_a_field_smaller_than_a_tile_is_searched_too(marked):
    image = np.zeros((3, 9, 7), np.float32)
    image[0, 8, 0] = 1.0
    places, _ = search_field(marked, {"image": image, "maskbits": np.zeros((9, 7), np.int32)})
    assert places[:, :2].tolist() == [[0.0, 8.0]]


def test_an_encoder_that_resizes_is_refused():
    config = EncoderConfig("tiny-test", cutout_size=40, crop_size=32, shape=TINY_SHAPE)
    model = DownstreamModel(create_task("detection"), create_encoder(config))
    with pytest.raises(ValueError, match="crop_size"):
        search_field(model, {"image": np.zeros((3, 40, 40), np.float32)})
