import dataclasses
import shutil

import numpy as np
import pytest
from small_survey import write_small_survey

from lvm.checkpoint import load_encoder, save_encoder
from lvm.encoder import EncoderConfig, create_encoder
from lvm.objectives import ObjectiveConfig
from lvm.simmim import SimMIMConfig
from lvm.testing import TINY_SHAPE
from lvm.training import TrainConfig
from tasks import pretraining, probing, tracking
from tasks.encoders import NoEncoder, find_encoder
from tasks.pretraining import PretrainConfig, UnfitEncoder, pretrain_on_snapshot
from tasks.probing import EncoderProbe, find_probe
from tasks.settings import Settings

TINY = EncoderConfig("tiny-test", shape=TINY_SHAPE)
CONFIG = PretrainConfig(
    encoder=TINY,
    objective=ObjectiveConfig(("masked", "measures"), painting=SimMIMConfig(mask_patch=4)),
    train=TrainConfig(epochs=3, learning_rate=3e-3),
    batch_size=16,
)


@pytest.fixture
def tracking_home(empty_tracking, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(empty_tracking, home)
    return Settings(home=home)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return write_small_survey(tmp_path_factory.mktemp("store"), {"b1": 30, "b2": 12})


def run_of(settings: Settings, digest):
    return tracking.find_runs(settings, "pretrain", {"encoder_digest": digest})[0]


def test_an_encoder_is_trained_tracked_and_saved(tracking_home, snapshot):
    found = pretrain_on_snapshot.fn(tracking_home, snapshot, CONFIG)
    assert find_encoder(tracking_home) == found
    assert load_encoder(found.path).config.bands == ("g", "r", "z")
    run = run_of(tracking_home, found.digest)
    assert {"loss", "loss_masked", "share_measures", "images_per_second"} <= set(run.metrics)
    assert run.metrics["images_per_second"] > 0
    pictures = tracking_home.artifact_path.rglob("pictures/masked.png")
    assert next(pictures).stat().st_size > 1000
    assert not list((tracking_home.home / "pretraining").iterdir())


def test_a_training_that_was_killed_is_taken_up_again(tracking_home, snapshot, monkeypatch):
    whole = pretrain_on_snapshot.fn(tracking_home, snapshot, CONFIG)
    original = pretraining.epoch_logger

    def dying(run, what, epochs):
        tell = original(run, what, epochs)

        def die(event):
            tell(event)
            if event.kind == "step" and event.epoch == 2:
                raise KeyboardInterrupt

        return die

    monkeypatch.setattr(pretraining, "epoch_logger", dying)
    with pytest.raises(KeyboardInterrupt):
        pretrain_on_snapshot.fn(tracking_home, snapshot, CONFIG)
    assert len(list((tracking_home.home / "pretraining").iterdir())) == 1
    epochs = []

    def listening(run, what, total):
        return lambda event: epochs.append(event.epoch) if event.kind == "epoch" else None

    monkeypatch.setattr(pretraining, "epoch_logger", listening)
    again = pretrain_on_snapshot.fn(tracking_home, snapshot, CONFIG)
    assert epochs == [3]
    assert again.digest == whole.digest


def test_training_goes_on_from_an_encoder_and_keeps_its_preprocessing(tracking_home, snapshot):
    first = create_encoder(dataclasses.replace(TINY, cutout_size=24), seed=5)
    digest = save_encoder(first, tracking_home.encoder_path / "first")
    config = dataclasses.replace(CONFIG, start=str(tracking_home.encoder_path / "first"))
    found = pretrain_on_snapshot.fn(tracking_home, snapshot, config)
    assert found.digest != digest
    assert load_encoder(found.path).preprocess.config == first.preprocess.config


def test_an_encoder_of_other_bands_is_refused(tracking_home, snapshot):
    other = create_encoder(dataclasses.replace(TINY, bands=("g", "r", "i", "z"), cutout_size=24))
    save_encoder(other, tracking_home.encoder_path / "other")
    config = dataclasses.replace(CONFIG, start=str(tracking_home.encoder_path / "other"))
    with pytest.raises(UnfitEncoder, match="'i'"):
        pretrain_on_snapshot.fn(tracking_home, snapshot, config)


def test_an_unknown_encoder_is_refused_with_the_shipped_ones(tracking_home):
    with pytest.raises(NoEncoder, match="nano-synthetic"):
        find_encoder(tracking_home, "nobody")


def test_a_probe_embeds_the_labelled_rows_alone(snapshot):
    rows = np.arange(20, dtype=np.int64)
    classes = rows % 2
    encoder = create_encoder(dataclasses.replace(TINY, cutout_size=24))
    scores = EncoderProbe(snapshot, rows, classes, rows < 12).scores(encoder, "cpu", 8)
    assert all(0.0 <= value <= 1.0 for value in scores.named().values())


def test_probes_are_tracked_from_before_the_first_epoch(tracking_home, snapshot, monkeypatch):
    rows = np.arange(20, dtype=np.int64)
    made = EncoderProbe(snapshot, rows, rows % 2, rows < 12)
    monkeypatch.setattr(pretraining, "find_probe", lambda *_: made)
    looks = []
    monkeypatch.setattr(
        EncoderProbe,
        "scores",
        lambda self, *_, real=EncoderProbe.scores: looks.append(1) or real(self, *_),
    )
    config = dataclasses.replace(CONFIG, probe_every=2)
    found = pretrain_on_snapshot.fn(tracking_home, snapshot, config)
    assert len(looks) == 3  # before, after epoch 2, after the last
    assert "probe_linear_auc" in run_of(tracking_home, found.digest).metrics


def test_without_labels_there_is_no_probe(tracking_home, snapshot):
    assert find_probe(tracking_home, snapshot, 0) is None
    assert probing.PROBED > 100
