"""Made-up objects for tests of the few-shot benchmark: features that tell the classes, no sky."""

import numpy as np

from tasks.few_shot.samples import Sample

CLASSES = 4


def made_up(count, seed=0, spread=1.0, side=40, shares=(0.25, 0.25, 0.25, 0.25)):
    """Return objects of four classes whose measures lie around four points."""
    draw = np.random.default_rng(seed)
    classes = draw.choice(CLASSES, size=count, p=shares)
    classes[:CLASSES] = np.arange(CLASSES)
    centres = 3.0 * np.eye(CLASSES, 12)
    measures = centres[classes] + spread * draw.normal(size=(count, 12))
    embedding = measures @ np.random.default_rng(99).normal(size=(12, 20)) + draw.normal(
        size=(count, 20)
    )
    image = draw.normal(0.0, 0.01, (count, 3, side, side)).astype(np.float32)
    image += 0.1 * classes[:, None, None, None]
    pixels = {
        "image": image,
        "invvar": np.full(image.shape, 1e4, np.float32),
        "maskbits": np.zeros((count, side, side), np.int32),
    }
    votes = 0.8 * np.eye(CLASSES)[classes] + 0.05
    return Sample(pixels, classes.astype(np.int64), votes, embedding, measures)
