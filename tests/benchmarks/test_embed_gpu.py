"""Embedding on a GPU: bare and whole rates, and how much of the matrix rate of the card is used.

`make bench ONLY=embed_gpu`. Skips without CUDA. The whole way is that of one worker: store, pinned
memory, card, store; without Dask, which adds a call for thousands of cutouts.
"""

import time
from pathlib import Path

import pytest
import torch
from figures import Figure, record
from small_survey import write_small_survey
from timm.layers import set_fused_attn
from torch.utils.flop_counter import FlopCounterMode

from lvm.checkpoint import save_encoder
from lvm.encoder import EncoderConfig, create_encoder
from lvm.forward import Forward, ForwardConfig, autocast
from storage.brick_store import RowRange, ledger_of
from storage.embedding_store import embedding_group
from storage.repository import fork, open_repository
from tasks.embedding import plan_embedding
from tasks.embedding_worker import EmbedRequest, embed_bricks, forward_of
from tasks.references import EncoderRef, SnapshotRef
from tasks.snapshots import open_snapshot

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIZE = 152
BRICKS, BRICK_OBJECTS = 32, 256
RUNS = 5
GALAXIES = 76e6
# 152 px is no multiple of the strides of a four-stage Swin: resampled to 160 px.
INPUTS = {128: {"input_size": 128}, 152: {"input_size": 160, "crop_size": 152}}
MATRIX = 8192


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SnapshotRef:
    counts = {f"b{number}": BRICK_OBJECTS for number in range(1, BRICKS + 1)}
    return write_small_survey(tmp_path_factory.mktemp("survey"), counts, size=SIZE)


@pytest.fixture(scope="module")
def matrix_rate() -> float:
    """Return the FLOP/s that this card reaches in products of large bfloat16 matrices."""
    a = torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16)
    best = 0.0
    for _ in range(20):
        seconds = _seconds(lambda: a @ a)
        best = max(best, 2 * MATRIX**3 / seconds)
    record(_figure("embed_gpu.matrix_tflops", "TFLOP/s", "bfloat16, 8192", [best / 1e12]))
    return best


@pytest.mark.parametrize("size", sorted(INPUTS))
@pytest.mark.parametrize("name", ["tiny", "base"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
def test_embed_gpu(survey, tmp_path, matrix_rate, name, size, compiled, channels_last):
    config = EncoderConfig(name, **INPUTS[size])
    encoder = create_encoder(config)
    folder = tmp_path / "encoder"
    reference = EncoderRef(path=str(folder), digest=save_encoder(encoder, folder))
    forward = ForwardConfig(
        device="cuda", precision="bfloat16", compile=compiled, channels_last=channels_last
    )
    flops = _flops(config)
    bare, whole = [], []
    embed = _whole(survey, reference, forward)
    embed()  # warm up: kernels, compilation, pinned memory
    for _ in range(RUNS):
        bare.append(_bare(forward_of(reference, forward)))
        whole.append(BRICKS * BRICK_OBJECTS / _seconds(embed))
    how = f"{'compiled' if compiled else 'eager'}{', channels last' if channels_last else ''}"
    key = f"embed_gpu.{name}_{size}px_{how.replace(', ', '_').replace(' ', '_')}"
    record(_figure(f"{key}_bare", "cutouts/s", f"bfloat16, {how}", bare))
    record(_figure(f"{key}_whole", "cutouts/s", "store to store, one process", whole))
    ratios = [one / other for one, other in zip(whole, bare, strict=True)]
    record(_figure(f"{key}_over_forward", "ratio", "the bare rate", ratios, ">= 0.9"))
    mfu = [rate * flops / matrix_rate for rate in bare]
    record(_figure(f"{key}_mfu", "ratio", f"{flops / 1e9:.3g} GFLOP a cutout", mfu))
    hours = [GALAXIES / rate / 3600 for rate in whole]
    record(_figure(f"{key}_gpu_hours_76m", "GPU h", "76 million divided by the rate", hours))
    assert min(whole) > 0


def _whole(survey: SnapshotRef, reference: EncoderRef, forward: ForwardConfig):
    names = plan_embedding.fn(survey, reference)
    table = ledger_of(open_snapshot(survey), survey.survey, names)
    rows = {
        str(name): RowRange(int(row["row_start"]), int(row["rows"]))
        for name, row in table.to_dict("index").items()
    }
    group = embedding_group(reference.digest, survey.survey)
    request = EmbedRequest(survey, reference, group, forward)
    repository = open_repository(Path(survey.store) / "embeddings")

    def embed() -> None:
        embed_bricks(fork(repository.writable_session("main")), request, rows)

    return embed


def _bare(forward: Forward) -> float:
    encoder = forward._encoder
    shape = (forward.batch_size, encoder.spec.bands, *[encoder.spec.input_size] * 2)
    inputs = torch.randn(shape, device="cuda").contiguous(memory_format=forward._format)
    features = forward._features or encoder.features

    def passes() -> None:
        with torch.inference_mode(), autocast("cuda", forward.precision):
            for _ in range(10):
                features(inputs)

    passes()
    return 10 * len(inputs) / _seconds(passes)


def _flops(config: EncoderConfig) -> float:
    set_fused_attn(enable=False)
    try:
        encoder = create_encoder(config)
    finally:
        set_fused_attn(enable=True)
    side = encoder.spec.input_size
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder.features(torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops())


def _seconds(work) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _figure(name: str, unit: str, bound: str, values: list[float], goal: str = "reported"):
    return Figure(name, unit, goal, bound, values, device=torch.cuda.get_device_name())
