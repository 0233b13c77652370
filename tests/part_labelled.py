"""Labels on a part of the galaxies of `placed_survey`, so that there is something left to ask."""

import pandas as pd
from measured_survey import sky_patch
from placed_survey import SURVEY, votes

from storage.label_store import Label, append_labels
from tasks.settings import Settings


def label_part(settings: Settings, count: int, labelled: int, gold: int = 0) -> None:
    """Start the ledger of a home anew: votes on the first objects of its only brick.

    Parameters
    ----------
    count : int
        Objects of the brick.
    labelled, gold : int
        Objects, from the first on, that have votes; that have a known answer, "spiral".
    """
    settings.labels_path.unlink(missing_ok=True)
    [brick] = sky_patch(1, 1)
    table: pd.DataFrame = votes(brick, count)
    append_labels(settings.labels_path, table[table["objid"] < labelled])
    known = [
        Label(SURVEY, 10000, brick.brickid, objid, "morphology", "spiral", "gold")
        for objid in range(gold)
    ]
    append_labels(settings.labels_path, known)
