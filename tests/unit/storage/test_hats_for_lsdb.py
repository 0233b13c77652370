"""LSDB opens what is exported as HATS: valid, counts equal, a cone finds what lies in it.

LSDB is no dependency of the project: `pip install lsdb` runs these.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from storage import hats_export
from storage.export_columns import ExportColumn
from storage.export_files import Columns, ExportPlan
from storage.hats_export import write_hats

lsdb = pytest.importorskip("lsdb", reason="LSDB is not installed: pip install lsdb")

# Of LSDB and of what it uses, with versions that this project does not choose.
pytestmark = pytest.mark.filterwarnings("default")

ROWS, CENTRE = 3000, (150.25, 1.12)
COLUMNS = (
    ExportColumn("object_id", "str", "", "id", width=8),
    ExportColumn("ra", "float64", "deg", "right ascension", "pos.eq.ra;meta.main"),
    ExportColumn("dec", "float64", "deg", "declination", "pos.eq.dec;meta.main"),
)


@pytest.fixture
def objects() -> dict[str, np.ndarray]:
    """Return most objects in a patch of a degree, some over the whole sky, one at a pole."""
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(-0.5, 0.5, (2, ROWS))
    ra, dec = ra + CENTRE[0], dec + CENTRE[1]
    ra[:200], dec[:200] = rng.uniform(0, 360, 200), np.degrees(np.arcsin(rng.uniform(-1, 1, 200)))
    ra[0], dec[0] = 0.0, 90.0
    return {"object_id": np.array([f"1-2-{n}" for n in range(ROWS)], object), "ra": ra, "dec": dec}


@pytest.fixture
def folder(tmp_path: Path, objects, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a catalogue of cells of several orders."""
    monkeypatch.setattr(hats_export, "ROWS_OF_A_CELL", 500)

    def read(names: Sequence[str]) -> Iterator[Columns]:
        yield {name: objects[name] for name in names}

    provenance = {"survey": "dr10/south", "release": "dr10-south-morphology-0001"}
    write_hats(tmp_path, ExportPlan(COLUMNS, ROWS, provenance), read)
    return tmp_path


def test_lsdb_finds_every_object(folder, objects):
    found = lsdb.open_catalog(folder)
    assert found.name == "dr10-south-morphology-0001"
    assert len({pixel.order for pixel in found.get_healpix_pixels()}) > 1
    assert len(found) == ROWS
    assert sorted(found.compute()["object_id"]) == sorted(objects["object_id"])


@pytest.mark.parametrize("radius_arcsec", [60.0, 900.0, 20_000.0])
def test_a_cone_of_lsdb_holds_what_lies_in_it(folder, objects, radius_arcsec):
    places = SkyCoord(objects["ra"], objects["dec"], unit="deg")
    inside = places.separation(SkyCoord(*CENTRE, unit="deg")).arcsec <= radius_arcsec
    found = lsdb.open_catalog(folder).cone_search(*CENTRE, radius_arcsec).compute()
    assert sorted(found["object_id"]) == sorted(objects["object_id"][inside])
    assert 0 < inside.sum() < ROWS


def test_the_catalogue_is_valid_for_hats(folder):
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(folder, strict=True)
