import numpy as np
import pytest

from storage.bricks import brick_from_name
from storage.maskbits import MaskBit
from storage.synthetic import SyntheticConfig
from storage.synthetic.artefacts import SATURATION, mask_map, saturate, strike
from storage.synthetic.exposures import band_generator, expose
from storage.synthetic.scene import Scene, build_scene
from storage.synthetic.windows import brick_window

BRICK = brick_from_name("1501p010")
CONFIG = SyntheticConfig(brick_size=300, star_density=0.0)


@pytest.fixture(scope="module")
def scene() -> Scene:
    window = brick_window(BRICK, 300)
    exposures = {
        band: expose(band_generator(CONFIG, BRICK, band), window, band, 0.0) for band in "grz"
    }
    scene = build_scene(window, CONFIG, exposures)
    # One star of 12th magnitude in the middle of what is there.
    scene.sources["code"][0], scene.sources["radius"][0] = 255, 0.0
    scene.sources["flux"][0] = 15000.0
    scene.flux[0], scene.y[0], scene.x[0] = 15000.0, 150.0, 140.0
    return scene


def test_saturated_star_is_clipped_bled_and_flagged(scene: Scene) -> None:
    exposures = expose(np.random.default_rng(0), scene.window, "r", 0.0)
    image = np.zeros((300, 300), dtype=np.float32)
    image[148:153, 138:143] = 200.0
    flagged = saturate(image, scene, exposures)
    assert image.max() <= SATURATION["r"]
    assert flagged[148:153, 138:143].all()
    rows, columns = np.nonzero(flagged)
    assert np.ptp(columns) > 3 * np.ptp(rows)  # the bleed runs along the row


def test_struck_pixels_are_many_and_far_above_the_noise(scene: Scene) -> None:
    exposures = expose(np.random.default_rng(0), scene.window, "r", 0.0)
    defects = strike(np.random.default_rng(1), exposures, 30.0)
    struck = defects != 0
    assert struck.sum() > 50
    assert np.median(defects[struck]) > 1.5 * exposures.sigma
    assert not strike(np.random.default_rng(1), exposures, 0.0).any()


def test_mask_map_names_saturation_stars_and_the_primary_area(scene: Scene) -> None:
    saturated = np.zeros((300, 300), dtype=bool)
    saturated[10, 20] = True
    struck = np.zeros_like(saturated)
    struck[30, 40] = True
    bits = mask_map(scene, {"r": (saturated, struck)})
    assert bits.dtype == np.int32
    assert bits[10, 20] & MaskBit.SATUR_R
    assert bits[10, 20] & MaskBit.ALLMASK_R
    assert bits[30, 40] & MaskBit.ALLMASK_R
    assert not bits[30, 40] & MaskBit.SATUR_R
    assert bits[150, 140] & MaskBit.BRIGHT
    assert bits[150, 140] & MaskBit.MEDIUM
    share = ((bits & MaskBit.NPRIMARY) == 0).mean()
    assert share == pytest.approx((218 / 300) ** 2, rel=0.03)
