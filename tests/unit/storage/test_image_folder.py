from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage import image_folder
from storage.errors import BrickNotFound, SchemaMismatch
from storage.image_folder import (
    IMAGE_BANDS,
    IMAGE_UNIT,
    ImageFolderConfig,
    list_blocks,
    read_block,
    read_image_labels,
    survey_block,
)
from storage.schema import SurveyLayout
from storage.tractor import ObjectType
from storage.validation import validate

CONFIG = ImageFolderConfig(size=8)
LAYOUT = SurveyLayout(IMAGE_BANDS, 8, IMAGE_UNIT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    for name in ("11", "12", "13", "14", "15"):
        pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text(
        "id,ra,dec,label,sure\n11,1.0,2.0,merger,1\n12,3.0,4.0,spiral,1\n14,5.0,6.0,spiral,0\n"
    )
    return tmp_path


def test_a_block_fits_the_schema(folder: Path) -> None:
    labels = folder / "labels.csv"
    found = read_block(folder, "mine", "block-00000", labels, CONFIG)
    validate(found.dataset, LAYOUT)
    assert found.dataset["objid"].values.tolist() == [11, 12, 13, 14, 15]
    assert found.dataset["ra"].values[[0, 1, 3]].tolist() == [1.0, 3.0, 5.0]
    assert np.isnan(found.dataset["ra"].values[[2, 4]]).all()
    assert (found.dataset["type"] == ObjectType.IMAGE).all()
    assert (found.dataset["invvar"] == 1).all()
    plan = survey_block(folder, "mine", "block-00000", labels, CONFIG)
    assert (plan.status, plan.n_objects, plan.digest) == ("ready", 5, found.digest)


def test_broken_and_repeated_pictures_are_counted(folder: Path) -> None:
    (folder / "12.png").write_bytes(b"nothing")
    (folder / "copy").mkdir()
    (folder / "copy" / "13.png").write_bytes((folder / "13.png").read_bytes())
    found = read_block(folder, "mine", "block-00000", None, CONFIG)
    assert found.without_cutout == {"unreadable": (12,), "repeated_name": (13,)}
    assert found.dataset["objid"].values.tolist() == [11, 13, 14, 15]
    assert any("12.png" in note for note in found.notes)
    validate(found.dataset, LAYOUT)


def test_a_block_of_broken_pictures_is_empty(folder: Path) -> None:
    for path in folder.glob("*.png"):
        path.write_bytes(b"nothing")
    found = read_block(folder, "mine", "block-00000", None, CONFIG)
    assert found.dataset.sizes["object"] == 0
    validate(found.dataset, LAYOUT)


def test_blocks_hold_every_picture_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "BLOCK_PICTURES", 2)
    blocks = list_blocks(folder)
    assert blocks == ["block-00000", "block-00001", "block-00002"]
    labels = folder / "labels.csv"  # the last block has no row in it
    found = [read_block(folder, "mine", block, labels, CONFIG).dataset for block in blocks]
    assert [int(v) for part in found for v in part["objid"].values] == [11, 12, 13, 14, 15]


@pytest.mark.parametrize("block", ["block-00001", "1238p245"])
def test_blocks_that_are_not_there(folder: Path, block: str) -> None:
    with pytest.raises(BrickNotFound):
        read_block(folder, "mine", block, None, CONFIG)
    assert survey_block(folder, "mine", block).reason.startswith("BrickNotFound")


def test_digest_follows_pictures_and_positions_but_not_labels(folder: Path) -> None:
    labels = folder / "labels.csv"
    before = survey_block(folder, "mine", "block-00000", labels).digest
    labels.write_text(labels.read_text().replace("spiral", "edge-on"))
    assert survey_block(folder, "mine", "block-00000", labels).digest == before
    labels.write_text(labels.read_text().replace("1.0,2.0", "1.5,2.0"))
    assert survey_block(folder, "mine", "block-00000", labels).digest != before


def test_labels_are_rows_for_the_ledger(folder: Path) -> None:
    rows = read_image_labels(folder, "mine", folder / "labels.csv", CONFIG)
    assert rows["objid"].tolist() == [11, 12, 14]
    assert rows["answer"].tolist() == ["other", "spiral", "spiral"]
    assert set(rows["survey"]) == {"images/mine"}
    block = read_block(folder, "mine", "block-00000", None, CONFIG).dataset
    assert set(rows["release"]) == set(block["release"].values)
    assert set(rows["brickid"]) == set(block["brickid"].values)


def test_labels_may_be_filtered_and_renamed(folder: Path) -> None:
    config = ImageFolderConfig(size=8, where="sure == 1", rename={"merger": "odd"})
    rows = read_image_labels(folder, "mine", folder / "labels.csv", config)
    assert rows["answer"].tolist() == ["odd", "spiral"]


def test_a_table_without_labels_gives_no_rows(folder: Path) -> None:
    (folder / "labels.csv").write_text("id,ra,dec\n11,1.0,2.0\n")
    rows = read_image_labels(folder, "mine", folder / "labels.csv", CONFIG)
    assert len(rows) == 0
    assert "answer" in rows


@pytest.mark.parametrize("options", [{"size": 0}, {"central_fraction": 0.0}])
def test_rules_that_make_no_sense(options: dict) -> None:
    with pytest.raises(SchemaMismatch):
        ImageFolderConfig(**options)


def test_real_galaxy_zoo_labels(real_data: Path) -> None:
    root = real_data / "gz2_sdss"
    where = "derived_label != 'merger' or t06_odd_a14_yes_debiased > 0.5"
    rows = read_image_labels(root, "gz2", root / "labels.csv", ImageFolderConfig(where=where))
    counts = rows["answer"].value_counts().to_dict()
    assert counts == {"spiral": 50, "elliptical": 50, "edge-on": 50, "other": 27}


def test_real_pictures_with_positions(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "BLOCK_PICTURES", 20)
    root = real_data / "gz_decals"
    table = root / "predicted_fractions.csv"
    found = read_block(root, "decals", "block-00003", table, ImageFolderConfig())
    assert found.dataset.sizes["object"] == 20
    assert found.reasons == {}
    assert np.isfinite(found.dataset["ra"]).all()
    assert 0 <= float(found.dataset["image"].min()) < float(found.dataset["image"].max()) <= 255
