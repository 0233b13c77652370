"""The digest of a survey sees content only."""

import pytest

from storage.brick_store import BrickRecord, record_bricks
from storage.repository import open_repository, read_session, transaction
from storage.schema import BrickState
from storage.survey_digest import content_digest_of

SURVEY = "dr10/south"


@pytest.fixture
def digest_of(tmp_path, ingest):
    def build(name, *steps):
        repository = open_repository(tmp_path / name, create=True)
        for step in steps:
            if isinstance(step, dict):
                ingest(repository, step)
            else:
                with transaction(repository, "record") as session:
                    record_bricks(session, SURVEY, [step])
        return content_digest_of(read_session(repository), SURVEY)

    return build


def test_order_rows_and_detours_do_not_count(digest_of, make_block):
    a, b = make_block(70, brickid=1), make_block(3, brickid=2)
    at_once = digest_of("one", {"a": a, "b": b})
    gone = BrickRecord("c", 3, BrickState.WITHDRAWN)
    detour = ({"a": make_block(2), "c": make_block(1)}, {"b": b, "a": a}, gone)
    assert digest_of("two", *detour) == at_once


def test_any_difference_of_content_counts(digest_of, make_block):
    block = make_block(3)
    digests = [digest_of("one", {"a": block}), digest_of("two", {"b": block})]
    for name in ("image", "ra"):
        other = block.copy(deep=True)
        other[name].values.flat[-1] += 1
        digests.append(digest_of(f"other-{name}", {"a": other}))
    empty = BrickRecord("z", 9, BrickState.EMPTY)
    digests.append(digest_of("three", {"a": block}, empty))
    assert len(set(digests)) == len(digests)
