"""An encoder ready on its device: precision, memory format, compilation, back-off.

What `Forward` returns depends on the cutouts alone; how it is configured changes no more than the
rounding. Batches go in, embeddings come out in the same order; reading and writing is the caller's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lvm.encoder import Encoder
from lvm.tensors import Batch, batch_size, central, rows_of, to_tensors
from lvm.training import PRECISIONS

Rows = np.ndarray[Any, np.dtype[np.int64]]
Embeddings = np.ndarray[Any, np.dtype[np.float32]]

# On a CPU, 16 cutouts stay near the caches: a tenth faster than 64 (measured with nano). A GPU
# wants all of its multiprocessors full.
BATCH_SIZES = {"cpu": 16, "cuda": 512}
_PIXELS = ("image", "invvar", "maskbits")


@dataclass(frozen=True)
class ForwardConfig:
    """How an encoder is applied.

    Parameters
    ----------
    batch_size : most cutouts a forward pass; None: what suits the device (`BATCH_SIZES`)
    device : "cpu", "cuda", "cuda:1"; "auto" takes a GPU where there is one
    precision : "float32"; "bfloat16" by autocast; "auto" is bfloat16 where the device multiplies
        it in hardware, else float32
    channels_last : give convolutions their channels as the innermost axis; on a CPU without effect
        on the speed of the presets (measured), meant for convolutional encoders on a GPU
    compile : let torch.compile write kernels for this encoder (a minute at the first batch)
    """

    batch_size: int | None = None
    device: str = "auto"
    precision: str = "auto"
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.precision != "auto" and self.precision not in PRECISIONS:
            names = ["auto", *sorted(PRECISIONS)]
            raise ValueError(f"precision is one of {names}, not {self.precision!r}")


class OutOfDeviceMemory(RuntimeError):
    """Not even one cutout fits into the memory of the device."""


class Forward:
    """Apply an encoder to batches of cutouts; see `ForwardConfig`.

    Parameters
    ----------
    encoder : moved to the device and set to evaluation mode

    Attributes
    ----------
    device, precision : what "auto" came to
    batch_size : most cutouts a pass; halved whenever the memory of the device does not suffice
    crop_size : side of the central part of a cutout that the encoder sees [pixel]
    """

    def __init__(self, encoder: Encoder, config: ForwardConfig | None = None) -> None:
        config = config or ForwardConfig()
        self.device = choose_device(config.device)
        self.precision = choose_precision(config.precision, self.device)
        self.batch_size = config.batch_size or BATCH_SIZES.get(self.device.type, 64)
        self.crop_size = encoder.preprocess.config.crop_size
        self._format = torch.channels_last if config.channels_last else torch.contiguous_format
        self._encoder: Any = encoder.to(self.device).to(memory_format=self._format).eval()
        self._full_batches = config.compile  # compiled kernels are of one shape
        self._features: Any = torch.compile(encoder.features) if config.compile else None

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Return embeddings (object, width), float32, on the device; any number of objects.

        Raises
        ------
        OutOfDeviceMemory
            When the memory does not suffice for a single cutout.
        """
        count, start = batch_size(batch), 0
        parts = []
        while start < count:
            part = self._try(_between(batch, start, start + self.batch_size))
            if part is None:
                self._back_off()
            else:
                parts.append(part)
                start += len(part)
        return torch.cat(parts) if parts else torch.empty(0, self._encoder.spec.width)

    def embed(self, batches: Iterable[Batch]) -> Iterator[tuple[Rows, Embeddings]]:
        """Yield rows (object,) int64 and embeddings (object, width) float32, one pair a batch.

        A batch is waited for only after the next one has been handed to the device, so that a GPU
        computes while its results are fetched and the pixels of the next batch travel.
        """
        start = 0
        waiting: tuple[Rows, torch.Tensor] | None = None
        for batch in self._staged(batches):
            rows = rows_of(batch, start)
            start += len(rows)
            queued = rows, self(batch)
            if waiting is not None:
                yield waiting[0], waiting[1].cpu().numpy()
            waiting = queued
        if waiting is not None:
            yield waiting[0], waiting[1].cpu().numpy()

    def _try(self, batch: Batch) -> torch.Tensor | None:
        """Return the embeddings of one pass, None when the memory does not suffice."""
        try:
            return self._pass(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _pass(self, batch: Batch) -> torch.Tensor:
        with torch.inference_mode():
            inputs = self._encoder.inputs(batch).contiguous(memory_format=self._format)
            count = len(inputs)
            if self._full_batches:
                inputs = F.pad(inputs, (0, 0, 0, 0, 0, 0, 0, self.batch_size - count))
            features = self._features or self._encoder.features
            with autocast(self.device, self.precision):
                found: torch.Tensor = features(inputs)
            return found[:count].float()

    def _back_off(self) -> None:
        # Called after the failed pass is gone, with its traceback, which held its tensors.
        if self.batch_size == 1:
            raise OutOfDeviceMemory(
                f"one cutout does not fit into the memory of {self.device}: free it of other "
                "processes, or use a smaller encoder"
            )
        self.batch_size = max(1, self.batch_size // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _staged(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches whose pixels are on their way to the device; on a CPU, as they are."""
        if self.device.type != "cuda":
            yield from batches
            return
        stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        for batch in batches:
            yield self._send(batch, stream)

    def _send(self, batch: Batch, stream: Any) -> Batch:
        """Copy the used part of the pixels through pinned memory, beside the running pass."""
        current = torch.cuda.current_stream(self.device)
        pixels = to_tensors({name: batch[name] for name in _PIXELS if name in batch})
        sent: dict[str, Any] = {}
        try:
            with torch.cuda.stream(stream):
                for name, values in pixels.items():
                    pinned = central(values, self.crop_size).contiguous().pin_memory()
                    sent[name] = pinned.to(self.device, non_blocking=True)
                    sent[name].record_stream(current)
        except torch.OutOfMemoryError:
            return batch  # it travels in the smaller parts that fit
        current.wait_stream(stream)
        return {**batch, **sent}


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: torch sees no GPU here; use 'cpu' or 'auto'")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return the precision of a name; "auto" is bfloat16 where the hardware multiplies it."""
    if name != "auto":
        return name
    return "bfloat16" if _has_bfloat16(device) else "float32"


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """Return the context in which matrix products have this precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {sorted(PRECISIONS)}, not {precision!r}")
    dtype = PRECISIONS[precision]
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the memory of the device, or of the host, is too small."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error)  # how torch says it of a CPU


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A torch that cannot tell gets float32, which is always right.
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def _between(batch: Batch, start: int, stop: int) -> dict[str, Any]:
    return {name: value[start:stop] for name, value in batch.items() if hasattr(value, "__len__")}
