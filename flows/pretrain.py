"""Cutouts to an encoder, by self-supervised pre-training."""

from prefect import flow

from flows.model_parameters import PretrainConfig
from tasks.open_lineage import HOOKS
from tasks.pretraining import assist_pretraining, assists, pretrain_on_snapshot
from tasks.references import EncoderRef
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot


@flow(name="pretrain-encoder", **HOOKS)
def pretrain_encoder(
    survey: str, config: PretrainConfig | None = None, snapshot_id: str | None = None
) -> EncoderRef:
    """Train an encoder on the cutouts of a survey without any label.

    Parameters
    ----------
    survey : str
        Such as "dr10/south".
    config : PretrainConfig, optional
        Encoder, objective, schedule.
    snapshot_id : str, optional
        Snapshot of the cutouts; the newest by default.
    """
    settings = load_settings()
    snapshot = find_snapshot(settings, survey, snapshot_id)
    return pretrain_on_snapshot(settings, snapshot, config or PretrainConfig())


def assist_encoder(survey: str, config: PretrainConfig, snapshot_id: str | None = None) -> bool:
    """Help process 0 of `torchrun`, outside Prefect; return False, at once, in process 0 itself."""
    if not assists():
        return False
    settings = load_settings()
    assist_pretraining(settings, find_snapshot(settings, survey, snapshot_id), config)
    return True
