"""What a batch is, and how arrays of a batch become tensors on a device.

A batch is a mapping with `image` and `invvar` (object, band, y, x), `maskbits` (object, y, x),
and what the use needs: `rows` (object,), `target`, or `embedding` in place of the pixels. The
values are numpy arrays or tensors; this module does not read, shuffle or split anything.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

Batch = Mapping[str, Any]
Tensors = dict[str, torch.Tensor]


def to_tensors(batch: Batch, device: torch.device | str = "cpu") -> Tensors:
    """Return the arrays of a batch as tensors on `device`; other values are left out.

    Floating arrays become float32. Arrays of strings or objects cannot be tensors: they are
    dropped here, the caller keeps its own batch. Read-only arrays are copied.
    """
    tensors = {}
    for name, value in batch.items():
        tensor = _tensor(value)
        if tensor is not None:
            tensors[name] = tensor.to(device, non_blocking=True)
    return tensors


def batch_size(batch: Batch) -> int:
    """Return the number of objects of a batch, and check that all its arrays agree on it."""
    sizes = {name: len(value) for name, value in batch.items() if hasattr(value, "__len__")}
    if not sizes:
        raise ValueError("an empty batch: it has no array to count objects in")
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the arrays of a batch disagree on the number of objects: {sizes}")
    return int(next(iter(sizes.values())))


def rows_of(batch: Batch, start: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the `rows` of a batch as int64, or `start, start + 1, ...` where it names none."""
    rows = batch.get("rows")
    if rows is None:
        return np.arange(start, start + batch_size(batch), dtype=np.int64)
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().cpu().numpy()
    return np.asarray(rows, dtype=np.int64)


def central(array: torch.Tensor, size: int) -> torch.Tensor:
    """Cut the central square; the object at (n // 2, n // 2) lands at (size // 2, size // 2)."""
    y = array.shape[-2] // 2 - size // 2
    x = array.shape[-1] // 2 - size // 2
    return array[..., y : y + size, x : x + size]


def _tensor(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return None
    wanted = np.dtype(np.float32) if value.dtype.kind == "f" else value.dtype.newbyteorder("=")
    native = np.ascontiguousarray(value, dtype=wanted)
    # torch warns about memory that it must not write to, such as a view of a Zarr chunk.
    return torch.from_numpy(native if native.flags.writeable else native.copy())
