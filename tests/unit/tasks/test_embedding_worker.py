import numpy as np
import pandas as pd
import pytest

from tasks import embedding
from tasks.embedding import Calls, calls_of
from tasks.embedding_worker import Embedded, by_brick

WIDTH = 4


def objects(counts):
    """Return objects whose rows have the gaps that padded bricks leave."""
    rows = [start + np.arange(count) for start, count in zip((0, 64, 192), counts, strict=True)]
    names = np.repeat(["a", "b", "c"], counts)
    return pd.DataFrame({"row": np.concatenate(rows), "brickname": names})


def stream(table, size):
    for start in range(0, len(table), size):
        rows = table["row"].to_numpy()[start : start + size]
        yield rows, np.repeat(rows[:, None], WIDTH, axis=1).astype(np.float32)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_every_brick_gets_the_vectors_of_its_rows_whatever_the_batches(size):
    table = objects((3, 10, 2))
    found = list(by_brick(table, stream(table, size)))
    assert [name for name, _, _ in found] == ["a", "b", "c"]
    for name, ids, vectors in found:
        assert set(ids["brickname"]) == {name}
        assert vectors[:, 0].tolist() == ids["row"].tolist()


def test_a_brick_is_given_as_soon_as_it_is_complete():
    table = objects((3, 10, 2))
    taken = []

    def watched():
        for rows, vectors in stream(table, 4):
            taken.append(len(rows))
            yield rows, vectors

    next(by_brick(table, watched()))
    assert taken == [4]


def test_rows_that_are_missing_or_of_others_are_noticed():
    table = objects((3, 10, 2))
    with pytest.raises(RuntimeError, match="15 objects went in, 12 embeddings came out"):
        list(by_brick(table, list(stream(table, 4))[:3].__iter__()))
    with pytest.raises(RuntimeError, match="were due"):
        list(by_brick(table, stream(table.iloc[::-1], 4)))


def test_no_objects_are_no_bricks():
    assert list(by_brick(objects((0, 0, 0)), iter(()))) == []


def ledger(counts):
    starts = np.cumsum([0, *counts[:-1]])
    names = [f"b{number}" for number in range(len(counts))]
    return pd.DataFrame({"row_start": starts, "n_objects": counts}, index=names).iloc[::-1]


def test_calls_hold_neighbouring_bricks_up_to_so_many_objects(monkeypatch):
    monkeypatch.setattr(embedding, "CALL_OBJECTS", 100)
    calls = list(calls_of(ledger([40, 50, 20, 300, 10, 90, *[100] * 9]), workers=1))
    assert calls[:5] == [("b0", "b1"), ("b2",), ("b3",), ("b4", "b5"), ("b6",)]


def test_the_last_calls_are_the_smallest(monkeypatch):
    monkeypatch.setattr(embedding, "CALL_OBJECTS", 10**6)
    sizes = [len(call) for call in calls_of(ledger([10] * 32), workers=2)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 32 // 4
    assert sizes[-3:] == [1, 1, 1]
    assert list(calls_of(ledger([3, 2]), workers=0)) == [("b0",), ("b1",)]


def test_every_brick_is_in_one_call_and_only_one():
    counts = np.random.default_rng(0).integers(1, 900, 300).tolist()
    calls = list(calls_of(ledger(counts), workers=3))
    assert [name for call in calls for name in call] == [f"b{n}" for n in range(300)]


@pytest.fixture
def calls(monkeypatch):
    """Return calls whose workers fail whenever the brick b2 is among theirs."""
    asked = []

    def answer(client, function, units):
        for index, (session, _request, bricks) in enumerate(units):
            asked.append(tuple(bricks))
            failed = RuntimeError("bad shard")
            answered = Embedded(session, 10 * len(bricks), "cpu", "float32")
            yield index, (failed if "b2" in bricks else answered)

    monkeypatch.setattr(embedding, "run_units", answer)
    monkeypatch.setattr(embedding, "fork", lambda session: session)
    table = ledger([10, 10, 10, 10]).assign(rows=64)
    return Calls(None, "session", None, table), asked


def test_bricks_that_shared_a_failed_call_are_told_apart(calls):
    made, asked = calls
    made.run([("b0", "b1"), ("b2", "b3")])
    assert (sorted(made.done), sorted(made.failed)) == (["b0", "b1"], ["b2", "b3"])
    made.run([(name,) for name in made.undecided])
    assert asked[2:] == [("b2",), ("b3",)]
    assert (sorted(made.done), list(made.failed)) == (["b0", "b1", "b3"], ["b2"])
    assert made.made_on == {"cpu float32": 30}


def test_a_brick_that_failed_alone_is_not_tried_again(calls):
    made, _ = calls
    made.run([("b2",), ("b0", "b1", "b3")])
    assert made.undecided == []
    assert list(made.failed) == ["b2"]
