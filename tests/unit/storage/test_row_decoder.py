"""Rows decoded by our own loops against numcodecs, and what neither can decode."""

import sys

import numpy as np
import pytest
from numcodecs.blosc import Blosc

from storage import row_decoder
from storage.compiled_loops import compiled_loops
from storage.errors import SchemaMismatch
from storage.row_decoder import RowDecoder
from storage.schema import CHUNK_ROWS

kernel = pytest.importorskip("storage.blosc_kernel", reason="numba is not installed")
STORED = Blosc("blosclz", 1, Blosc.SHUFFLE, 1 << 17)
EVERY_ROW = np.arange(CHUNK_ROWS)


def numbers(kind: str, side: int) -> np.ndarray:
    """Return a chunk (row, band, y, x) of float32."""
    rng = np.random.default_rng(side)
    shape = (CHUNK_ROWS, 3, side, side)
    noise = rng.standard_normal(shape, np.float32)
    if kind == "rounded noise":
        return np.round(noise * 2**12) / np.float32(2**12)
    if kind == "zeros":
        return np.zeros(shape, np.float32)
    if kind == "mostly zeros":
        return np.where(rng.random(shape) < 0.02, noise, np.float32(0))
    if kind == "columns":  # as invvar: chips of one depth
        return np.broadcast_to(np.round(noise[:, :, :1] * 8), shape).copy()
    if kind == "far repeats":  # further back than the short form of a distance reaches
        words = rng.integers(0, 2**32, (40, 32), np.uint32)
        return np.resize(words[rng.integers(0, 40, 25_000)].view(np.float32), shape)
    return noise  # "noise"


class Counted:
    """The compiled loops, and how often they decoded a chunk."""

    def __init__(self) -> None:
        self.decoded = 0

    def decode_rows(self, *arguments: np.ndarray) -> bool:
        done = kernel.decode_rows(*arguments)
        self.decoded += bool(done)
        return done


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(row_decoder, "compiled_loops", lambda *_: counted)
    return counted


def decoded(
    codec: Blosc, chunk: np.ndarray, rows: np.ndarray, places: np.ndarray, crop: int | None = None
) -> np.ndarray:
    decoder = RowDecoder(codec, chunk.shape[1:], crop, n_rows=10**6)
    target = np.full((40, *decoder.shape), 7, chunk.dtype)
    packed = np.frombuffer(codec.encode(chunk), np.uint8)
    decoder.decode(packed, target, places, rows)
    return target


def expected(chunk: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    target = np.full((40, *chunk.shape[1:]), 7, chunk.dtype)
    target[places] = chunk[rows]
    return target


@pytest.mark.parametrize("side", [8, 50, 152, 160])
@pytest.mark.parametrize("kind", ["rounded noise", "zeros", "mostly zeros", "columns"])
def test_rows_come_bit_for_bit_and_nothing_else_is_touched(loops, kind, side):
    chunk = numbers(kind, side)
    rng = np.random.default_rng(1)
    for count in (1, 5, CHUNK_ROWS):
        rows, places = rng.permutation(CHUNK_ROWS)[:count], rng.permutation(40)[:count]
        found = decoded(STORED, chunk, rows, places)
        np.testing.assert_array_equal(
            found.view(np.uint32), expected(chunk, rows, places).view(np.uint32)
        )
    assert loops.decoded == 3


@pytest.mark.parametrize("block", [0, 1 << 12, 1 << 15, 1 << 18])
@pytest.mark.parametrize("level", [1, 5, 9])
def test_any_block_and_level_of_the_codec(loops, block, level):
    chunk = numbers("columns", 50)
    chunk[::3] = numbers("rounded noise", 50)[::3]
    found = decoded(
        Blosc("blosclz", level, Blosc.SHUFFLE, block), chunk, EVERY_ROW, EVERY_ROW[::-1]
    )
    np.testing.assert_array_equal(found[:CHUNK_ROWS], chunk[::-1])
    assert loops.decoded == 1


def test_repeats_from_far_back(loops):
    chunk = numbers("far repeats", 152)
    found = decoded(Blosc("blosclz", 9, Blosc.SHUFFLE, 1 << 20), chunk, EVERY_ROW, EVERY_ROW)
    np.testing.assert_array_equal(found[:CHUNK_ROWS], chunk)
    assert loops.decoded == 1


@pytest.mark.parametrize("crop", [1, 2, 33, 80, 151, 152])
@pytest.mark.parametrize("numba", [True, False])
def test_the_central_square(monkeypatch, crop, numba):
    if not numba:
        monkeypatch.setattr(row_decoder, "compiled_loops", lambda *_: None)
    chunk = numbers("rounded noise", 152)
    rng = np.random.default_rng(2)
    for count in (3, CHUNK_ROWS):
        rows, places = rng.permutation(CHUNK_ROWS)[:count], rng.permutation(40)[:count]
        found = decoded(STORED, chunk, rows, places, crop)
        low = 76 - crop // 2
        central = chunk[..., low : low + crop, low : low + crop]
        np.testing.assert_array_equal(found, expected(central, rows, places))
        assert found[places[0], 0, crop // 2, crop // 2] == chunk[rows[0], 0, 76, 76]


@pytest.mark.parametrize("crop", [0, -3, 51])
def test_a_square_that_is_not_in_the_cutout_is_refused(crop):
    with pytest.raises(SchemaMismatch, match="the cutouts have 50 x 50"):
        RowDecoder(STORED, (3, 50, 50), crop)


def test_integers_too(loops):
    chunk = np.random.default_rng(0).integers(0, 1 << 17, (CHUNK_ROWS, 50, 50), np.int32)
    found = decoded(STORED, chunk, EVERY_ROW, EVERY_ROW + 20)
    np.testing.assert_array_equal(found[20 : 20 + CHUNK_ROWS], chunk)
    assert loops.decoded == 1


@pytest.mark.parametrize(
    "codec",
    [
        Blosc("lz4", 5, Blosc.SHUFFLE),
        Blosc("blosclz", 1, Blosc.NOSHUFFLE),
        Blosc("blosclz", 1, Blosc.BITSHUFFLE),
        Blosc("zstd", 1, Blosc.SHUFFLE),
        Blosc("blosclz", 0, Blosc.SHUFFLE),  # as it is
    ],
    ids=str,
)
def test_other_forms_are_numcodecs_own(loops, codec):
    chunk = numbers("columns", 50)
    for rows, places in ((EVERY_ROW, EVERY_ROW), (EVERY_ROW[3:9], EVERY_ROW[9:3:-1])):
        np.testing.assert_array_equal(
            decoded(codec, chunk, rows, places), expected(chunk, rows, places)
        )
    assert loops.decoded == 0


def test_blocks_that_are_too_small_to_be_split(loops):
    chunk = numbers("columns", 2)[:, :1].copy()
    found = decoded(STORED, chunk, EVERY_ROW, EVERY_ROW)
    np.testing.assert_array_equal(found[:CHUNK_ROWS], chunk)
    assert loops.decoded == 0


def test_a_row_that_is_wanted_twice(loops):
    chunk = numbers("columns", 8)
    rows, places = np.array([5, 2, 5]), np.array([0, 1, 2])
    np.testing.assert_array_equal(decoded(STORED, chunk, rows, places)[:3], chunk[rows])


def test_without_numba_the_same_comes(monkeypatch):
    chunk = numbers("rounded noise", 50)
    rows, places = EVERY_ROW[4:], EVERY_ROW[4:][::-1]
    monkeypatch.setitem(sys.modules, "storage.blosc_kernel", None)
    compiled_loops.cache_clear()
    try:
        found = decoded(STORED, chunk, rows, places)
    finally:
        compiled_loops.cache_clear()
    np.testing.assert_array_equal(found, expected(chunk, rows, places))


def test_for_few_rows_loops_are_used_but_not_loaded(monkeypatch):
    def kernel():
        return RowDecoder(STORED, (2, 24, 24), n_rows=row_decoder.KERNEL_ROWS - 1)._kernel

    compiled_loops("storage.blosc_kernel", "")
    assert kernel() is not None
    monkeypatch.delitem(sys.modules, "storage.blosc_kernel")
    assert kernel() is None


@pytest.mark.parametrize("kind", ["rounded noise", "mostly zeros", "columns"])
def test_damaged_chunks_are_errors_or_what_numcodecs_makes_of_them(kind):
    chunk = numbers(kind, 24)
    rng = np.random.default_rng(5)
    whole = np.frombuffer(STORED.encode(chunk), np.uint8)
    differing = 0
    for attempt in range(300):
        packed = whole.copy()
        at = rng.integers(16, len(packed) if attempt % 2 else 200, 3)
        packed[at] = rng.integers(0, 256, 3)
        target = np.full((40, *chunk.shape[1:]), 7, np.float32)
        try:
            decoder = RowDecoder(STORED, chunk.shape[1:], n_rows=10**6)
            decoder.decode(packed, target, EVERY_ROW + 12, EVERY_ROW)
        except (RuntimeError, ValueError):
            differing += 1
            continue
        assert (target[:12] == 7).all()
        assert (target[12 + CHUNK_ROWS :] == 7).all()
        differing += not np.array_equal(target[12 : 12 + CHUNK_ROWS], chunk)
    assert differing > 30


def test_code_that_ends_early_or_points_outside_is_refused():
    out = np.zeros(1000, np.uint8)
    literal = np.array([3, 1, 2, 3, 4], np.uint8)
    assert kernel.expand(literal, 0, 5, out[:4])
    assert out[:4].tolist() == [1, 2, 3, 4]
    for code, size in (
        ([], 4),
        ([3, 1, 2], 4),  # four bytes are promised, two are there
        ([3, 1, 2, 3, 4], 3),  # more than there is room for
        ([3, 1, 2, 3, 4], 5),  # less than was asked for
        ([0, 9, 32 + 1, 0], 5),  # from before the beginning
        ([0, 9, 224, 255, 255], 900),  # a length without an end
        ([0, 9, 32], 5),  # a distance is missing
        ([0, 9, 63, 255, 1], 5),  # half of a far distance
    ):
        data = np.array(code, np.uint8)
        assert not kernel.expand(data, 0, len(data), out[:size]), code
