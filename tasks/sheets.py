"""Pictures for people: sheets of cutouts and of reconstructions, as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw

from storage.batches import read_cutouts
from storage.brick_store import read_layout, read_objects
from storage.catalogue import read_catalogue
from storage.rgb import legacy_rgb
from tasks.datasets import KEY
from tasks.references import CatalogueRef
from tasks.snapshots import open_snapshot

GAP = 4  # pixels between the cells of a sheet
CAPTION = 14  # pixels of a caption line
INK = (235, 235, 235)
PAPER = (24, 24, 28)

Pixels = npt.NDArray[np.uint8]


def cutout_sheet(
    images: npt.NDArray[np.float32],
    bands: Sequence[str],
    captions: Sequence[str],
    path: Path,
    columns: int = 6,
) -> Path:
    """Write a sheet of cutouts in the Legacy Survey's colours, each with a caption.

    Parameters
    ----------
    images : ndarray, shape (object, band, y, x), float32 [nanomaggy, or JPEG intensity]
    bands : sequence of str
    captions : sequence of str, one an object
    path : Path
        PNG file to write; folders are made.
    columns : int
        Cells in a row.
    """
    cells = [legacy_rgb(image, tuple(bands)) for image in images]
    return _write_sheet(
        [cells[i : i + columns] for i in range(0, len(cells), columns)], list(captions), path
    )


def surest_sheet(catalogue: CatalogueRef, path: Path, columns: int = 8) -> Path:
    """Write a sheet of the surest objects of each class of a catalogue, a row a class.

    Parameters
    ----------
    catalogue : CatalogueRef
        With columns `p_<class>`.
    path : Path
        PNG file to write.
    columns : int
        Objects a class.
    """
    rows, _ = read_catalogue(Path(catalogue.path).parent)
    session, survey = open_snapshot(catalogue.snapshot), catalogue.snapshot.survey
    known = read_objects(session, survey, catalogue=False)
    table = rows.merge(known[[*KEY, "row"]], on=KEY)
    classes = [name for name in table if str(name).startswith("p_")]
    best = [table.nlargest(columns, name) for name in classes]
    shown = pd.concat(best)
    captions = [
        f"{name[2:]} {value:.2f}"
        for name, part in zip(classes, best, strict=True)
        for value in part[name]
    ]
    images = read_cutouts(session, survey, shown["row"].to_numpy(), ("image",))["image"]
    bands = read_layout(session, survey).bands
    return cutout_sheet(images, bands, captions, path, columns)


def painting_sheet(rows: Sequence[npt.NDArray[np.float32]], path: Path) -> Path:
    """Write a sheet of pre-training: what is there, what the encoder saw, what it painted.

    Parameters
    ----------
    rows : sequence of ndarray, shape (object, band, y, x), float32
        Network input (asinh-scaled, of order 1): target, shown, painted.
    path : Path
        PNG file to write.
    """
    names = ("target", "shown", "painted")
    cells = [[_scaled_rgb(image) for image in images] for images in rows]
    captions = [name for name, images in zip(names, rows, strict=True) for _ in images]
    return _write_sheet(cells, captions, path)


def _scaled_rgb(image: npt.NDArray[np.float32]) -> Pixels:
    """Map network input to colours: blue, green, red are the first, middle and last band."""
    planes = np.stack([image[-1], image[image.shape[0] // 2], image[0]], axis=-1)
    # FITS rows count upwards, picture rows downwards: flip, so that north is up.
    return np.asarray(np.clip((planes[::-1] + 1.5) / 6.0, 0, 1) * 255, dtype=np.uint8)


def _write_sheet(cells: list[list[Pixels]], captions: list[str], path: Path) -> Path:
    if not cells or not cells[0]:
        raise ValueError(f"no pictures for {path}: the selection of objects is empty")
    side = cells[0][0].shape[0]
    scale = max(1, round(128 / side))
    step = side * scale + GAP
    width = max(len(row) for row in cells) * step + GAP
    sheet = Image.new("RGB", (width, len(cells) * (step + CAPTION) + GAP), PAPER)
    draw: Any = ImageDraw.Draw(sheet)
    texts = iter(captions)
    for y, row in enumerate(cells):
        for x, cell in enumerate(row):
            corner = (GAP + x * step, GAP + y * (step + CAPTION))
            picture = Image.fromarray(np.ascontiguousarray(cell))
            sheet.paste(
                picture.resize((side * scale, side * scale), Image.Resampling.NEAREST), corner
            )
            draw.text((corner[0] + 2, corner[1] + side * scale), next(texts), fill=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path
