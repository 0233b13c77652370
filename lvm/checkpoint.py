"""Weights on disk: safetensors, a JSON configuration, and a digest that ties the two together.

These are artefacts for inference and sharing. The resumable state of a training run (optimiser
moments, epoch) is `lvm.training`'s own. Nothing here is pickled, and loading is strict.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lvm.configs import config_from_dict, config_to_dict
from lvm.encoder import Encoder, EncoderConfig
from lvm.preprocess import PreprocessConfig

FORMAT_VERSION = 1
WEIGHTS, CONFIG, DIGEST = "weights.safetensors", "config.json", "digest"


class CheckpointError(ValueError):
    """A saved model is incomplete, changed, of another kind, or does not fit its configuration."""


def state_digest(config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over a configuration and the names, shapes and bytes of weights.

    It depends on content alone: not on the file, the device or the order of the weights.
    """
    digest = hashlib.sha256(_canonical(config).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(directory: Path, kind: str, config: Mapping[str, Any], module: nn.Module) -> str:
    """Write weights, configuration and digest of a module into a new directory, all or nothing.

    Parameters
    ----------
    directory : must not exist, or hold the same content already
    kind : what it is ("encoder", "downstream"); checked when it is loaded
    config : JSON-able
    module : its `state_dict` is written

    Returns
    -------
    The digest, 64 hexadecimal digits
    """
    document = {"format": FORMAT_VERSION, "kind": kind, **config}
    state = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    digest = state_digest(document, state)
    if directory.exists():
        if read_digest(directory) == digest:
            return digest
        raise CheckpointError(
            f"{directory} holds another model already: save to a new directory or remove it"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        save_file(state, partial / WEIGHTS)
        (partial / CONFIG).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
        (partial / DIGEST).write_text(digest + "\n")
        partial.chmod(0o755)  # mkdtemp makes it private; models are shared
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return digest


def load_weights(directory: Path, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read configuration and weights that `save_weights` wrote, and check kind and digest."""
    missing = [name for name in (WEIGHTS, CONFIG, DIGEST) if not (directory / name).is_file()]
    if missing:
        raise CheckpointError(f"{directory} is no saved model: {missing} missing")
    document = json.loads((directory / CONFIG).read_text())
    if document.get("format") != FORMAT_VERSION or document.get("kind") != kind:
        raise CheckpointError(
            f"{directory} holds kind {document.get('kind')!r}, format {document.get('format')}; "
            f"expected {kind!r}, format {FORMAT_VERSION}"
        )
    state = load_file(directory / WEIGHTS)
    if state_digest(document, state) != read_digest(directory):
        raise CheckpointError(
            f"{directory}: weights or configuration are not those that were saved (the digest "
            "differs): copy the directory again from where it came"
        )
    del document["format"], document["kind"]
    return document, state


def read_digest(directory: Path) -> str:
    """Return the digest written beside saved weights, without reading them."""
    path = directory / DIGEST
    if not path.is_file():
        raise CheckpointError(f"{directory} is no saved model: {DIGEST} missing")
    return path.read_text().strip()


def load_strict(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load weights; a missing, additional or misshapen one raises CheckpointError."""
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the configuration: {error}") from error


def encoder_document(encoder: Encoder) -> dict[str, Any]:
    """Return what `build_encoder` needs, as JSON-able values."""
    return {
        "encoder": config_to_dict(encoder.config),
        "preprocess": config_to_dict(encoder.preprocess.config),
    }


def build_encoder(document: Mapping[str, Any]) -> Encoder:
    """Build an encoder (weights still random) from what `encoder_document` returned."""
    config = config_from_dict(EncoderConfig, document["encoder"])
    with torch.random.fork_rng():
        return Encoder(config, config_from_dict(PreprocessConfig, document["preprocess"])).eval()


def encoder_digest(encoder: Encoder) -> str:
    """Return the digest that `save_encoder` would write."""
    document = {"format": FORMAT_VERSION, "kind": "encoder", **encoder_document(encoder)}
    return state_digest(document, encoder.state_dict())


def save_encoder(encoder: Encoder, directory: Path) -> str:
    """Write an encoder with its preprocessing; return its digest."""
    return save_weights(Path(directory), "encoder", encoder_document(encoder), encoder)


def load_encoder(directory: Path, device: torch.device | str = "cpu") -> Encoder:
    """Read an encoder that `save_encoder` wrote, in evaluation mode, on `device`."""
    document, state = load_weights(Path(directory), "encoder")
    encoder = build_encoder(document)
    load_strict(encoder, state)
    return encoder.to(device).eval()


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
