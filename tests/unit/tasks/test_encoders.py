"""Which encoder is meant: by name, folder or digest, and when nothing is said."""

import os

import pytest

from lvm.weights import shipped_weights
from tasks.encoders import NoEncoder, find_encoder
from tasks.settings import Settings

SHIPPED = (shipped_weights("nano-synthetic") / "digest").read_text().strip()
FIRST, SECOND = "ab" * 32, "ac" * 32


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def save(settings, digest, second):
    folder = settings.encoder_path / digest[:16]
    folder.mkdir(parents=True)
    (folder / "digest").write_text(f"{digest}\n")
    os.utime(folder / "digest", (second, second))


def test_a_new_home_has_the_shipped_one_and_then_its_own_newest(settings):
    assert find_encoder(settings).digest == SHIPPED
    save(settings, SECOND, 200)
    save(settings, FIRST, 100)
    assert find_encoder(settings).digest == SECOND


@pytest.mark.parametrize("name", ["nano-synthetic", SHIPPED, SHIPPED[:16], SHIPPED[:8]])
def test_the_shipped_one_is_known_by_name_and_by_digest(settings, name):
    save(settings, FIRST, 100)
    assert find_encoder(settings, name).digest == SHIPPED


@pytest.mark.parametrize("digits", [3, 16, 64])
def test_an_own_one_is_known_by_its_first_digits(settings, digits):
    save(settings, FIRST, 100)
    save(settings, SECOND, 200)
    assert find_encoder(settings, FIRST[:digits]).digest == FIRST


def test_what_fits_two_or_none_is_refused(settings):
    save(settings, FIRST, 100)
    save(settings, SECOND, 200)
    with pytest.raises(NoEncoder, match="fits 2 encoders"):
        find_encoder(settings, "a")
    with pytest.raises(NoEncoder, match="no encoder 'nobody'.*nano-synthetic"):
        find_encoder(settings, "nobody")
