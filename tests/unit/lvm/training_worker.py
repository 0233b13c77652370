"""A small training as a process of its own: to be killed, or started twice by a launcher.

Arguments: the folder to write to, and the number of epochs. Writes `history.json` (process 0) and
`weights-<rank>.pt`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from lvm.augment import AugmentConfig
from lvm.distributed import joined, share_of_rows
from lvm.objectives import ObjectiveConfig, pretrain
from lvm.simmim import SimMIMConfig
from lvm.testing import TinyEncoder, galaxies
from lvm.training import TrainConfig

OBJECTS, BATCH = 16, 8
# Nothing is drawn at random, so that one process and two see the same pixels.
STILL = SimMIMConfig("reconstruction", mask_patch=4, augment=AugmentConfig(False, False))


def main(folder: Path, epochs: int) -> None:
    """Train and write what came out."""
    torch.set_num_threads(1)
    data = galaxies(OBJECTS, np.random.default_rng(0))
    train = TrainConfig(epochs=epochs, learning_rate=1e-3, ema_decay=0.5)
    with joined() as world:
        rows = share_of_rows(np.arange(OBJECTS), world)
        if world.size == 1:  # the batches that two processes make together from their halves
            rows = rows.reshape(2, 2, BATCH // 2).transpose(1, 0, 2).ravel()
        size = BATCH // world.size

        def batches(epoch):
            parts = [rows[start : start + size] for start in range(0, len(rows), size)]
            return [{name: values[part] for name, values in data.items()} for part in parts]

        def tell(event):
            if event.kind == "epoch":
                (folder / "epochs").write_text(str(event.epoch))

        encoder = TinyEncoder(seed=world.rank)  # process 0's weights must win
        config = ObjectiveConfig(("reconstruction",), painting=STILL)
        result = pretrain(encoder, batches, train, config, [tell], folder / "run.pt")
        torch.save(result.model.state_dict(), folder / f"weights-{world.rank}.pt")
        if world.leads:
            (folder / "history.json").write_text(json.dumps(result.fit.history))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
