"""Encoders that come with the package: weights, configuration, digest, for `checkpoint` to read.

How each was made and what it is good for is written in docs/model_card.md.
"""

from pathlib import Path

#: Names that `shipped_weights` knows.
SHIPPED = ("nano-synthetic",)


def shipped_weights(name: str) -> Path:
    """Return the folder of shipped weights, for `load_encoder`; unknown names raise ValueError."""
    if name not in SHIPPED:
        raise ValueError(f"no weights called {name!r} are shipped: there are {SHIPPED}")
    return Path(__file__).parent / name
