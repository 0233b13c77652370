"""A registered model as `mlflow.pyfunc.load_model` gives it: cutouts in, a table of answers out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lvm.downstream import DownstreamModel
from lvm.inference import predict


class ServedModel:
    """Answers for arrays `image`, `invvar` and `maskbits`, as the signature says."""

    def __init__(self, model: DownstreamModel) -> None:
        self.model = model

    def predict(self, model_input: Mapping[str, Any], params: Any = None) -> pd.DataFrame:
        """Return one row a cutout; `params` is MLflow's, and not used."""
        batch = {name: np.asarray(values) for name, values in model_input.items()}
        [(_, columns)] = predict(self.model, [batch])
        return pd.DataFrame(columns)


def _load_pyfunc(path: str) -> ServedModel:
    """Load a folder of weights; the name is MLflow's. Changed files are refused by their digest."""
    return ServedModel(DownstreamModel.load(Path(path)))
