import numpy as np
import pytest

from storage.errors import SchemaMismatch
from storage.rgb import legacy_rgb


def test_values_of_dr2_rgb() -> None:
    flux = {"g": 0.05, "r": 0.1, "z": 0.2}
    image = np.array(list(flux.values()), np.float32).reshape(3, 1, 1)
    scaled = np.array([6.0 * 0.05, 3.4 * 0.1, 2.2 * 0.2]) + 0.03
    mean = scaled.mean()
    expected = scaled * np.arcsinh(20 * mean) / np.sqrt(20) / mean * 255
    assert legacy_rgb(image, ("g", "r", "z"))[0, 0].tolist() == [round(v) for v in expected[::-1]]


def test_four_bands_mix_as_in_dr10() -> None:
    image = np.zeros((4, 1, 2), np.float32)
    image[1, 0, 1] = 5.0  # r only
    picture = legacy_rgb(image, ("g", "r", "i", "z"))[0]
    red, green, blue = (int(value) for value in picture[1])
    assert green > blue > red
    assert picture[0].tolist() == [legacy_rgb(image, ("g", "r", "i", "z"))[0, 0, 0]] * 3


@pytest.mark.parametrize("bands", [("g", "r", "z"), ("z", "g", "r")])
def test_order_of_bands_does_not_matter(bands: tuple[str, ...]) -> None:
    image = {"g": 0.0, "r": 0.0, "z": 1.0}
    cube = np.array([image[band] for band in bands], np.float32).reshape(3, 1, 1)
    red, green, blue = (int(value) for value in legacy_rgb(cube, bands)[0, 0])
    assert red > 200
    assert green == blue < 50


def test_north_is_up() -> None:
    image = np.zeros((3, 4, 4), np.float32)
    image[:, 3, 0] = 10.0  # last row: north
    picture = legacy_rgb(image, ("g", "r", "z"))
    assert picture.shape == (4, 4, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 0].min() > 230
    assert picture[3].max() < 60


def test_bright_saturates_and_nan_is_sky() -> None:
    image = np.full((3, 1, 2), np.nan, np.float32)
    image[:, 0, 1] = 1e6
    picture = legacy_rgb(image, ("g", "r", "z"))
    assert picture[0, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].max() < 60


def test_jpeg_intensities_pass_through() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 2, 2) * 20
    picture = legacy_rgb(image, ("r", "g", "b"))
    assert (picture == image.transpose(1, 2, 0)[::-1]).all()


@pytest.mark.parametrize("bands", [("g",), ("g", "z")])
def test_fewer_bands_give_a_picture_as_well(bands: tuple[str, ...]) -> None:
    assert legacy_rgb(np.ones((len(bands), 2, 2), np.float32), bands).shape == (2, 2, 3)


def test_bands_that_do_not_fit() -> None:
    with pytest.raises(SchemaMismatch):
        legacy_rgb(np.ones((3, 2, 2), np.float32), ("g", "r"))
    with pytest.raises(SchemaMismatch, match="no display scale"):
        legacy_rgb(np.ones((1, 2, 2), np.float32), ("W1",))
