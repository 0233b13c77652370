"""The resumable state of a training on disk: all or nothing, and only for the same configuration.

It holds optimiser moments and counters beside the weights; weights for use are `checkpoint`'s.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# What may differ between the two halves of a resumed run without changing its numbers.
_FREE = ("device", "checkpoint_every", "gradient_checkpointing")


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state, whose "config" says which training it belongs to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave a whole name on half a file
    os.replace(partial, path)


def load_state(path: Path, config: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Read a state; one that was made by another configuration raises ValueError."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    saved = state["config"]
    changed = {
        name: (saved.get(name), value)
        for name, value in config.items()
        if name not in _FREE and saved.get(name) != value
    }
    if changed:
        raise ValueError(
            f"{path} belongs to a training with another configuration (saved, present): {changed}; "
            "give the same configuration or another checkpoint path"
        )
    return state
