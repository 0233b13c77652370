"""What a cutout costs on disk, and what rounding does to its pixels and fluxes."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from figures import Figure, record
from flux_shifts import largest_flux_shift

from storage import arrays
from storage.brick import read_brick
from storage.brick_store import allocate, create_survey, write_cutouts
from storage.ingest_config import IngestConfig
from storage.repository import fork, merge, open_repository, read_session, transaction
from storage.rounding import round_image
from storage.schema import PIXEL_ARRAYS, SurveyLayout
from storage.selection import Selection
from storage.shard_layout import chunk_key
from storage.synthetic import SyntheticConfig, write_synthetic_release

REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
BRICK = REAL / "bricks" / "DERIVED_minibrick_0591m305"
BANDS, SIZE = ("g", "r", "z"), 152
SURVEY = "dr9/south"


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """Return the cutouts of a synthetic brick, galaxies and bright stars among them."""
    root = tmp_path_factory.mktemp("release")
    release = write_synthetic_release(
        root, SyntheticConfig(count=1, brick_size=900, density=10.0, seed=4, processes=1)
    )
    config = IngestConfig(selection=Selection(max_mag=None), verify_checksums=False)
    return read_brick(root, release.bricknames[0], config=config).dataset


def _real_planes() -> dict[str, np.ndarray]:
    if not BRICK.is_dir():
        pytest.skip("real survey data (../shared/real beside the repository) is not there")
    return {kind: np.stack([_plane(kind, band) for band in BANDS]) for kind in ("image", "invvar")}


def _plane(kind: str, band: str) -> np.ndarray:
    path = next(BRICK.rglob(f"*-{kind}-{band}.fits.fz"))
    return np.nan_to_num(np.array(fits.getdata(path, 1), np.float32))


def test_store_rounding(synthetic):
    real = _real_planes()
    pairs = {
        "real": (real["image"][None], real["invvar"][None]),
        "synthetic": (synthetic["image"].values, synthetic["invvar"].values),
    }
    noise, flux = [], []
    for image, invvar in pairs.values():
        stored = round_image(image, invvar)
        noise.append(float((np.abs(stored - image) * np.sqrt(invvar)).max()))
        planes = [values.reshape(-1, *image.shape[2:]) for values in (image, stored, invvar)]
        flux.append(max(largest_flux_shift(*plane) for plane in zip(*planes, strict=True)))
    bound = "largest of all pixels of a real DR9 brick and of the cutouts of a synthetic one"
    record(Figure("store.rounding_over_pixel_noise", "ratio", "<= 0.02", bound, [max(noise)]))
    bound = (
        "largest of apertures of 0.9, 1.8 and 3.7 arcsec and PSF-weighted sums, 1.05 arcsec apart"
    )
    record(Figure("store.flux_shift_over_error", "ratio", "<= 1e-4", bound, [max(flux)]))
    assert 0 < max(noise) <= 0.02
    assert 0 < max(flux) <= 1e-4


def test_store_bytes(synthetic, tmp_path):
    real = _real_planes()
    places = np.random.default_rng(0).integers(0, 256 - SIZE, (64, 2))
    cubes = {
        kind: np.stack([cube[:, y : y + SIZE, x : x + SIZE] for y, x in places])
        for kind, cube in real.items()
    }
    block = synthetic.isel(object=np.arange(64) % synthetic.sizes["object"])
    block["objid"] = ("object", np.arange(64))
    dims = ("object", "band", "y", "x")
    block = block.assign({kind: (dims, cube) for kind, cube in cubes.items()})
    repository = open_repository(tmp_path / "survey", create=True)
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, SurveyLayout(BANDS, SIZE))
        rows = allocate(session, SURVEY, {"a": 64})["a"]
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        write_cutouts(child, SURVEY, rows, block)
        merge(session, [child])
    session = read_session(repository)
    group = arrays.open_group(session, SURVEY)
    for name in PIXEL_ARRAYS:
        key = chunk_key(arrays.get_array(group, name), 0)
        size = asyncio.run(session.store.getsize(key)) / 64
        source = "synthetic masks" if name == "maskbits" else "pixels of a real DR9 brick"
        bound = f"3x{SIZE}x{SIZE} cutouts, {source}; float32 or int32 as they are would be "
        bound += f"{block[name].nbytes / 64:.0f}"
        record(Figure(f"store.{name}_bytes_per_cutout", "B", "reported", bound, [size]))
