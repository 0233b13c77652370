"""How far a stored pixel is from the survey's, in units of its own noise, on real pixels."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from figures import Figure, record

from storage.rounding import join_image, split_image

REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
BRICK = REAL / "bricks" / "DERIVED_minibrick_0591m305"


def _rounding(band: str) -> float:
    files = {kind: next(BRICK.rglob(f"*-{kind}-{band}.fits.fz")) for kind in ("image", "invvar")}
    data = {kind: np.array(fits.getdata(file, 1), np.float32) for kind, file in files.items()}
    image, invvar = np.nan_to_num(data["image"]), np.nan_to_num(data["invvar"])
    stored = join_image(*split_image(image, invvar))
    return float((np.abs(stored - image) * np.sqrt(invvar)).max())


def test_store_rounding():
    if not BRICK.is_dir():
        pytest.skip("real survey data (../shared/real beside the repository) is not there")
    largest = max(_rounding(band) for band in ("g", "r", "z"))
    record(
        Figure(
            "store.rounding_over_pixel_noise",
            "ratio",
            "<= 0.02",
            "largest of all pixels in g, r and z of a real DR9 brick",
            [largest],
        )
    )
    assert 0 < largest <= 0.02
