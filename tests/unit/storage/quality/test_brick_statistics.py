import json
import math
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from storage.brick import IngestConfig
from storage.bricks import brick_from_name
from storage.coadds import read_coadds
from storage.detection import detect_sources
from storage.legacysurvey import locate_brick_files
from storage.maskbits import MaskBit
from storage.quality.statistics import brick_statistics, depth_magnitude

SIZE = 400
SIGMA = 0.01


def coadds(bands=("g", "z"), size=SIZE, **attrs):
    rng = np.random.default_rng(3)
    image = rng.normal(0, SIGMA, (len(bands), size, size)).astype(np.float32)
    return xr.Dataset(
        {
            "image": (("band", "y", "x"), image),
            "invvar": (("band", "y", "x"), np.full_like(image, SIGMA**-2)),
            "maskbits": (("y", "x"), np.zeros((size, size), np.int32)),
        },
        coords={"band": list(bands)},
        attrs=attrs,
    )


def catalogue(**columns):
    table = {"type": [0, 1, 1, 5], "brick_primary": [True, True, True, False]}
    return pd.DataFrame(table | columns)


def test_noise_of_a_blank_image_is_what_invvar_says():
    band = brick_statistics(coadds(), catalogue())["bands"]["g"]
    assert band["noise"] == pytest.approx(SIGMA, rel=0.02)
    assert band["chi"] == pytest.approx(1.0, rel=0.02)
    assert abs(band["background"]) < 0.01 * SIGMA
    assert band["with_data"] == 1.0


def test_weights_that_promise_too_much_show_in_chi():
    data = coadds()
    data["invvar"] *= 4.0
    assert brick_statistics(data, catalogue())["bands"]["g"]["chi"] == pytest.approx(2.0, rel=0.02)


def test_sources_do_not_count_as_noise():
    data = coadds()
    data["image"][0, ::7, ::7] += 1.0
    band = brick_statistics(data, catalogue())["bands"]["g"]
    assert band["noise"] == pytest.approx(SIGMA, rel=0.05)


def test_depth_is_that_of_a_point_source_on_the_pixels():
    table = catalogue(psfsize_g=[1.3, 1.3, 1.3, 9.0], psfdepth_g=[400.0, 400.0, 400.0, 1.0])
    band = brick_statistics(coadds(), table)["bands"]["g"]
    y, x = np.mgrid[-20:21, -20:21] * 0.262
    psf = np.exp(-0.5 * (y**2 + x**2) / (1.3 / 2.3548) ** 2)
    expected = SIGMA / math.sqrt(((psf / psf.sum()) ** 2).sum())
    assert band["depth"] == pytest.approx(22.5 - 2.5 * math.log10(5 * expected), abs=0.01)
    assert band["psfsize"] == pytest.approx(1.3)  # of primary objects only
    assert band["psfdepth"] == pytest.approx(22.5 - 2.5 * math.log10(5 / 20.0), abs=1e-4)


def test_psf_of_the_coadds_is_used_where_the_catalogue_has_none():
    data = coadds()
    data["psfsize"] = ("band", np.array([1.5, np.nan], np.float32))
    bands = brick_statistics(data, catalogue())["bands"]
    assert bands["g"]["psfsize"] == pytest.approx(1.5)
    assert bands["z"]["psfsize"] is None
    assert bands["z"]["depth"] is None


def test_masked_and_empty_pixels_are_counted_by_name_and_left_out_of_the_noise():
    data = coadds()
    data["maskbits"][: SIZE // 4] = int(MaskBit.BRIGHT | MaskBit.NPRIMARY)
    data["maskbits"][-SIZE // 4 :] = int(MaskBit.GALAXY)
    data["image"][:, : SIZE // 4] = 50.0
    data["invvar"][0, :, : SIZE // 2] = 0
    found = brick_statistics(data, catalogue())
    assert found["masked"] == {"NPRIMARY": 0.25, "BRIGHT": 0.25, "GALAXY": 0.25}
    assert found["bad"] == 0.25
    assert found["bands"]["g"]["with_data"] == 0.5
    assert found["bands"]["g"]["noise"] == pytest.approx(SIGMA, rel=0.03)


def test_types_are_those_of_primary_objects():
    found = brick_statistics(coadds(), catalogue())
    assert found["types"] == {"PSF": 1, "REX": 2}
    assert (found["objects"], found["primary"]) == (4, 3)


def test_counts_of_the_reader_are_taken_where_it_gives_them():
    found = brick_statistics(
        coadds(with_data={"g": 40_000, "z": 0}, not_finite={"g": 16, "z": 0}), catalogue()
    )["bands"]
    assert found["g"]["with_data"] == 0.25
    assert found["g"]["not_finite"] == pytest.approx(1e-4)
    assert brick_statistics(coadds(), catalogue())["bands"]["g"]["not_finite"] is None


def test_nothing_to_measure_is_none_and_not_a_number_that_json_lacks():
    data = coadds()
    data["invvar"][:] = 0
    found = brick_statistics(data, catalogue().iloc[:0])
    assert found["bands"]["g"]["noise"] is None
    assert found["bands"]["g"]["depth"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("depth", [0.0, -1.0, math.nan])
def test_no_inverse_variance_is_no_depth(depth):
    assert math.isnan(depth_magnitude(depth))


def test_a_large_image_is_sampled_and_gives_the_same():
    large = coadds(("g",), 1200)
    large["maskbits"][:300] = int(MaskBit.BRIGHT)
    started = time.process_time()
    found = brick_statistics(large, catalogue())
    assert time.process_time() - started < 0.5
    assert found["sampled"] < found["pixels"] / 50
    assert found["bad"] == pytest.approx(0.25, abs=0.01)
    assert found["bands"]["g"]["chi"] == pytest.approx(1.0, rel=0.03)


def test_real_brick(real_data):
    root = real_data / "bricks" / "DERIVED_minibrick_0591m305"
    brick = brick_from_name("0591m305")
    bands = IngestConfig().bands
    data = read_coadds(locate_brick_files(root, brick.brickname, bands), brick, bands)
    found = brick_statistics(data, detect_sources(data, brick))
    for band in bands:
        assert found["bands"][band]["with_data"] > 0.99
        assert 0.5 < found["bands"][band]["chi"] < 1.5
        assert abs(found["bands"][band]["background"]) < 0.5 * found["bands"][band]["noise"]
    assert found["types"] == {"DETECTED": found["primary"]}
