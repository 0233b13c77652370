"""A release that is held, for tests of what people see of it; nothing was predicted."""

from pathlib import Path

from tasks.references import ModelRef
from tasks.release_decisions import open_case
from tasks.release_diff import ClassShift, NumberShift, ReleaseDiff
from tasks.settings import Settings

DIGEST = "d" * 64
TAG = "dr10-south-morphology-0002"


def hold_release(settings: Settings, broken=("spiral: its share moved by 0.2",)) -> Path:
    """Put a release that passed limits before people; return the folder of the case."""
    models = tuple(
        ModelRef(downstream="morphology", version=version, run_id="r", digest=version * 64)
        for version in "12"
    )
    found = ReleaseDiff(
        before="dr10-south-morphology-0001",
        after=TAG,
        models=models,
        bricks={"added": 1, "removed": 0, "changed": 0, "unchanged": 2},
        objects={"added": 9, "removed": 0, "changed": 18, "unchanged": 0, "flipped": 4},
        classes=(ClassShift(name="spiral", before=0.4, after=0.6, low=0.1, high=0.3),),
        numbers=(NumberShift(name="p_spiral", before=0.41, after=0.58, drift=0.3),),
        broken=broken,
    )
    folder = settings.catalogue_path / "dr10" / "south" / "morphology"
    return open_case(folder, found, ("dr10/south", TAG, DIGEST), 3600)
