"""How much of the speed of the bare encoder is left when a survey is embedded, on processor cores.

Bare is the forward pass alone, on network input that lies in memory, in the same worker processes
and the same batches. The host is shared and its speed changes within minutes by more than what is
looked for: bare passes are timed before and after every embedding, and each is compared with the
mean of the two. What was measured beside other work is better judged by the time that the cores
were busy (`..._busy`), which does not depend on who else waits for them.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import pytest
import torch
from distributed import Client
from figures import Figure, record
from small_survey import write_small_survey
from timm.layers import set_fused_attn
from torch.utils.flop_counter import FlopCounterMode

from lvm.checkpoint import save_encoder
from lvm.encoder import PRESETS, EncoderConfig, create_encoder
from lvm.forward import BATCH_SIZES, ForwardConfig, autocast, choose_precision
from tasks.cluster import open_cluster
from tasks.embedding import EmbedRun, embed_partition, plan_embedding
from tasks.embedding_worker import forward_of
from tasks.references import EncoderRef, SnapshotRef
from tasks.settings import Settings

SIZE = 152
BRICK_OBJECTS = 256  # as many as a brick of DR10 has to z < 20: 76 million in 0.3 million bricks
# Half a minute a run of nano, one and a half of tiny; the flow commits 256 bricks at a time.
BRICKS = {"nano": 32, "tiny": 8}
BARE_SHARE = 4  # so much of its cutouts is a bare run before and after
RUNS = {1: 3, 2: 9}  # by workers
GALAXIES = 76e6  # of DR10 to z < 20, with cutouts
PRECISION = choose_precision("auto", torch.device("cpu"))
FORWARD = ForwardConfig(device="cpu")
CORES = tuple(RUNS)


@dataclass
class Rates:
    """What one number of workers reached, one value a run."""

    end_to_end: list[float] = field(default_factory=list)  # cutouts/s
    ratio: list[float] = field(default_factory=list)  # of the bare rate
    busy: list[float] = field(default_factory=list)  # the same in seconds of the cores


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SnapshotRef:
    counts = {f"b{number}": BRICK_OBJECTS for number in range(1, max(BRICKS.values()) + 1)}
    return write_small_survey(tmp_path_factory.mktemp("survey"), counts, size=SIZE)


@pytest.fixture(scope="module", params=sorted(BRICKS))
def encoder(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, EncoderRef]:
    folder = tmp_path_factory.mktemp("encoder") / request.param
    digest = save_encoder(create_encoder(EncoderConfig(request.param)), folder)
    return request.param, EncoderRef(path=str(folder), digest=digest)


def run_bare(reference: EncoderRef, count: int) -> tuple[float, float]:
    """Return the seconds, and those of the cores, that bare passes over `count` cutouts take."""
    forward = forward_of(reference, FORWARD)
    encoder = forward._encoder
    shape = (forward.batch_size, encoder.spec.bands, *[encoder.spec.input_size] * 2)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    wall, busy = time.perf_counter(), time.process_time()
    with torch.inference_mode(), autocast("cpu", forward.precision):
        for _ in range(count // forward.batch_size):
            encoder.features(inputs)
    return time.perf_counter() - wall, time.process_time() - busy


def bare_rate(client: Client, reference: EncoderRef, count: int) -> tuple[float, float]:
    """Return cutouts/s of all workers together, and the core seconds a cutout."""
    workers = list(client.ncores())
    share = count // len(workers)
    futures = [
        client.submit(run_bare, reference, share, workers=[worker], pure=False)
        for worker in workers
    ]
    times = client.gather(futures)
    return (
        sum(share / wall for wall, _ in times),
        sum(busy for _, busy in times) / (share * len(workers)),
    )


def embed_rate(
    client: Client, address: str, run: EmbedRun, names: tuple[str, ...]
) -> tuple[float, float]:
    """Return the same of the whole way: read, prepare, apply, write, commit."""
    count = len(names) * BRICK_OBJECTS
    before = client.run(time.process_time)
    start = time.perf_counter()
    embed_partition.fn(address, run, names)
    wall = time.perf_counter() - start
    after = client.run(time.process_time)
    return count / wall, sum(after[worker] - before[worker] for worker in after) / count


def measure(run: EmbedRun, names: tuple[str, ...], home: Path) -> dict[int, Rates]:
    found = {}
    for workers in CORES:
        rates = found[workers] = Rates()
        with (
            open_cluster(Settings(home=home, workers=workers)) as address,
            Client(address, set_as_default=False) as client,
        ):
            some = names[: max(1, len(names) * workers // CORES[-1])]
            count = len(some) * BRICK_OBJECTS // BARE_SHARE
            embed_rate(client, address, run, some)  # imports, encoder, compiled loops, memory
            bare, bare_busy = bare_rate(client, run.encoder, count)
            for _ in range(RUNS[workers]):
                whole, whole_busy = embed_rate(client, address, run, some)
                after, after_busy = bare_rate(client, run.encoder, count)
                rates.end_to_end.append(whole)
                rates.ratio.append(whole / mean((bare, after)))
                rates.busy.append(mean((bare_busy, after_busy)) / whole_busy)
                bare, bare_busy = after, after_busy
    return found


@pytest.fixture
def cores() -> Iterator[None]:
    """Give torch in this process, which only commits, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_embed_over_forward(survey, encoder, tmp_path, cores):
    name, reference = encoder
    run = EmbedRun(survey, reference, str(tmp_path / "log.jsonl"), FORWARD)
    names = plan_embedding.fn(survey, reference)[: BRICKS[name]]
    found = measure(run, names, tmp_path)
    suffix = "" if name == "nano" else f"_{name}"
    bound = (
        f"bare forward passes of {name} in the same {CORES[-1]} workers, batches of "
        f"{BATCH_SIZES['cpu']}, {PRECISION}; cutouts 3x{SIZE}x{SIZE} with invvar and mask"
    )
    both = found[CORES[-1]]
    record(Figure(f"embed.over_forward_cpu{suffix}", "ratio", ">= 0.95", bound, both.ratio))
    record(
        Figure(
            f"embed.over_forward_cpu{suffix}_busy",
            "ratio",
            ">= 0.95",
            f"the same of {name}, in seconds that the cores were busy",
            both.busy,
        )
    )
    alone = found[CORES[0]]
    ahead = f"one worker of one thread, {name}: reading ahead has the other core"
    record(Figure(f"embed.read_ahead{suffix}", "ratio", "reported", ahead, alone.ratio))
    for workers, rates in found.items():
        record(
            Figure(
                f"embed.{name}_per_second_{workers}_workers",
                "cutouts/s",
                "reported",
                f"whole way from the store to the commit, {PRECISION}, a thread a worker",
                rates.end_to_end,
            )
        )
    hours = [GALAXIES / rate * CORES[-1] / 3600 for rate in both.end_to_end]
    arithmetic = "76 million galaxies divided by the rate of a core"
    record(Figure(f"embed.{name}_core_hours_76m", "core h", "reported", arithmetic, hours))
    assert median(both.ratio) > 0.5


def test_embed_flops():
    set_fused_attn(enable=False)  # fused attention hides its products from the counter
    try:
        for name, shape in PRESETS.items():
            encoder = create_encoder(EncoderConfig(name))
            parameters = sum(p.numel() for p in encoder.parameters()) / 1e6
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                encoder.features(torch.zeros(1, 3, shape.input_size, shape.input_size))
            size = f"{shape.input_size} px, {parameters:.1f} M parameters"
            gflop = counter.get_total_flops() / 1e9
            record(Figure(f"embed.{name}_gflop", "GFLOP", "reported", size, [gflop]))
    finally:
        set_fused_attn(enable=True)
