"""Objects, classes and numbers of two catalogues, counted against a table that is small enough."""

import numpy as np
import pandas as pd
import pytest

from tasks import release_diff
from tasks.references import ModelRef
from tasks.release_diff import ReleaseLimits, Side, compare_sides
from tasks.release_page import html_diff, markdown_diff, verdict

MODEL = ModelRef(downstream="morphology", version="1", run_id="r", digest="d" * 64)
OTHER = MODEL.model_copy(update={"version": "2", "digest": "e" * 64})
LOOSE = ReleaseLimits(class_shift=0.9, removed=0.9, flipped=0.9, drift=99)


def brick(name: str, count: int, spirals: int, first: int = 0) -> pd.DataFrame:
    answers = np.where(np.arange(count) < spirals, "spiral", "elliptical")
    return pd.DataFrame(
        {
            "brickname": name,
            "release": np.int32(10000),
            "brickid": np.int32(int(name[1:])),
            "objid": np.arange(first, first + count),
            "ra": 0.0,
            "answer": answers.astype(object),
            "p_spiral": np.where(answers == "spiral", 0.9, 0.1).astype(np.float32),
        }
    )


def side(name: str, bricks: dict[str, tuple[str, pd.DataFrame]], model: ModelRef = MODEL) -> Side:
    table = pd.DataFrame(
        {
            "version": [version for version, _ in bricks.values()],
            "n_objects": [len(rows) for _, rows in bricks.values()],
        },
        index=pd.Index(list(bricks), name="brickname"),
    )

    def rows(names, columns):
        return pd.concat([bricks[one][1] for one in names], ignore_index=True)[list(columns)]

    return Side(name, model, table, tuple(next(iter(bricks.values()))[1].columns), rows)


@pytest.fixture(params=[1, 256])
def blocks(request, monkeypatch):
    monkeypatch.setattr(release_diff, "BLOCK_BRICKS", request.param)


def test_every_object_is_counted_once(blocks):
    before = side(
        "A",
        {
            "b1": ("v", brick("b1", 10, 5)),
            "b2": ("v", brick("b2", 8, 2)),
            "b3": ("v", brick("b3", 4, 4)),
        },
    )
    after = side(
        "B",
        {
            "b1": ("v", brick("b1", 10, 5)),
            # ids 2 to 9 instead of 0 to 7, of which 4 are spirals: 2 to 5
            "b2": ("w", brick("b2", 8, 4, first=2)),
            "b4": ("v", brick("b4", 3, 0)),
        },
    )
    found = compare_sides(before, after, LOOSE)
    assert found.bricks == {"same": 1, "changed": 1, "added": 1, "removed": 1}
    assert found.objects == {
        "added": 2 + 3,
        "removed": 2 + 4,
        "changed": 6,
        "unchanged": 10,
        "flipped": 4,  # 2 to 5 were ellipticals
    }
    [elliptical, spiral] = found.classes
    assert (spiral.before, spiral.after) == (11 / 22, 9 / 21)
    assert elliptical.shift == pytest.approx(-spiral.shift)
    assert spiral.low < spiral.shift < spiral.high
    assert found.broken == ()
    assert found.same_model


def test_another_model_changes_every_row(blocks):
    rows = {"b1": ("v", brick("b1", 10, 5))}
    found = compare_sides(side("A", rows), side("B", rows, OTHER), LOOSE)
    assert (found.objects["changed"], found.objects["unchanged"]) == (10, 0)
    assert found.objects["flipped"] == 0
    assert not found.same_model


def test_each_limit_tells(blocks):
    before = side("A", {"b1": ("v", brick("b1", 400, 200)), "b2": ("v", brick("b2", 9, 5))})
    after = side("B", {"b1": ("w", brick("b1", 400, 320))})
    found = compare_sides(before, after, ReleaseLimits())
    text = "; ".join(found.broken)
    assert "2.20% of the objects are gone (limit 1.00%)" in text
    assert "30.00% of the objects have another answer" in text
    assert "the share of spiral went from 0.501 to 0.800" in text
    assert "p_spiral drifted by" in text
    assert len(found.broken) == 5  # the share of ellipticals too


def test_the_same_catalogue_twice_passes_no_limit(blocks):
    rows = {"b1": ("v", brick("b1", 400, 200))}
    found = compare_sides(side("A", rows), side("B", rows), ReleaseLimits())
    assert found.broken == ()
    assert verdict(found) == "0 added, 0 changed, 0 removed; no limit is passed."


def test_a_shift_that_chance_may_give_is_let_pass():
    before = side("A", {"b1": ("v", brick("b1", 20, 10))})
    after = side("B", {"b2": ("v", brick("b2", 20, 13))})
    limits = LOOSE.model_copy(update={"class_shift": 0.05, "removed": 1.0})
    assert compare_sides(before, after, limits).broken == ()


def test_the_page_shows_all_and_escapes(blocks):
    evil = brick("b1", 30, 10).replace({"answer": {"spiral": "<script>alert(1)</script>"}})
    before = side("A", {"b1": ("v", brick("b1", 30, 10))})
    found = compare_sides(before, side("B", {"b1": ("w", evil)}), ReleaseLimits())
    page, text = html_diff(found), markdown_diff(found)
    assert "<script>" not in page
    assert "HELD" in page
    assert "| spiral |" in text
    assert page.count("<rect") == 2 * len(found.classes)
