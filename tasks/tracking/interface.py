"""What a registered model takes and gives, in the file that MLflow reads: `MLmodel`.

Weights are safetensors and code is this package, so nothing is pickled: the flavour names the
module that loads the folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from tasks.provenance import environment

LOADER = "tasks.served_model"
_KINDS = {"f": DataType.double, "i": DataType.long, "u": DataType.long, "b": DataType.boolean}


def write_interface(
    directory: Path,
    run_id: str,
    *,
    bands: int,
    size: int,
    columns: Mapping[str, np.dtype[Any]],
) -> None:
    """Write the `MLmodel` file of a folder of weights.

    Parameters
    ----------
    bands, size : int
        Of the cutouts that the model takes.
    columns : mapping of str to dtype
        What it presents of each.
    """
    cube, plane = (-1, bands, size, size), (-1, size, size)
    takes = [
        TensorSpec(np.dtype(np.float32), cube, "image"),
        TensorSpec(np.dtype(np.float32), cube, "invvar"),
        TensorSpec(np.dtype(np.int32), plane, "maskbits"),
    ]
    gives = [
        ColSpec(_KINDS.get(kind.kind, DataType.string), name) for name, kind in columns.items()
    ]
    model = Model(
        artifact_path=directory.name,
        run_id=run_id,
        signature=ModelSignature(inputs=Schema(takes), outputs=Schema(gives)),
    )
    python = environment()["python"]
    model.add_flavor("python_function", loader_module=LOADER, python_version=python)
    model.save(str(directory / "MLmodel"))
