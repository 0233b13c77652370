"""Champions for tests of prediction and publication, without a training and without a gate."""

import tempfile
from pathlib import Path

from lvm.downstream import DownstreamModel, create_task
from lvm.encoder import Encoder
from lvm.testing import TinyEncoder
from tasks import tracking as registry
from tasks.references import ModelRef
from tasks.settings import Settings


def make_champion(settings: Settings, seed: int = 0, encoder: Encoder | None = None) -> ModelRef:
    """Register a model with a random head of its own and make it champion by hand."""
    downstream = "morphology"
    model = DownstreamModel(create_task(downstream), encoder or TinyEncoder(), seed=seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        registry.start_run(settings, experiment="finetune", run_name="r") as run,
    ):
        digest = model.save(Path(folder) / "model")
        run.log_artifacts(Path(folder) / "model", "model")
    reference = registry.register_candidate(
        settings,
        downstream,
        run_id=run.run_id,
        artifact="model",
        digest=digest,
        tags={"encoder_digest": model.encoder_digest, "survey": "dr10/south"},
    )
    registry.set_alias(settings, reference, registry.CHAMPION)
    return reference
