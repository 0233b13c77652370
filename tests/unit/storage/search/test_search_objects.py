import numpy as np
import pytest
from embedded_survey import SURVEY, make_survey
from measured_survey import objects_of

from storage.repository import open_repository, read_session
from storage.search.objects import ObjectNotFound, find_by_id, find_nearest, objects_at
from tasks.settings import Settings

COUNT = 5


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    bricks = make_survey(settings, 2, 1, COUNT)
    return read_session(open_repository(settings.home / "store" / "survey")), bricks


def test_an_object_is_found_by_its_identifier_and_by_its_place(survey):
    session, bricks = survey
    truth = objects_of(bricks[1], COUNT).iloc[3]
    found = find_by_id(session, SURVEY, (10000, bricks[1].brickid, 3))
    assert (found.ra, found.dec) == (truth["ra"], truth["dec"])
    assert found.object_id == f"10000-{bricks[1].brickid}-3"
    near = find_nearest(session, SURVEY, truth["ra"] + 1 / 3600, truth["dec"] - 1 / 3600, 5)
    assert near == found


def test_the_nearest_may_be_in_the_next_brick(survey):
    session, bricks = survey
    table = objects_of(bricks[0], COUNT)
    edge = table.iloc[int(table["ra"].argmax())]
    ra = bricks[1].ra1 + 1e-6  # inside the eastern brick
    radius = (ra - edge["ra"]) * 3600 + 1
    assert find_nearest(session, SURVEY, ra, edge["dec"], radius).object_id.startswith("10000-")


def test_what_is_not_there_is_not_found(survey):
    session, bricks = survey
    with pytest.raises(ObjectNotFound, match="not in dr10/south"):
        find_by_id(session, SURVEY, (10000, bricks[0].brickid, 99))
    with pytest.raises(ObjectNotFound, match="not in dr10/south"):
        find_by_id(session, SURVEY, (9010, bricks[0].brickid, 1))
    with pytest.raises(ObjectNotFound, match="not in dr10/south"):
        find_by_id(session, SURVEY, (10000, 1, 1))
    with pytest.raises(ObjectNotFound, match="arcsec away"):
        find_nearest(session, SURVEY, bricks[0].ra1, bricks[0].dec1, 1)
    with pytest.raises(ObjectNotFound, match="none"):
        find_nearest(session, SURVEY, 10.0, -40.0, 5)
    with pytest.raises(ObjectNotFound, match="give degrees"):
        find_nearest(session, SURVEY, 400.0, 0.0, 5)


def test_rows_come_in_the_order_asked_for(survey):
    session, _ = survey
    rows = np.array([3, 0, 3])
    table = objects_at(session, SURVEY, rows)
    assert table["row"].tolist() == [3, 0, 3]
    assert table["objid"].tolist() == [3, 0, 3]
    assert table["object_id"][0].endswith("-3")
