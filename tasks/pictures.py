"""Pictures of cutouts for the pages of the desk, drawn from the store and kept for a while.

A picture is named by its object and a `View`. Whatever is asked for can only be an object of a
survey in the store and one of a few sizes and layers; no file name comes from outside.
"""

import hashlib
import io
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from storage.batches import read_cutouts
from storage.catalogue import parse_object_id
from storage.maskbits import MaskBit
from storage.rgb import legacy_rgb
from tasks.errors import TaskError
from tasks.settings import Settings
from tasks.survey_view import ShownObject, SurveyView

SIZES = (96, 152, 304, 608)  # sides of a picture [pixel]
ZOOMS = (1, 2, 4)
STRETCHES = range(-4, 5)  # brighter by this power of two
LAYERS = ("rgb", "mask", "weight")  # and every band by its name
CACHE_BYTES = 64 * 2**20
PIXELS_KEPT = 64  # decoded cutouts, for who moves the stretch slider
MOSAIC_CELL = 48  # side of a picture of a mosaic [pixel]
REOPEN_SECONDS = 5.0  # how old the view of the store may be
JPEG_QUALITY = 90
MASK_COLOURS = {
    "saturated": (255, 70, 70),
    "bad pixel": (255, 170, 60),
    "near a bright star": (190, 110, 255),
    "large galaxy": (80, 160, 255),
}
_MASK_BITS = {
    "large galaxy": MaskBit.GALAXY,
    "near a bright star": MaskBit.BRIGHT | MaskBit.MEDIUM,
    "bad pixel": MaskBit.ALLMASK_G | MaskBit.ALLMASK_R | MaskBit.ALLMASK_I | MaskBit.ALLMASK_Z,
    "saturated": MaskBit.SATUR_G | MaskBit.SATUR_R | MaskBit.SATUR_I | MaskBit.SATUR_Z,
}
_RING = (120, 255, 160)

Pixels = npt.NDArray[np.uint8]
Cutout = Mapping[str, npt.NDArray[Any]]


class BadView(TaskError, ValueError):
    """A picture is asked for in a way that does not exist."""


@dataclass(frozen=True)
class View:
    """How a cutout is shown.

    Parameters
    ----------
    layer : "rgb", "mask" (over the colours), "weight" (inverse variance), or a band
    stretch : brighter by this power of two
    zoom : the central 1/zoom of the cutout
    neighbours : ring the other objects of the survey
    size : side of the picture [pixel]
    """

    layer: str = "rgb"
    stretch: int = 0
    zoom: int = 1
    neighbours: bool = False
    size: int = 152

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> "View":
        """Read a view from the query of an address; what it does not name keeps its default.

        Raises
        ------
        BadView
            If a value is not one of those offered.
        """
        try:
            view = cls(
                layer=values.get("layer", cls.layer),
                stretch=int(values.get("stretch", cls.stretch)),
                zoom=int(values.get("zoom", cls.zoom)),
                neighbours=values.get("neighbours", "") == "1",
                size=int(values.get("size", cls.size)),
            )
        except ValueError as error:
            raise BadView(f"stretch, zoom and size are whole numbers: {error}") from error
        fine = view.size in SIZES and view.zoom in ZOOMS and view.stretch in STRETCHES
        if not fine or not (view.layer in LAYERS or len(view.layer) == 1):
            raise BadView(f"no such view: sizes {SIZES}, zooms {ZOOMS}, stretches -4 to 4")
        return view


@dataclass(frozen=True)
class Picture:
    """An encoded picture; `etag` is the same as long as pixels and view are."""

    content: bytes
    media_type: str
    etag: str


class PictureMaker:
    """Draws pictures of the objects of all surveys of a store; may be used from many threads."""

    def __init__(self, settings: Settings, cache_bytes: int = CACHE_BYTES) -> None:
        self._settings, self._most = settings, cache_bytes
        self._lock = threading.Lock()
        self._views: dict[str, tuple[float, SurveyView]] = {}
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._pixels: OrderedDict[str, Cutout] = OrderedDict()
        self._bytes = 0

    def survey(self, survey: str) -> SurveyView:
        """Return the newest snapshot of a survey, looked for at most every few seconds."""
        with self._lock:
            at, view = self._views.get(survey, (0.0, None))
            now = time.monotonic()
            if view is None or now - at > REOPEN_SECONDS:
                view = SurveyView.newest(self._settings, survey, view)
                self._views[survey] = (now, view)
            return view

    def find(self, survey: str, object_id: str) -> ShownObject:
        """Return where an object is; raises `storage.errors.StorageError` when it is not there."""
        return self.survey(survey).find(parse_object_id(object_id))

    def picture(self, survey: str, object_id: str, view: View) -> Picture:
        """Return a picture of an object.

        Raises
        ------
        BadView, StorageError
            If there is no such view, survey or object.
        """
        shown = self.survey(survey)
        found = shown.find(parse_object_id(object_id))
        if view.layer not in (*LAYERS, *shown.bands):
            raise BadView(f"layer {view.layer!r}: {', '.join((*LAYERS, *shown.bands))}")
        etag = _etag(survey, object_id, found.version, view)
        with self._lock:
            if etag in self._pictures:
                self._pictures.move_to_end(etag)
                return self._pictures[etag]
        drawn = draw(self._cutout(shown, found, _fields(view)), shown.bands, view)
        if view.neighbours:
            _ring(drawn, shown.neighbours(found), shown.size, view)
        made = Picture(*_encoded(drawn, view), etag)
        self._keep(made)
        return made

    def mosaic(
        self, survey: str, rows: Sequence[int], places: Sequence[tuple[int, int]], side: int
    ) -> bytes:
        """Return one JPEG with small pictures of rows at the places of their (x, y) corners."""
        shown = self.survey(survey)
        sheet = Image.new("RGB", (side, side), (24, 24, 28))
        for start in range(0, len(rows), 128):
            part = np.asarray(rows[start : start + 128])
            images = read_cutouts(shown.session, survey, part, ("image",))["image"]
            for image, place in zip(images, places[start : start + 128], strict=True):
                cell = draw({"image": image}, shown.bands, View(zoom=2, size=152))
                sheet.paste(cell.resize((MOSAIC_CELL, MOSAIC_CELL), Image.Resampling.BOX), place)
        buffer = io.BytesIO()
        sheet.save(buffer, format="JPEG", quality=85)
        return buffer.getvalue()

    def _cutout(self, shown: SurveyView, found: ShownObject, fields: tuple[str, ...]) -> Cutout:
        key = f"{shown.survey}/{found.object_id}/{found.version}/{fields}"
        with self._lock:
            if key in self._pixels:
                return self._pixels[key]
        block = read_cutouts(shown.session, shown.survey, [found.row], fields)
        cutout = {name: np.array(values[0]) for name, values in block.items()}
        with self._lock:
            self._pixels[key] = cutout
            while len(self._pixels) > PIXELS_KEPT:
                self._pixels.popitem(last=False)
        return cutout

    def _keep(self, picture: Picture) -> None:
        with self._lock:
            if picture.etag not in self._pictures:
                self._pictures[picture.etag] = picture
                self._bytes += len(picture.content)
            while self._bytes > self._most:
                _, oldest = self._pictures.popitem(last=False)
                self._bytes -= len(oldest.content)


def draw(cutout: Cutout, bands: Sequence[str], view: View) -> Image.Image:
    """Draw a cutout as a view says, north up, before it is encoded."""
    brighter = 2.0**view.stretch
    if view.layer in bands:
        plane = [list(bands).index(view.layer)]
        picture = legacy_rgb(cutout["image"][plane] * brighter, (view.layer,))
    elif view.layer == "weight":
        picture = _weights(cutout["invvar"])
    else:
        picture = legacy_rgb(cutout["image"] * brighter, tuple(bands))
    if view.layer == "mask":
        picture = _tinted(picture, cutout["maskbits"][::-1])
    side = picture.shape[0] // view.zoom
    low = (picture.shape[0] - side) // 2
    inside = picture[low : low + side, low : low + side]
    image = Image.fromarray(np.ascontiguousarray(inside))
    how = Image.Resampling.LANCZOS if view.size < side else Image.Resampling.BICUBIC
    return image if view.size == side else image.resize((view.size, view.size), how)


def _fields(view: View) -> tuple[str, ...]:
    """Return what has to be read of the store."""
    return {"mask": ("image", "maskbits"), "weight": ("invvar",)}.get(view.layer, ("image",))


def _weights(invvar: npt.NDArray[np.floating[Any]]) -> Pixels:
    """Show how much is known of a pixel: white is the most of the cutout, red is nothing."""
    depth = np.sqrt(invvar.mean(axis=0))[::-1]
    grey = np.clip(255 * depth / max(float(depth.max()), 1e-30), 0, 255).astype(np.uint8)
    picture = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    picture[depth == 0] = MASK_COLOURS["saturated"]
    return picture


def _tinted(picture: Pixels, maskbits: npt.NDArray[np.integer[Any]]) -> Pixels:
    tinted = picture.astype(np.float32)
    for name, bits in _MASK_BITS.items():
        inside = (maskbits & int(bits)) != 0
        tinted[inside] = 0.4 * tinted[inside] + 0.6 * np.array(MASK_COLOURS[name], np.float32)
    return tinted.astype(np.uint8)


def _ring(image: Image.Image, places: npt.NDArray[np.float64], size: int, view: View) -> None:
    """Draw a ring round every place (x, y), in pixels of the whole cutout with row 0 on top."""
    pen: Any = ImageDraw.Draw(image)
    scale = view.size * view.zoom / size
    radius = max(4, view.size // 30)
    for x, y in (places - (size - 1) / 2) * scale + view.size / 2:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=_RING, width=2)


def _encoded(image: Image.Image, view: View) -> tuple[bytes, str]:
    kind = "PNG" if view.layer in ("mask", "weight") else "JPEG"
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=JPEG_QUALITY)
    return buffer.getvalue(), f"image/{kind.lower()}"


def _etag(survey: str, object_id: str, version: str, view: View) -> str:
    text = "/".join(map(str, (survey, object_id, version, *astuple(view))))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
