import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lvm.checkpoint import (
    CheckpointError,
    encoder_digest,
    load_encoder,
    read_digest,
    save_encoder,
    state_digest,
)
from lvm.encoder import EncoderConfig, create_encoder
from lvm.testing import TinyEncoder


def test_a_loaded_encoder_is_the_saved_one(tmp_path, batch):
    encoder = create_encoder(EncoderConfig(cutout_size=24, input_size=16), sample=batch, seed=3)
    digest = save_encoder(encoder, tmp_path / "encoder")
    loaded = load_encoder(tmp_path / "encoder")
    assert digest == encoder_digest(encoder) == encoder_digest(loaded)
    assert digest == read_digest(tmp_path / "encoder")
    assert loaded.config == encoder.config
    assert loaded.preprocess.config == encoder.preprocess.config
    with torch.inference_mode():
        inputs = loaded.prepare(batch).inputs
        assert torch.equal(loaded(inputs), encoder(encoder.prepare(batch).inputs))


def test_the_digest_depends_on_weights_and_on_preprocessing(batch):
    tiny = TinyEncoder()
    digests = {
        encoder_digest(tiny),
        encoder_digest(TinyEncoder(seed=1)),
        encoder_digest(TinyEncoder(bands=("g", "r", "i"))),
    }
    assert len(digests) == 3
    assert encoder_digest(TinyEncoder()) in digests


def test_the_digest_does_not_depend_on_the_order_of_weights():
    a, b = torch.zeros(2), torch.ones(())
    assert state_digest({}, {"a": a, "b": b}) == state_digest({}, {"b": b, "a": a})
    assert state_digest({}, {"a": a, "b": b}) != state_digest({}, {"a": b, "b": a})


def change_weights(directory, change):
    state = load_file(directory / "weights.safetensors")
    change(state)
    save_file(state, directory / "weights.safetensors")


def rename(state):
    state["trunk.layers.0.renamed"] = state.pop("trunk.patch_embed.proj.weight")


def nudge(state):
    state["trunk.patch_embed.proj.weight"] += 1e-6


@pytest.mark.parametrize("change", [rename, nudge])
def test_changed_weights_are_refused_by_their_digest(tmp_path, change):
    save_encoder(TinyEncoder(), tmp_path / "encoder")
    change_weights(tmp_path / "encoder", change)
    with pytest.raises(CheckpointError, match="digest"):
        load_encoder(tmp_path / "encoder")


def test_a_renamed_layer_is_refused_even_with_a_matching_digest(tmp_path):
    directory = tmp_path / "encoder"
    save_encoder(TinyEncoder(), directory)
    change_weights(directory, rename)
    document = json.loads((directory / "config.json").read_text())
    state = load_file(directory / "weights.safetensors")
    (directory / "digest").write_text(state_digest(document, state))
    with pytest.raises(CheckpointError, match=r"patch_embed\.proj\.weight"):
        load_encoder(directory)


def test_a_changed_configuration_is_refused(tmp_path):
    directory = tmp_path / "encoder"
    save_encoder(TinyEncoder(), directory)
    document = json.loads((directory / "config.json").read_text())
    document["preprocess"]["softening"][0] *= 2
    (directory / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="digest"):
        load_encoder(directory)


def test_an_incomplete_directory_is_refused(tmp_path):
    directory = tmp_path / "encoder"
    save_encoder(TinyEncoder(), directory)
    (directory / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_encoder(directory)
    with pytest.raises(CheckpointError, match="no saved model"):
        read_digest(tmp_path / "nothing")


def test_saving_twice_changes_nothing_and_another_model_is_not_overwritten(tmp_path):
    directory = tmp_path / "encoder"
    first = save_encoder(TinyEncoder(), directory)
    assert save_encoder(TinyEncoder(), directory) == first
    with pytest.raises(CheckpointError, match="another model"):
        save_encoder(TinyEncoder(seed=1), directory)
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]


def test_the_kind_is_checked(tmp_path):
    from lvm.downstream import DownstreamModel

    save_encoder(TinyEncoder(), tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="'downstream'"):
        DownstreamModel.load(tmp_path / "encoder")
