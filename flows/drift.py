"""Drift: embeddings of two surveys or snapshots compared, and of every brick with the rest."""

from prefect import flow

from flows.parameters import forbid_unknown_keys
from storage.drift.two_sample import DriftLimits
from tasks.drift import DriftRef, measure_drift
from tasks.references import EncoderRef
from tasks.settings import load_settings

forbid_unknown_keys(DriftLimits)


@flow(name="check-drift")
def check_drift(
    encoder: EncoderRef, first: str, second: str = "", limits: DriftLimits | None = None
) -> DriftRef:
    """Compare the embeddings of two surveys or snapshots by one encoder.

    Parameters
    ----------
    encoder : EncoderRef
        One that has embedded both.
    first, second : str
        Such as "dr10/south", or "dr10/south@dr10-south-0001" for a tagged snapshot. Without a
        second, only the bricks of the first are compared with one another.
    """
    return measure_drift(load_settings(), encoder, first, second, limits)
