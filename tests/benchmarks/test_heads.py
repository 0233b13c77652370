"""How long a head takes on ten thousand stored embeddings: `make bench ONLY=head`."""

import os
import time

import numpy as np
import torch
from figures import Figure, record

from lvm.downstream import create_task
from lvm.encoder import EncoderConfig, create_encoder
from lvm.finetuning import FineTuneConfig, fine_tune
from lvm.training import constant_batches

OBJECTS = 10_000
RUNS = 3
HIDDEN = 256  # the paper's two-layer head, the larger of the two


def embeddings(width: int) -> dict[str, np.ndarray]:
    """Return embeddings of four kinds of objects, and the votes of twenty people on each."""
    rng = np.random.default_rng(0)
    kind = rng.integers(4, size=OBJECTS)
    centres = rng.normal(size=(4, width))
    vectors = centres[kind] + 3.0 * rng.normal(size=(OBJECTS, width))
    votes = np.full((OBJECTS, 4), 2.0, np.float32)
    votes[np.arange(OBJECTS), kind] += 12.0
    return {"embedding": vectors.astype(np.float32), "target": votes}


def test_head():
    torch.set_num_threads(os.cpu_count() or 1)
    task = create_task("morphology", {"hidden": HIDDEN})
    encoder = create_encoder(EncoderConfig("tiny"))
    batch = embeddings(encoder.spec.width)
    seconds, losses = [], []
    for _ in range(RUNS):
        start = time.perf_counter()
        result = fine_tune(task, encoder, constant_batches([batch]), FineTuneConfig())
        seconds.append(time.perf_counter() - start)
        losses.append(result.head.history[-1]["loss"])
    assert losses[-1] < result.head.history[0]["loss"]
    record(
        Figure(
            "head.fit_10k_seconds",
            "s",
            "seconds",
            f"two layers, {FineTuneConfig().head.epochs} epochs, width {encoder.spec.width}",
            seconds,
        )
    )
