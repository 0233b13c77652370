"""Ingest of damaged and of real input: a receipt row says why, the rest is written all the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from flows.ingest import ingest_bricks, ingest_images
from storage.batches import read_cutouts
from storage.brick import IngestConfig
from storage.brick_store import read_objects
from storage.cutouts import CutoutConfig
from storage.errors import RepositoryBusy
from storage.legacysurvey import coadd_path
from storage.repository import writer_lock
from storage.selection import Selection
from storage.synthetic import SyntheticRelease
from tasks.cluster import SchedulerUnreachable
from tasks.references import Outcome, Receipt
from tasks.settings import Settings
from tasks.snapshots import find_snapshot, open_snapshot


@pytest.fixture
def damaged(small_release: SyntheticRelease, home: Path, tmp_path) -> Path:
    """Return a copy of the release, without checksum lists, that a test may damage."""
    root = tmp_path / "release"
    shutil.copytree(small_release.root, root)
    for path in root.rglob("*.sha256sum"):
        path.unlink()
    return root


def image_of(root: Path, small_release: SyntheticRelease, kind: str = "image") -> Path:
    return coadd_path(root / "south", small_release.bricknames[0], kind, "r")


def rewrite(path: Path, change) -> None:
    with fits.open(path) as hdus:
        data, header = hdus[1].data.copy(), hdus[1].header
    hdu = fits.CompImageHDU(change(data), header, compression_type="GZIP_2", quantize_level=0.0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def rows_of(receipt: Receipt, small_release: SyntheticRelease):
    units = {unit.name: unit for unit in receipt.units}
    return units[small_release.bricknames[0]], units[small_release.bricknames[1]]


def test_a_truncated_file_fails_its_brick_alone_and_is_repaired_by_the_next_run(
    damaged, small_release
):
    path = image_of(damaged, small_release)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    bad, good = rows_of(ingest_bricks(str(damaged)), small_release)
    assert bad.outcome is Outcome.FAILED
    assert path.name in bad.message
    assert good.outcome is Outcome.WRITTEN
    path.write_bytes(whole)
    bad, good = rows_of(ingest_bricks(str(damaged)), small_release)
    assert bad.outcome is Outcome.WRITTEN
    assert good.outcome is Outcome.ALREADY_PRESENT


def test_a_missing_band_is_noted(damaged, small_release):
    image_of(damaged, small_release).unlink()
    short, good = rows_of(ingest_bricks(str(damaged)), small_release)
    assert short.outcome is Outcome.WRITTEN
    assert any("band r" in note for note in short.notes)
    assert not any("band r: no" in note for note in good.notes)


def test_a_wrong_shape_fails_its_brick_alone(damaged, small_release):
    rewrite(image_of(damaged, small_release), lambda data: data[:-10])
    bad, good = rows_of(ingest_bricks(str(damaged)), small_release)
    assert bad.outcome is Outcome.FAILED
    assert "shape" in bad.message
    assert good.outcome is Outcome.WRITTEN


def test_nan_pixels_lose_their_weight_and_are_counted(damaged, small_release):
    def poison(data):
        data[200:210, 200:210] = np.nan
        return data

    rewrite(image_of(damaged, small_release), poison)
    noted, _ = rows_of(ingest_bricks(str(damaged)), small_release)
    assert noted.outcome is Outcome.WRITTEN
    assert any("100 pixels not finite" in note for note in noted.notes)


def test_a_wrong_checksum_puts_its_brick_alone_into_quarantine(small_release, damaged):
    shutil.copytree(small_release.root, damaged, dirs_exist_ok=True)
    rewrite(image_of(damaged, small_release), lambda data: data + 1)
    bad, good = rows_of(ingest_bricks(str(damaged)), small_release)
    assert bad.outcome is Outcome.QUARANTINED
    assert "ChecksumMismatch" in bad.message
    assert good.verification == "verified"


def test_a_second_writer_is_refused_and_told_who_writes(damaged):
    lock = Path(Settings().store_path) / "ingest-dr10-south"
    with (
        writer_lock(lock, what="another ingest"),
        pytest.raises(RepositoryBusy, match="another ingest"),
    ):
        ingest_bricks(str(damaged))
    assert ingest_bricks(str(damaged)).counts["written"] == 2


def test_an_unreachable_scheduler_stops_before_anything_is_written(damaged, monkeypatch):
    monkeypatch.setenv("BRICKYARD_SCHEDULER", "tcp://127.0.0.1:9")
    monkeypatch.setenv("BRICKYARD_CONNECT_TIMEOUT", "0.5")
    with pytest.raises(SchedulerUnreachable, match="127"):
        ingest_bricks(str(damaged))
    assert not (Path(Settings().store_path) / "survey").exists()


def test_real_pictures_with_labels_become_a_survey(damaged, real_data):
    folder = real_data / "gz2_sdss"
    labels = str(folder / "labels.csv")
    receipt = ingest_images(str(folder / "images"), "gz2", labels)
    assert receipt.survey == "images/gz2"
    assert receipt.objects == 200
    assert Settings().labels_path.is_file()
    assert ingest_images(str(folder / "images"), "gz2", labels).counts["already_present"] == 1


@pytest.mark.parametrize(
    ("folder", "bricks"),
    [
        ("DERIVED_minibrick_0591m305", 1),
        ("dr6_brick_0959p805", 1),
        ("obiwan_brick_1238p245", 1),
    ],
)
def test_real_bricks_end_with_a_receipt(damaged, real_data, folder, bricks):
    receipt = ingest_bricks(str(real_data / "bricks" / folder), release="dr9")
    assert receipt.total == bricks
    assert all(unit.message or unit.notes for unit in receipt.units)


def test_stored_cutouts_are_the_pixels_of_the_real_files(damaged, real_data):
    root = real_data / "bricks" / "DERIVED_minibrick_0591m305"
    config = IngestConfig(
        selection=Selection(max_mag=23.0),
        cutout=CutoutConfig(size=64, edge="drop"),
        detect_missing_catalogue=True,
    )
    receipt = ingest_bricks(str(root), release="dr9", config=config)
    snapshot = find_snapshot(Settings(), receipt.survey, receipt.snapshot_id)
    session = open_snapshot(snapshot)
    objects = read_objects(session, receipt.survey)
    assert len(objects) == receipt.objects > 5
    stored = read_cutouts(session, receipt.survey, objects["row"].to_numpy())
    for index, band in enumerate("grz"):
        name = f"coadd/059/0591m305/legacysurvey-0591m305-image-{band}.fits.fz"
        pixels = fits.getdata(root / name, 1)
        for place, (y, x) in enumerate(zip(objects["by"], objects["bx"], strict=True)):
            top, left = int(np.floor(y + 0.5)) - 32, int(np.floor(x + 0.5)) - 32
            truth = pixels[top : top + 64, left : left + 64]
            weight = stored["invvar"][place, index]
            error = np.abs(stored["image"][place, index] - truth) * np.sqrt(weight)
            assert error[weight > 0].max() <= 0.02
