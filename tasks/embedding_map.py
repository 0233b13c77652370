"""A picture of a survey as its encoder sees it: UMAP of the embeddings, drawn with cutouts.

UMAP keeps neighbours together; distances across the picture, and its axes, mean nothing.
"""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.brick_store import read_layout
from storage.rgb import legacy_rgb
from storage.search.objects import objects_at
from storage.search.vectors import sample_vectors
from tasks.embedded import EmbeddedSurvey, open_embedded
from tasks.errors import TaskError
from tasks.references import EmbeddingsRef, EncoderRef, Reference
from tasks.settings import Settings
from tasks.sheets import PAPER
from tasks.whole_files import whole_file

SUFFIXES = (".png", ".html")
MOST_OBJECTS = 50_000  # UMAP holds a graph of the sample, and takes minutes for these
TRIMMED = 0.5  # per cent of the objects at each edge, which would shrink all others
_VIEWER = "https://www.legacysurvey.org/viewer?ra={ra:.6f}&dec={dec:.6f}&zoom=15"

Places = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


class MapUnavailable(TaskError):
    """The picture cannot be made as asked."""


@dataclass(frozen=True)
class MapConfig:
    """What the picture shows.

    Parameters
    ----------
    sample : objects that UMAP arranges, drawn at random
    side : cells in a row and in a column; each shows the object nearest to its middle
    cell : side of a cell [pixel]
    zoom : side of the shown centre of a cutout, as a fraction of the cutout
    neighbours : of UMAP: few show detail, many show the whole
    seed : of the sample and of UMAP; equal seeds, equal pictures
    """

    sample: int = 4000
    side: int = 32
    cell: int = 48
    zoom: float = 0.5
    neighbours: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.sample <= MOST_OBJECTS:
            raise MapUnavailable(f"sample {self.sample}: choose 2 to {MOST_OBJECTS} objects")


class MapRef(Reference):
    """A picture of a survey's embeddings: its file, and how many objects it arranges and shows."""

    embeddings: EmbeddingsRef
    path: str
    arranged: int
    shown: int
    bricks_left_out: int


@task(name="draw-map", cache_policy=NO_CACHE)
def draw_map(
    settings: Settings,
    survey: str,
    encoder: EncoderRef,
    path: str,
    config: MapConfig | None = None,
) -> MapRef:
    """Arrange a sample of the survey by likeness and draw it with thumbnails.

    Parameters
    ----------
    path : str
        `.png`, or `.html`: a page whose thumbnails name their object and lead to the sky viewer.

    Raises
    ------
    MapUnavailable
        If umap-learn is not installed, or the suffix is another.
    """
    chosen, target = config or MapConfig(), Path(path)
    if target.suffix not in SUFFIXES:
        raise MapUnavailable(f"{path}: end the name in one of {SUFFIXES}")
    source = open_embedded(settings, survey, encoder)
    rows, vectors = sample_vectors(source.vectors, source.rows, chosen.sample, chosen.seed)
    cells, objects = choose_cells(arrange(vectors, chosen), chosen.side)
    table = objects_at(source.session, survey, rows[objects]).assign(y=cells[:, 0], x=cells[:, 1])
    thumbnails = _thumbnails(source, rows[objects], chosen)
    if target.suffix == ".png":
        content = _png(_mosaic(thumbnails, cells, chosen))
    else:
        content = _page(table, thumbnails, chosen, survey).encode()
    _write_bytes(target, content)
    return MapRef(
        embeddings=source.embeddings,
        path=str(target),
        arranged=len(rows),
        shown=len(objects),
        bricks_left_out=source.rows.left_out,
    )


def arrange(vectors: npt.NDArray[np.floating[Any]], config: MapConfig) -> Places:
    """Return a place in the plane for every vector, shape (n, 2).

    Raises
    ------
    MapUnavailable
        If umap-learn is not installed.
    """
    try:
        from umap import UMAP
    except ImportError as error:
        raise MapUnavailable(
            "the map needs umap-learn: install it with `pip install brickyard[map]`"
        ) from error
    wide = np.asarray(vectors, dtype=np.float32)
    model = UMAP(
        n_neighbors=min(config.neighbours, len(wide) - 1),
        metric="cosine",
        init="pca",  # the spectral start fails on samples that fall into separate groups
        random_state=config.seed,
        n_jobs=1,  # seeded UMAP runs in one thread, and warns when it is not told so
    )
    return np.asarray(model.fit_transform(wide - wide.mean(axis=0)), dtype=np.float64)


def choose_cells(places: Places, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the cells of a square grid that hold objects, and for each the most central one.

    Returns
    -------
    cells : ndarray, shape (cell, 2), int64
        Row, from the top, and column.
    objects : ndarray, shape (cell,), int64
    """
    low, high = np.percentile(places, [TRIMMED, 100 - TRIMMED], axis=0)
    scaled = (places - low) / np.maximum(high - low, np.finfo(float).tiny) * side
    cell = np.clip(np.floor(scaled), 0, side - 1).astype(np.int64)
    off_centre = np.square(scaled - cell - 0.5).sum(axis=1)
    order = np.lexsort((off_centre, cell[:, 0], cell[:, 1]))
    _, first = np.unique(cell[order] @ np.array([side, 1]), return_index=True)
    objects = order[first]
    return np.stack([side - 1 - cell[objects, 1], cell[objects, 0]], axis=1), objects


def _thumbnails(
    source: EmbeddedSurvey, rows: npt.NDArray[np.int64], config: MapConfig
) -> list[Pixels]:
    bands = read_layout(source.session, source.snapshot.survey).bands
    result = []
    for start in range(0, len(rows), 256):  # full cutouts of a few at a time
        for image in source.images(rows[start : start + 256]):
            edge = round(image.shape[-1] * (1 - config.zoom) / 2)
            centre = image[:, edge : image.shape[-2] - edge, edge : image.shape[-1] - edge]
            picture = Image.fromarray(np.ascontiguousarray(legacy_rgb(centre, bands)))
            size = (config.cell, config.cell)
            result.append(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)))
    return result


def _mosaic(thumbnails: list[Pixels], cells: npt.NDArray[np.int64], config: MapConfig) -> Pixels:
    step = config.cell + 1
    sheet = np.empty((config.side * step, config.side * step, 3), dtype=np.uint8)
    sheet[:] = PAPER
    for (y, x), thumbnail in zip(cells * step, thumbnails, strict=True):
        sheet[y : y + config.cell, x : x + config.cell] = thumbnail
    return sheet


def _page(table: pd.DataFrame, thumbnails: list[Pixels], config: MapConfig, survey: str) -> str:
    tiles = []
    for record, thumbnail in zip(table.to_dict("records"), thumbnails, strict=True):
        link = html.escape(_VIEWER.format(ra=record["ra"], dec=record["dec"]))
        name = html.escape(str(record["object_id"]))
        picture = base64.b64encode(_jpeg(thumbnail)).decode()
        place = f"grid-area:{record['y'] + 1}/{record['x'] + 1}"
        tiles.append(
            f'<a href="{link}" title="{name}" style="{place}">'
            f'<img alt="{name}" src="data:image/jpeg;base64,{picture}"></a>'
        )
    title = html.escape(f"{survey} as its encoder sees it")
    return _TEMPLATE.format(
        title=title, side=config.side, cell=config.cell, shown=len(table), tiles="\n".join(tiles)
    )


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ background: #18181c; color: #ebebeb; font: 14px/1.5 sans-serif; margin: 1rem; }}
.map {{ overflow-x: auto; }}
.grid {{ display: grid; gap: 1px;
  grid-template: repeat({side}, {cell}px) / repeat({side}, {cell}px); }}
.grid a:hover, .grid a:focus {{ outline: 2px solid #ffd166; z-index: 1; }}
img {{ display: block; width: {cell}px; height: {cell}px; }}
</style></head><body>
<h1>{title}</h1>
<p>{shown} objects arranged by likeness (UMAP). Neighbours are alike; distances across the picture
mean nothing. Point at an object for its identifier, follow it to the sky viewer.</p>
<div class="map"><div class="grid">
{tiles}
</div></div>
</body></html>
"""


def _png(picture: Pixels) -> bytes:
    return _encoded(picture, "PNG")


def _jpeg(picture: Pixels) -> bytes:
    return _encoded(picture, "JPEG")


def _encoded(picture: Pixels, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=kind, quality=85)
    return buffer.getvalue()


def _write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(content)
