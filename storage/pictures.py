"""JPEG and PNG files: which there are, what they are called, what is in them."""

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storage.errors import BrickNotFound, CorruptFile, NothingToDo

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


def list_pictures(folder: str | Path) -> list[Path]:
    """Return the pictures below a folder, in order of their names."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BrickNotFound(f"{folder} is not a folder; give the folder of the pictures")
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(PICTURE_SUFFIXES)
    ]
    if not found:
        raise NothingToDo(f"{folder}: no .jpg, .jpeg or .png below it; check the folder")
    return sorted(found, key=lambda path: (path.stem, str(path)))


def read_picture(path: Path, size: int, central_fraction: float) -> NDArray[np.float32]:
    """Read the central square of a picture.

    Parameters
    ----------
    path : Path
    size : int
        Side of the result [pixel].
    central_fraction : float
        Part of the square's side that is kept.

    Returns
    -------
    ndarray, shape (3, size, size), float32, 0 to 255
        Red, green, blue; the first row is the bottom of the picture.

    Raises
    ------
    CorruptFile
        When the picture cannot be decoded.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            side = min(width, height) * central_fraction
            left, top = (width - side) / 2, (height - side) / 2
            resized = picture.convert("RGB").resize(
                (size, size),
                Image.Resampling.LANCZOS,
                box=(left, top, left + side, top + side),
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptFile(f"{path.name}: unreadable picture ({error}); fetch it again") from error
    planes = np.asarray(resized, np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray(planes[:, ::-1])


def image_release_code(name: str) -> int:
    """Return the RELEASE code of an image folder's survey: above those of the Legacy Surveys."""
    return 100_000 + _number(name) % (2**31 - 100_000)


def picture_objid(stem: str) -> int:
    """Return the objid of a picture: its name if that is a number, else 63 bits of its hash."""
    if stem.isascii() and stem.isdigit() and int(stem) < 2**63:
        return int(stem)
    return _number(stem)


def _number(text: str) -> int:
    """Return 63 bits of the SHA-256 of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
