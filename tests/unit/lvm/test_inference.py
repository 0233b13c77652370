import numpy as np
import pytest
import torch

from lvm.downstream import DownstreamModel, create_task
from lvm.downstream.morphology import MorphologyConfig
from lvm.inference import embed, evaluate, predict
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
    assert set(columns) == {"p_round", "p_edge_on", "answer"}
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


def test_an_empty_split_is_refused(tiny_encoder):
    model = DownstreamModel(TASK, tiny_encoder)
    with pytest.raises(ValueError, match="empty"):
        evaluate(model, [], np.random.default_rng(0))


def test_options_of_the_task_reach_it():
    assert TASK.config == MorphologyConfig(classes=("round", "edge-on"))
