from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from seams import Seam
from tiny_bricks import TinyBrick

from storage.brick import IngestConfig, brick_fingerprint, read_brick, survey_brick
from storage.bricks import brick_from_name
from storage.cutouts import CutoutConfig
from storage.errors import BrickNotFound
from storage.legacysurvey import coadd_path, tractor_path
from storage.selection import Selection

NAME, EAST, FAR = "1501p000", "1503p000", "1506p000"
SMALL = IngestConfig(bands=("g",), cutout=CutoutConfig(size=152))
LARGE = replace(SMALL, cutout=CutoutConfig(size=256))


@pytest.fixture
def seam(tmp_path: Path) -> Seam:
    """Write a brick with its catalogue; it has no neighbours yet."""
    seam = Seam.at(0.0, stars=20)
    seam.write(tmp_path, seam.brick)
    write_catalogue(tmp_path, seam)
    return seam


def write_catalogue(root: Path, seam: Seam) -> None:
    mine = seam.brick.owns(seam.ra, seam.dec)
    count = int(mine.sum())
    tiny = TinyBrick(root, seam.brick, bands=("g",), places=((5.0, 5.0),) * count)
    tiny.fluxes, tiny.types = tuple(seam.flux[mine]), ("EXP",) * count
    table = tiny.table()
    table["ra"], table["dec"] = seam.ra[mine], seam.dec[mine]
    table.remove_columns(["bx", "by"])
    tiny.write_tractor(table)


def facts(root: Path, config: IngestConfig) -> tuple[str, str]:
    plan = survey_brick(root, NAME, config)
    found = read_brick(root, NAME, config=config)
    assert plan.status == "ready"
    assert plan.digest == found.digest
    assert plan.fingerprint == brick_fingerprint(root, NAME, config)
    assert plan.n_objects == found.dataset.sizes["object"] + sum(
        len(ids) for ids in found.without_cutout.values()
    )
    return found.digest, plan.fingerprint


def test_a_new_neighbour_changes_only_what_can_use_it(seam: Seam, tmp_path: Path) -> None:
    small, large = facts(tmp_path, SMALL), facts(tmp_path, LARGE)
    dropped = facts(tmp_path, replace(LARGE, cutout=CutoutConfig(size=256, edge="drop")))
    assert small == large == dropped  # no neighbour, no difference
    seam.write(tmp_path, brick_from_name(EAST))
    assert facts(tmp_path, SMALL) == small
    after = facts(tmp_path, LARGE)
    assert after[0] != large[0]
    assert after[1] != large[1]
    assert facts(tmp_path, replace(LARGE, cutout=CutoutConfig(256, "drop"))) == small
    TinyBrick(tmp_path, brick_from_name(FAR), bands=("g",)).write()
    assert facts(tmp_path, LARGE) == after
    TinyBrick(tmp_path, brick_from_name(EAST)).write_tractor()  # its catalogue is no input
    assert facts(tmp_path, LARGE) == after


def test_objects_of_the_overlap_need_neighbours_at_any_size(seam: Seam, tmp_path: Path) -> None:
    every = replace(SMALL, selection=Selection(primary_only=False))
    before = facts(tmp_path, every)
    seam.write(tmp_path, brick_from_name(EAST))
    assert facts(tmp_path, every) != before


def test_a_neighbour_that_changed_changes_the_digest(seam: Seam, tmp_path: Path) -> None:
    written = seam.write(tmp_path, brick_from_name(EAST))
    before = facts(tmp_path, LARGE)
    assert written is not None
    written.write_coadd("image", "g", written.images["g"] + np.float32(1))
    after = facts(tmp_path, LARGE)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_lists_of_neighbours_count_as_their_files(seam: Seam, tmp_path: Path) -> None:
    seam.write(tmp_path, brick_from_name(EAST))
    before, _ = facts(tmp_path, LARGE)
    east = TinyBrick(tmp_path, brick_from_name(EAST))
    east.write_tractor()
    east.write_checksums()
    assert facts(tmp_path, LARGE)[0] == before


def test_the_receipt_of_a_stitched_brick(seam: Seam, tmp_path: Path) -> None:
    seam.write(tmp_path, brick_from_name(EAST))
    found = read_brick(tmp_path, NAME, config=LARGE)
    assert found.neighbours[EAST] in ("used", "not used")
    assert found.neighbours["1501m002"] == "absent"
    assert f"legacysurvey-{EAST}-image-g.fits.fz" in found.files
    assert any(reason.endswith("absent") for reason in found.without_cutout)
    assert read_brick(tmp_path, NAME, config=SMALL).neighbours == {}


def test_fingerprints_in_other_layouts(tmp_path: Path) -> None:
    tiny = TinyBrick(tmp_path / "south").write()
    name = tiny.brick.brickname
    config = IngestConfig()
    one = brick_fingerprint(tmp_path, name, config, "south")
    assert brick_fingerprint(tmp_path / "south", name, config) == one
    assert brick_fingerprint(tmp_path / "south", name, config, "south") == one
    canonical = coadd_path(tiny.root, name, "image", "g").parent
    moved = tmp_path / "south" / "coadd" / name
    canonical.rename(moved)
    plan = survey_brick(tmp_path, name, config, "south")
    assert plan.fingerprint == brick_fingerprint(tmp_path, name, config, "south")
    (moved / f"legacysurvey-{name}-image-g.fits.fz").touch()
    assert brick_fingerprint(tmp_path, name, config, "south") != plan.fingerprint
    with pytest.raises(BrickNotFound):
        brick_fingerprint(tmp_path, "0001p000", config, "south")


def test_a_fingerprint_follows_catalogue_and_lists(tmp_path: Path) -> None:
    tiny = TinyBrick(tmp_path).write()
    name, config = tiny.brick.brickname, IngestConfig()
    seen = {brick_fingerprint(tmp_path, name, config)}
    tiny.write_checksums()
    seen.add(brick_fingerprint(tmp_path, name, config))
    group = tractor_path(tmp_path, name).parent / "legacysurvey_dr9_south_tractor_123.sha256sum"
    group.write_text("")
    seen.add(brick_fingerprint(tmp_path, name, config))
    tiny.write_tractor(tiny.table()[:1])
    seen.add(brick_fingerprint(tmp_path, name, config))
    coadd_path(tmp_path, name, "maskbits").unlink()
    seen.add(brick_fingerprint(tmp_path, name, config))
    assert len(seen) == 5
    tiny.write_coadd("nexp", "g", np.zeros((9, 9), np.int16))  # no input of cutouts
    assert brick_fingerprint(tmp_path, name, config) in seen


def test_a_fingerprint_takes_less_than_a_millisecond(tmp_path: Path) -> None:
    tiny = TinyBrick(tmp_path).write()
    name, config = tiny.brick.brickname, IngestConfig()
    folder = tractor_path(tmp_path, name).parent
    for number in range(500):  # other bricks of the group
        (folder / f"tractor-123{number:04d}.fits").touch()
    times = []
    for _ in range(20):
        start = perf_counter()
        brick_fingerprint(tmp_path, name, config)
        times.append(perf_counter() - start)
    assert min(times) < 1e-3
