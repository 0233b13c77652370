import numpy as np
import pytest
import torch

from lvm.downstream import DownstreamModel, DownstreamTask, Metric, create_task
from lvm.downstream.morphology import MorphologyConfig
from lvm.inference import answered, embed, evaluate, predict
from lvm.testing import galaxies

TASK = create_task("morphology", {"classes": ["round", "edge-on"]})


def split(batch, size):
    count = len(batch["rows"])
    return [
        {name: value[start : start + size] for name, value in batch.items()}
        for start in range(0, count, size)
    ]


def test_count_in_is_count_out_with_a_short_last_batch(tiny_encoder, batch):
    parts = list(embed(tiny_encoder, split(batch, 5)))
    assert [len(rows) for rows, _ in parts] == [5, 5, 2]
    assert np.concatenate([rows for rows, _ in parts]).tolist() == list(range(12))
    assert all(values.dtype == np.float32 for _, values in parts)


def test_embeddings_do_not_depend_on_the_batch_size(tiny_encoder, batch):
    whole = np.concatenate([v for _, v in embed(tiny_encoder, [batch])])
    single = np.concatenate([v for _, v in embed(tiny_encoder, split(batch, 1))])
    assert np.allclose(whole, single, atol=1e-5)
    assert whole.std(axis=0).min() > 0


def test_rows_are_passed_through_and_counted_where_absent(tiny_encoder, batch):
    named = [{**part, "rows": part["rows"] * 10} for part in split(batch, 5)]
    assert np.concatenate([r for r, _ in embed(tiny_encoder, named)]).tolist() == list(
        range(0, 120, 10)
    )
    unnamed = [{k: v for k, v in part.items() if k != "rows"} for part in split(batch, 5)]
    assert np.concatenate([r for r, _ in embed(tiny_encoder, unnamed)]).tolist() == list(range(12))


def test_bfloat16_is_close_and_still_given_as_float32(tiny_encoder, batch):
    [(_, exact)] = embed(tiny_encoder, [batch])
    [(_, rough)] = embed(tiny_encoder, [batch], precision="bfloat16")
    assert rough.dtype == np.float32
    assert np.abs(exact - rough).max() < 0.1
    with pytest.raises(ValueError, match="precision"):
        list(embed(tiny_encoder, [batch], precision="int8"))


def test_nan_in_a_cutout_spoils_no_embedding(tiny_encoder, batch):
    batch["image"][0] = np.nan
    [(_, values)] = embed(tiny_encoder, [batch])
    assert np.isfinite(values).all()


def test_predictions_come_with_their_rows_and_columns(tiny_encoder, batch):
    model = DownstreamModel(TASK, tiny_encoder)
    parts = list(predict(model, split(batch, 5)))
    assert sum(len(rows) for rows, _ in parts) == 12
    columns = parts[0][1]
    assert {"p_round", "p_edge_on", "answer"} <= set(columns)
    assert np.allclose(columns["p_round"] + columns["p_edge_on"], 1.0, atol=1e-5)


def test_cached_embeddings_give_the_same_predictions_as_cutouts(tiny_encoder, batch):
    model = DownstreamModel(TASK, tiny_encoder)
    cached = [{"rows": rows, "embedding": values} for rows, values in embed(tiny_encoder, [batch])]
    [(_, from_cutouts)] = predict(model, [batch])
    [(_, from_cache)] = predict(model, cached)
    assert np.allclose(from_cutouts["p_round"], from_cache["p_round"], atol=1e-6)


def test_a_tuned_encoder_refuses_cached_embeddings(tiny_encoder, batch):
    model = DownstreamModel(TASK, tiny_encoder, "full")
    cached = [{"embedding": values} for _, values in embed(tiny_encoder, [batch])]
    with pytest.raises(ValueError, match="needs cutouts"):
        list(predict(model, cached))


def test_an_evaluation_has_metrics_within_their_intervals(tiny_encoder):
    batch = galaxies(60, np.random.default_rng(5))
    model = DownstreamModel(TASK, tiny_encoder)
    result = evaluate(model, split(batch, 16), np.random.default_rng(0), draws=50)
    low, high = result.intervals["accuracy"]
    assert low <= result.metrics["accuracy"] <= high
    assert low < high
    assert torch.equal(result.labels["target"], torch.from_numpy(batch["target"]))
    assert len(result.rows) == len(result.output) == 60


class Brightness(DownstreamTask):
    """An answer that is an image: how bright each is, whatever the truth."""

    name = "brightness"
    headline = Metric("mean")
    needs = ()
    uses = "maps"
    slow_metrics = True

    def head(self, features):
        return torch.nn.Identity()

    def metrics(self, output, batch):
        return {"mean": float(batch["value"].mean()), "undefined": float("nan")}


def test_intervals_of_images_come_from_groups_and_cover(tiny_encoder, monkeypatch):
    asked = DownstreamModel(Brightness(), tiny_encoder)
    monkeypatch.setattr(asked, "forward", lambda batch: batch["value"])
    covered = 0
    for seed in range(40):
        values = np.random.default_rng(seed).normal(size=64).astype(np.float32)
        batch = galaxies(2, np.random.default_rng(0))
        batches = [
            {**batch, "rows": np.arange(2) + i, "value": values[i : i + 2]} for i in range(0, 64, 2)
        ]
        found = evaluate(asked, batches, np.random.default_rng(seed))
        low, high = found.intervals["mean"]
        covered += low <= 0.0 <= high
        assert low < found.metrics["mean"] < high
    assert 33 <= covered <= 40
    assert np.isnan(found.intervals["undefined"]).all()


def test_quick_measures_are_resampled_whatever_the_head_takes(tiny_encoder, monkeypatch):
    class Median(Brightness):
        slow_metrics = False

        def metrics(self, output, batch):
            return {"mean": float(batch["value"].median())}

    asked = DownstreamModel(Median(), tiny_encoder)
    monkeypatch.setattr(asked, "forward", lambda batch: batch["value"])
    batch = galaxies(9, np.random.default_rng(0))
    values = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1e6], np.float32)
    found = evaluate(asked, [{**batch, "value": values}], np.random.default_rng(0))
    # Groups of objects would put the outlier's mean into the interval of the median.
    assert found.intervals["mean"] == (0.0, 0.0)


def test_the_same_question_is_put_whenever_a_model_is_asked(tiny_encoder, batch):
    class Noisy(type(TASK)):
        def pose(self, tensors, generator):
            noise = torch.randn(tensors["image"].shape, generator=generator)
            return {**tensors, "image": tensors["image"] + noise, "seen": noise[:, 0, 0, 0]}

    model = DownstreamModel(Noisy(TASK.config), tiny_encoder)
    first, again = (answered(model, split(batch, 5)) for _ in range(2))
    assert torch.equal(first.output, again.output)
    assert torch.equal(first.labels["seen"], again.labels["seen"])
    assert "image" not in first.labels
    first.output.requires_grad_(True)  # a calibration may be fitted to it


def test_an_empty_split_is_refused(tiny_encoder):
    model = DownstreamModel(TASK, tiny_encoder)
    with pytest.raises(ValueError, match="empty"):
        evaluate(model, [], np.random.default_rng(0))


def test_options_of_the_task_reach_it():
    assert TASK.config == MorphologyConfig(classes=("round", "edge-on"))
