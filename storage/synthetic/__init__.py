"""A small pretend survey in the Legacy Survey file layout, for tests, demonstrations, benchmarks.

Rendering needs galsim; `import storage` does not import this package.
"""

from storage.synthetic.config import MORPHOLOGY_CLASSES, SyntheticConfig
from storage.synthetic.release import (
    SyntheticRelease,
    noiseless_image,
    write_synthetic_release,
)
from storage.synthetic.truth import read_truth

__all__ = [
    "MORPHOLOGY_CLASSES",
    "SyntheticConfig",
    "SyntheticRelease",
    "noiseless_image",
    "read_truth",
    "write_synthetic_release",
]
