"""Registered models on this machine: copied into the home once, loaded from there.

MLflow is asked, and imported, only where a model is not there yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.references import ModelRef
from tasks.settings import Settings

if TYPE_CHECKING:
    from lvm.downstream import DownstreamModel


def model_folder(settings: Settings, model: ModelRef) -> Path:
    """Return where the files of a model are once `tasks.tracking.download_model` copied them."""
    kept = settings.home.resolve() / "models" / f"{model.downstream}-{model.version}"
    return kept / model.digest[:16]


def load_model(settings: Settings, reference: ModelRef) -> DownstreamModel:
    """Load a registered model and check that it is the one the reference names.

    Raises
    ------
    ValueError
        If the stored weights have another digest than the reference.
    """
    from lvm.downstream import DownstreamModel  # torch: the registry, which imports this, has none

    directory = model_folder(settings, reference)
    if not directory.is_dir():
        from tasks.tracking import download_model

        directory = download_model(settings, reference)
    model = DownstreamModel.load(directory)
    found = (directory / "digest").read_text().strip()
    if found != reference.digest:
        raise ValueError(
            f"{reference.downstream} version {reference.version} has digest {found[:16]}, recorded "
            f"as {reference.digest[:16]}: its files were changed after it was registered"
        )
    return model
