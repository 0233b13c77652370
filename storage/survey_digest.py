"""One digest of all that a survey group says, for tests of resumed and repeated work.

Two stores have the same digest when they hold the same objects, pixels and brick states, whatever
their snapshot ids, the order in which bricks were written and the rows they were given.
"""

import hashlib

import icechunk
import numpy as np

from storage import arrays
from storage.batches import iterate_batches
from storage.brick_ledger import ledger
from storage.schema import OBJECT_COLUMNS, PIXEL_ARRAYS, BrickState
from storage.survey_group import read_layout

_BATCH_ROWS = 64


def content_digest_of(session: icechunk.Session, survey_key: str) -> str:
    """Return the hex digest of the logical content of a survey.

    Covers the layout, the state, digests and objects of every brick of the ledger, and every pixel
    as it is read back. Leaves out receipts, row numbers and withdrawn bricks. Reads the whole
    survey, so it is for small ones.
    """
    digest = hashlib.sha256(repr(read_layout(session, survey_key)).encode())
    table = ledger(session, survey_key).sort_index()
    for brickname, row in table.iterrows():
        if row["state"] == int(BrickState.WITHDRAWN):
            continue
        facts = (brickname, int(row["state"]), int(row["n_objects"]))
        digest.update(repr((*facts, row["content_digest"], row["config_digest"])).encode())
        if row["state"] == int(BrickState.WRITTEN):
            start = int(row["row_start"])
            digest.update(_digest_rows(session, survey_key, start, start + int(row["n_objects"])))
    return digest.hexdigest()


def _digest_rows(session: icechunk.Session, survey_key: str, start: int, stop: int) -> bytes:
    digest = hashlib.sha256()
    group = arrays.open_group(session, survey_key)
    for name in (*OBJECT_COLUMNS, "catalogue"):
        values = arrays.read_rows(arrays.get_array(group, name), start, stop)
        digest.update(np.ascontiguousarray(values).tobytes())
    for batch in iterate_batches(session, survey_key, np.arange(start, stop), _BATCH_ROWS):
        for name in PIXEL_ARRAYS:
            digest.update(np.ascontiguousarray(batch.pixels[name]).tobytes())
    return digest.digest()
