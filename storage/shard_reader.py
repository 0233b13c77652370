"""Read the pixel arrays of a survey shard by shard, straight into the arrays of a batch.

Skips Zarr's per-chunk machinery (`storage.shard_layout`): a shard is read at once, and its rows are
decoded right where the batch wants them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt

from storage import arrays
from storage.buffers import shared_pool
from storage.errors import CorruptFile, SchemaMismatch
from storage.row_decoder import RowDecoder, Rows
from storage.schema import CHUNK_ROWS, PIXEL_ARRAYS, SHARD_ROWS
from storage.shard_layout import Bytes, codec_of
from storage.shard_source import ShardSource

Pixels = dict[str, npt.NDArray[Any]]


class ShardReader:
    """Read cutouts from one survey of one snapshot; safe to use from several threads.

    Parameters
    ----------
    session : Session
        Where to read.
    survey_key : str
        The survey group.
    fields : sequence of str
        Which of "image", "invvar" and "maskbits" to read.
    n_rows : int
        How many rows will be read, for `storage.row_decoder.RowDecoder`.
    crop : int, optional
        Side of the central square to read [pixel].
    """

    def __init__(
        self,
        session: icechunk.Session,
        survey_key: str,
        fields: Sequence[str] = PIXEL_ARRAYS,
        n_rows: int = 0,
        crop: int | None = None,
    ) -> None:
        unknown = set(fields) - set(PIXEL_ARRAYS)
        if unknown or not fields:
            raise SchemaMismatch(f"fields {tuple(fields)}: choose among {PIXEL_ARRAYS}")
        group = arrays.open_group(session, survey_key)
        self.fields = tuple(fields)
        self._path = survey_key
        self._arrays = {name: arrays.get_array(group, name) for name in self.fields}
        self._source = ShardSource(session, self._arrays)
        self._decoders = {
            name: RowDecoder(codec_of(array), array.shape[1:], crop, n_rows)
            for name, array in self._arrays.items()
        }
        self._pool = shared_pool(
            {
                name: (self._decoders[name].shape, array.dtype)
                for name, array in self._arrays.items()
            }
        )

    def close(self) -> None:
        """Free what the reading threads left; call it after they have ended."""
        self._source.close()

    def check_rows(self, rows: Sequence[int] | Rows) -> Rows:
        """Return the rows as int64, or raise IndexError when one is outside the arrays."""
        wanted = np.asarray(rows, dtype=np.int64)
        length = self._arrays[self.fields[0]].shape[0]
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= length):
            raise IndexError(
                f"rows {wanted.min()} to {wanted.max()} of survey {self._path!r}, which has "
                f"{length} rows: take rows from the ledger of the same snapshot"
            )
        return wanted

    def empty(self, n_rows: int) -> Pixels:
        """Return arrays to read ``n_rows`` cutouts into, typed as stored."""
        return self._pool.take(n_rows)

    def read_into(self, pixels: Mapping[str, npt.NDArray[Any]], places: Rows, rows: Rows) -> None:
        """Read rows of one shard into places of the arrays.

        Parameters
        ----------
        pixels : mapping of str to ndarray
            Arrays made by `empty`.
        places, rows : ndarray, shape (n,), int64
            Row ``rows[i]`` goes to ``pixels[name][places[i]]``; all rows are in one shard.

        Raises
        ------
        CorruptFile
            When the bytes of a cutout are damaged.
        """
        shard = int(rows[0]) // SHARD_ROWS
        local = rows - shard * SHARD_ROWS
        wanted = np.unique(local // CHUNK_ROWS).tolist()
        for chunk, packed in self._source.chunks(shard, wanted):
            inside = local // CHUNK_ROWS == chunk
            there, found = places[inside], local[inside] % CHUNK_ROWS
            for name in self.fields:
                self._place(pixels[name], there, found, packed[name], (name, shard))

    def _place(
        self,
        target: npt.NDArray[Any],
        places: Rows,
        rows: Rows,
        packed: Bytes | None,
        origin: tuple[str, int],
    ) -> None:
        """Decode some rows of a chunk into their places."""
        if packed is None:
            target[places] = 0  # the fill value of every pixel array
            return
        name, shard = origin
        try:
            self._decoders[name].decode(packed, target, places, rows)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CorruptFile(
                f"shard {shard} of {self._arrays[name].path!r} cannot be decoded: "
                "ingest its brick again"
            ) from error
