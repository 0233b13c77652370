import pytest
import torch

from lvm.augment import AugmentConfig
from lvm.checkpoint import CheckpointError, encoder_digest
from lvm.downstream import DownstreamModel, create_task
from lvm.tensors import to_tensors
from lvm.testing import TinyEncoder

OPTIONS = {"classes": ["round", "edge-on"], "hidden": 6}


def test_a_loaded_model_is_the_saved_one_with_its_options(tmp_path, batch):
    model = DownstreamModel(create_task("morphology", OPTIONS), TinyEncoder(), seed=4).eval()
    digest = model.save(tmp_path / "model")
    loaded = DownstreamModel.load(tmp_path / "model")
    assert loaded.task.config == model.task.config
    assert loaded.mode == "head"
    assert loaded.encoder_digest == encoder_digest(TinyEncoder())
    assert loaded.save(tmp_path / "again") == digest
    tensors = to_tensors(batch)
    with torch.no_grad():
        assert torch.equal(loaded(tensors), model(tensors))


def test_the_digest_of_the_first_encoder_survives_full_tuning(tmp_path):
    model = DownstreamModel(create_task("morphology"), TinyEncoder(), "full")
    with torch.no_grad():
        model.encoder.trunk.patch_embed.proj.weight += 1.0
    model.save(tmp_path / "model")
    loaded = DownstreamModel.load(tmp_path / "model")
    assert loaded.encoder_digest == encoder_digest(TinyEncoder())
    assert encoder_digest(loaded.encoder) != loaded.encoder_digest
    assert loaded.mode == "full"


def test_another_model_is_not_overwritten(tmp_path):
    task = create_task("morphology")
    DownstreamModel(task, TinyEncoder(), seed=0).save(tmp_path / "model")
    with pytest.raises(CheckpointError, match="another model"):
        DownstreamModel(task, TinyEncoder(), seed=1).save(tmp_path / "model")


def test_a_frozen_encoder_stays_in_evaluation_mode_while_the_head_trains():
    model = DownstreamModel(create_task("morphology"), TinyEncoder(), "head").train()
    assert model.head.training
    assert not model.encoder.training
    model.set_mode("full")
    assert model.train().encoder.training


def test_the_head_is_a_function_of_the_seed():
    task = create_task("morphology", OPTIONS)
    heads = [DownstreamModel(task, TinyEncoder(), seed=s).head[1].weight for s in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_augmentations_that_change_the_label_are_left_out():
    task = create_task("morphology")
    type(task).keeps_label, before = ("flip",), type(task).keeps_label
    try:
        model = DownstreamModel(task, TinyEncoder(), augment=AugmentConfig(noise=1.0))
    finally:
        type(task).keeps_label = before
    assert model.augment == AugmentConfig(flip=True, rotate=False)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="half"):
        DownstreamModel(create_task("morphology"), TinyEncoder(), "half")
