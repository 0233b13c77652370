"""The demonstration: the whole DAG on a synthetic survey, with everything in one folder."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.model_parameters import DownstreamConfig, PretrainConfig
from flows.parameters import SplitConfig, read_config
from storage.synthetic import SyntheticConfig, write_synthetic_release
from tasks.answers import WaitingPromotion
from tasks.promotion import waiting_promotions

POLL_SECONDS = 2.0

# Small bricks, crowded and bright, so that two cores render a thousand resolved galaxies in a
# minute; a full brick of 3600 x 3600 pixels at real density has about 240, most of them faint.
# Another seed than that of the survey that the shipped weights were pre-trained on.
DEMO_RELEASE = SyntheticConfig(count=4, brick_size=1800, density=6.0, bright_tilt=0.2, seed=7)
# From the shipped weights, long enough to see the loss fall further on this survey.
DEMO_PRETRAIN = read_config(
    PretrainConfig,
    None,
    {
        "start": "nano-synthetic",
        "train.epochs": 2,
        "train.learning_rate": 5e-4,
        "batch_size": 64,
    },
)
# From an encoder of a few minutes of pre-training, so every layer learns at nearly the full rate.
DEMO_FINETUNE = read_config(
    DownstreamConfig,
    None,
    {
        "fine_tune.mode": "full",
        "fine_tune.full.epochs": 16,
        "fine_tune.full.learning_rate": 1e-3,
        "fine_tune.full.layer_decay": 0.95,
    },
)
# Four small bricks cover few of the default cells (3.4 arcmin), so that a split could be empty;
# these of 51 arcsec are still wider than a cutout.
DEMO_SPLIT = SplitConfig(healpix_order=12, train=0.7, val=0.1, test=0.2)


def write_release(folder: Path, config: SyntheticConfig = DEMO_RELEASE) -> list[str]:
    """Write the pretend survey, unless it is there already; return its truth tables."""
    if not (folder / "survey-bricks.fits.gz").is_file():
        write_synthetic_release(folder, config)
    return [str(path) for path in sorted((folder / "truth").rglob("truth-*.fits*"))]


@contextmanager
def watch_for_decision(tell: Callable[[WaitingPromotion], None]) -> Iterator[None]:
    """Call `tell` once for every promotion that waits while the block runs."""
    stop = threading.Event()
    told: set[str] = set()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            for item in waiting_promotions():
                if item.flow_run_id not in told:
                    told.add(item.flow_run_id)
                    tell(item)

    thread = threading.Thread(target=watch, name="watch-for-decision", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
