"""The objects of the benchmark: embedded once, pictures with their classes, folds."""

import numpy as np
import pytest
from few_shot_samples import CLASSES, made_up

from lvm.testing import TinyEncoder
from storage.synthetic import MORPHOLOGY_CLASSES, SyntheticConfig
from tasks.few_shot import samples
from tasks.few_shot.config import BadBenchmark
from tasks.few_shot.pictures import FOLDS, fold_of, picture_encoder, picture_sample
from tasks.few_shot.samples import PIXELS, embedded, sky_key, sky_sample, unembedded


def plain(count=10):
    made = made_up(count, side=24)
    return unembedded(made.pixels, made.classes, made.votes)


def test_embeddings_do_not_know_turns_and_are_made_once(tmp_path):
    sample, encoder = plain(), TinyEncoder()
    first = embedded(sample, encoder, tmp_path / "found.npz")
    assert len(first.embedding) == len(first.measures) == 10
    turned = {**sample.pixels, "image": np.rot90(sample.pixels["image"], axes=(2, 3)).copy()}
    other = embedded(unembedded(turned, sample.classes, sample.votes), encoder)
    assert other.embedding == pytest.approx(first.embedding, abs=1e-4)
    again = embedded(sample, None, tmp_path / "found.npz")  # no encoder is asked
    assert again.embedding.tolist() == first.embedding.tolist()


def test_only_clean_galaxies_are_kept_and_the_sky_is_rendered_once(tmp_path, monkeypatch):
    made = made_up(12, side=24)
    votes = np.tile([30, 5, 5, 0], (12, 1))
    votes[:4] = [12, 10, 10, 8]
    classes = made.classes.copy()
    classes[-1] = -1  # a star
    calls = []

    def rendered(root, config):
        calls.append(root)
        return (*(made.pixels[name] for name in PIXELS), classes, votes)

    monkeypatch.setattr(samples, "_read_sky", rendered)
    config = SyntheticConfig(count=1)
    assert len(sky_sample(tmp_path, config, 0.7)) == 7
    assert len(sky_sample(tmp_path, config, 0.0)) == 11
    assert len(calls) == 1
    found = sky_sample(tmp_path, config, 0.7)
    assert found.votes[0] == pytest.approx([0.75, 0.125, 0.125, 0.0])
    assert found.digest == sky_sample(tmp_path, config, 0.7).digest
    assert sky_key(config) != sky_key(SyntheticConfig(count=1, seed=1))


def test_folds_share_every_class_and_take_each_object_once():
    classes = np.repeat(np.arange(CLASSES), (20, 10, 15, 7))
    fold = fold_of(classes, 3)
    assert fold.tolist() == fold_of(classes, 0).tolist()
    assert fold.tolist() != fold_of(classes, FOLDS).tolist()
    for value in range(CLASSES):
        counts = np.bincount(fold[classes == value], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1


def test_real_pictures_have_their_classes(real_data):
    sample = picture_sample(real_data / "gz2_sdss")
    counts = np.bincount(sample.classes, minlength=CLASSES)
    assert counts[:3].tolist() == [50, 50, 50]
    assert 20 <= counts[MORPHOLOGY_CLASSES.index("other")] < 50
    assert sample.votes.shape == (len(sample), CLASSES)
    few = sample.take(np.arange(8))
    fitted = picture_encoder(TinyEncoder(), few)
    inputs = fitted.prepare({n: np.asarray(v) for n, v in few.pixels.items()}).inputs
    assert 0.2 < float(inputs.std()) < 5.0


def test_pictures_that_are_not_there_are_said_to_be_missing(tmp_path):
    with pytest.raises(BadBenchmark, match="no Galaxy Zoo 2 table"):
        picture_sample(tmp_path)
