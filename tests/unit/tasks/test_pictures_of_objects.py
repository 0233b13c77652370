"""Pictures of objects: what is where in them, what is kept, what is refused."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_survey import BANDS, SURVEY, write_small_survey

from storage.errors import StorageError
from storage.maskbits import MaskBit
from tasks import pictures
from tasks.pictures import MASK_COLOURS, BadView, PictureMaker, View, draw
from tasks.settings import Settings

SIZE = 24


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = Settings(home=tmp_path_factory.mktemp("pictures"))
    write_small_survey(Path(made.store_path), {"b1": 4})
    return made


@pytest.fixture
def cutout():
    image = np.zeros((3, SIZE, SIZE), np.float32)
    image[:, SIZE // 2, SIZE // 2] = 1.0
    return {
        "image": image,
        "invvar": np.ones((3, SIZE, SIZE), np.float32),
        "maskbits": np.zeros((SIZE, SIZE), np.int32),
    }


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def test_north_is_up(cutout):
    cutout["image"][:, SIZE - 1, 0] = 5.0  # the last row of a FITS image is the northern one
    seen = pixels(draw(cutout, BANDS, View(size=SIZE)))
    assert seen[0, 0].sum() > 300
    assert seen[-1, 0].sum() < 100


def test_stretch_makes_faint_things_visible(cutout):
    cutout["image"] *= 0.01
    seen = [pixels(draw(cutout, BANDS, View(stretch=s, size=SIZE))).max() for s in (-2, 0, 4)]
    assert seen == sorted(seen)
    assert seen[2] > 2 * seen[0]


def test_zoom_shows_the_middle(cutout):
    cutout["image"][:, 0, 0] = 5.0
    seen = pixels(draw(cutout, BANDS, View(zoom=2, size=SIZE)))
    assert seen[-1, 0].sum() < 100
    assert seen[SIZE // 2 - 3 : SIZE // 2 + 3, SIZE // 2 - 3 : SIZE // 2 + 3].max() > 150


def test_a_single_band_is_grey(cutout):
    cutout["image"][0] = 0
    green, red = (pixels(draw(cutout, BANDS, View(layer=b, size=SIZE))) for b in ("g", "r"))
    assert green.max() < red.max()
    assert (red[..., 0] == red[..., 2]).all()


def test_masked_pixels_are_tinted_and_those_without_data_red(cutout):
    cutout["maskbits"][2, 3] = int(MaskBit.SATUR_R)
    cutout["invvar"][:, 2, 3] = 0
    row = SIZE - 1 - 2
    masked = pixels(draw(cutout, BANDS, View(layer="mask", size=SIZE)))
    assert masked[row, 3, 0] > masked[row, 4, 0] + 100
    weight = pixels(draw(cutout, BANDS, View(layer="weight", size=SIZE)))
    assert tuple(weight[row, 3]) == MASK_COLOURS["saturated"]


def test_neighbours_are_ringed_where_they_are(settings):
    maker = PictureMaker(settings)
    view = maker.survey(SURVEY)
    found = maker.find(SURVEY, "10000-1-0")
    # 6 pixels west and 4 north; the same place; far away
    ra = np.array([0.0, 360.0 - 0.262 * 6 / 3600, 0.0, 10.0])
    dec = np.array([0.0, 0.262 * 4 / 3600, 0.0, 0.0])
    view._bricks[1] = replace(view._brick(1), ra=ra, dec=dec)
    np.testing.assert_allclose(view.neighbours(found)[0], [SIZE // 2 + 6, SIZE - 1 - 12 - 4])
    assert view.near(found) == ["10000-1-1", "10000-1-2"]


def test_a_picture_is_drawn_once(settings, monkeypatch):
    maker = PictureMaker(settings)
    first = maker.picture(SURVEY, "10000-1-1", View(size=96))
    assert Image.open(io.BytesIO(first.content)).size == (96, 96)
    monkeypatch.setattr(pictures, "draw", None)
    assert maker.picture(SURVEY, "10000-1-1", View(size=96)) is first


def test_kept_pictures_do_not_outgrow_their_memory(settings):
    maker = PictureMaker(settings, cache_bytes=20_000)
    for number in range(4):
        for stretch in range(-4, 5):
            maker.picture(SURVEY, f"10000-1-{number}", View(size=96, stretch=stretch))
    assert maker._bytes <= 20_000
    assert maker._bytes == sum(len(item.content) for item in maker._pictures.values())


def test_pictures_that_differ_have_different_tags(settings):
    maker = PictureMaker(settings)
    views = [View(), View(stretch=1), View(layer="r"), View(zoom=2), View(neighbours=True)]
    tags = {
        maker.picture(SURVEY, name, v).etag for v in views for name in ("10000-1-0", "10000-1-1")
    }
    assert len(tags) == 10


@pytest.mark.parametrize("name", ["10000-1-99", "10000-9-0", "9000-1-0"])
def test_an_object_that_is_not_there_is_told(settings, name):
    with pytest.raises(StorageError, match=r"is not in|not in dr10"):
        PictureMaker(settings).picture(SURVEY, name, View())


def test_a_survey_that_is_not_there_is_told(settings):
    with pytest.raises(StorageError, match="not in the store"):
        PictureMaker(settings).picture("dr10/../..", "10000-1-0", View())


@pytest.mark.parametrize(
    "query", [{"size": "99"}, {"zoom": "3"}, {"stretch": "5"}, {"layer": "rgb2"}, {"size": "x"}]
)
def test_a_view_that_is_not_offered_is_refused(query):
    with pytest.raises(BadView):
        View.parse(query)


def test_a_band_that_the_survey_does_not_have_is_refused(settings):
    with pytest.raises(BadView, match="layer 'i'"):
        PictureMaker(settings).picture(SURVEY, "10000-1-0", View(layer="i"))
