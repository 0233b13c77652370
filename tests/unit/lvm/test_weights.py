import pytest
import torch

from lvm.checkpoint import load_encoder, read_digest
from lvm.weights import SHIPPED, shipped_weights

MEBIBYTE = 2**20


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_load_strictly_and_are_small(name):
    folder = shipped_weights(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20 * MEBIBYTE
    encoder = load_encoder(folder)  # checks kind, digest and every weight
    assert len(read_digest(folder)) == 64
    assert encoder.config.bands == ("g", "r", "z")
    with torch.inference_mode():
        batch = {"image": torch.zeros(2, 3, 152, 152), "invvar": torch.ones(2, 3, 152, 152)}
        found = encoder.features(encoder.prepare(batch).inputs)
    assert found.shape == (2, encoder.spec.width)
    assert torch.isfinite(found).all()


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="nano-synthetic"):
        shipped_weights("huge")
