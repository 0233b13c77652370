"""Create and find the declared arrays in a Zarr group; nothing about what they mean.

The only module that chooses codecs. A session is anything with a Zarr ``store``: a read-only,
writable or forked Icechunk session.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import icechunk
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.errors import GroupNotFoundError

from storage.errors import StorageError
from storage.schema import SHARD_ROWS, ArraySpec, shape_of

# Noise does not compress. Of the bytes of rounded pixels (storage.rounding) the last is zero, two
# are noise, and the first, sign and exponent, is worth 8 % of the size but half of the decoding
# time: at this level blosclz takes away the zeros and leaves the rest (docs/decisions/0007).
_PIXEL_CODEC = BloscCodec(cname="blosclz", clevel=1, shuffle="shuffle", blocksize=1 << 17)
_LZ4_CODEC = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
_SPARSE_CODEC = ZstdCodec(level=1)
_CODECS = {
    "image": _PIXEL_CODEC,
    "invvar": _PIXEL_CODEC,
    "maskbits": _LZ4_CODEC,
    "embedding": _LZ4_CODEC,
}
# Rows that are read and thrown away rather than starting another read.
_READ_THROUGH_ROWS = 4 * SHARD_ROWS


def open_group(session: icechunk.Session, path: str, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Open an existing group.

    Raises
    ------
    StorageError
        When the snapshot has no such group.
    """
    try:
        return zarr.open_group(session.store, path=path, mode=mode)
    except (GroupNotFoundError, FileNotFoundError) as error:
        raise StorageError(
            f"{path!r} is not in this snapshot: ingest or embed it first, or check the survey key"
        ) from error


def group_exists(session: icechunk.Session, path: str) -> bool:
    """Say whether the snapshot has this group."""
    try:
        open_group(session, path)
    except StorageError:
        return False
    return True


def list_groups(session: icechunk.Session, path: str = "") -> list[str]:
    """Return the names of the groups directly below a path, sorted; none where there is no path."""
    try:
        parent = zarr.open_group(session.store, path=path, mode="r")
    except (GroupNotFoundError, FileNotFoundError):
        return []
    return sorted(name for name, _ in parent.groups())


def create_group(session: icechunk.Session, path: str, attributes: Mapping[str, Any]) -> zarr.Group:
    """Create a group with its attributes; parents are created too."""
    return zarr.create_group(session.store, path=path, attributes=dict(attributes))


def delete_group(session: icechunk.Session, path: str) -> None:
    """Take a group and everything below it out of the next snapshot."""
    del zarr.open_group(session.store, mode="r+")[path]


def get_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """Return an array of a group.

    Raises
    ------
    StorageError
        When the group has no array of this name.
    """
    member = group.get(name)
    if not isinstance(member, zarr.Array):
        raise StorageError(f"group {group.path!r} has no array {name!r}: it is not a survey group")
    return member


def create_array(
    group: zarr.Group,
    spec: ArraySpec,
    lengths: Mapping[str, int],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Create a declared array with no rows."""
    described = {"long_name": spec.description} | ({"units": spec.unit} if spec.unit else {})
    inner = shape_of(spec, lengths, spec.chunk)
    outer = shape_of(spec, lengths, spec.shard)
    group.create_array(
        spec.name,
        shape=shape_of(spec, lengths, 0),
        dtype=str if spec.dtype == "str" else np.dtype(spec.dtype),
        chunks=inner,
        shards=outer if spec.shard != spec.chunk else None,
        compressors=_CODECS.get(spec.name, _SPARSE_CODEC),
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=described | dict(attributes or {}),
    )


def create_labels(group: zarr.Group, name: str, labels: Sequence[str]) -> None:
    """Create and fill a coordinate of names, such as ``band``."""
    array = group.create_array(
        name,
        shape=(len(labels),),
        dtype=str,
        chunks=(max(1, len(labels)),),
        dimension_names=(name,),
    )
    array[:] = np.array(labels, dtype=object)


def read_rows(array: zarr.Array[Any], start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
    """Return rows ``start`` to ``stop`` of an array as numpy."""
    return np.asarray(array[start : array.shape[0] if stop is None else stop])


def take_rows(array: zarr.Array[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return ascending rows of an array; near ones are read together, far ones apart."""
    result = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    breaks = np.flatnonzero(np.diff(rows) > _READ_THROUGH_ROWS) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    for first, last in pairwise(edges):
        if last > first:
            start = int(rows[first])
            slab = read_rows(array, start, int(rows[last - 1]) + 1)
            result[first:last] = slab[rows[first:last] - start]
    return result


def pick_rows(array: zarr.Array[Any], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return single rows of a 1-D array, reading only the chunks that hold them."""
    if len(rows) == 0:
        return np.empty(0, dtype=array.dtype)
    return np.asarray(array.oindex[rows])


def grow(group: zarr.Group, names: Sequence[str], rows: int) -> None:
    """Lengthen the first axis of arrays to at least ``rows``; never shortens."""
    for name in names:
        array = get_array(group, name)
        if array.shape[0] < rows:
            array.resize((rows, *array.shape[1:]))


def fill_rows(array: zarr.Array[Any], start: int, stop: int) -> None:
    """Set rows back to the fill value; whole chunks of it are removed from the store."""
    if stop > start:
        array[start:stop] = array.fill_value
