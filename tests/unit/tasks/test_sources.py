import pytest

from storage.brick import IngestConfig
from storage.errors import BrickNotFound
from storage.image_folder import ImageFolderConfig
from tasks.brick_sources import BrickSource
from tasks.bricks import partitions
from tasks.image_source import ImageSource


def test_bricks_are_taken_once_and_in_order(tmp_path):
    source = BrickSource(str(tmp_path), "south", IngestConfig())
    assert source.list_units(["b", "a", "b"]).names == ("b", "a")


def test_a_folder_without_bricks_is_an_error_that_says_what_to_give(tmp_path):
    source = BrickSource(str(tmp_path), "south", IngestConfig())
    with pytest.raises(BrickNotFound, match="coadd/"):
        source.list_units(None)


def test_labels_do_not_change_what_the_pixels_of_pictures_are():
    plain = ImageSource("f", "n", None, ImageFolderConfig())
    labelled = ImageSource("f", "n", "l.csv", ImageFolderConfig(label_column="class"))
    larger = ImageSource("f", "n", None, ImageFolderConfig(size=200))
    assert plain.config_digest() == labelled.config_digest() != larger.config_digest()


def test_partitions_lose_no_unit():
    names = tuple(f"b{i}" for i in range(10))
    parts = list(partitions(names, 4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sum(parts, ()) == names
