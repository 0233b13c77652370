"""How bricks become cutouts, as data; and the digest that says with which data they did."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Literal

from storage.cutouts import CutoutConfig
from storage.errors import SchemaMismatch
from storage.legacysurvey import BANDS
from storage.mask_policy import mask_policy
from storage.selection import Selection

#: Part of every configuration digest: raise it when the same files and configuration would give
#: other cutouts, so that stored bricks count as out of date.
ALGORITHM_VERSION = 2


@dataclass(frozen=True)
class IngestConfig:
    """How bricks become cutouts.

    Parameters
    ----------
    bands : tuple of str
        Order of the ``band`` axis; a band that a brick lacks is 0 with invvar 0.
    selection : Selection
    cutout : CutoutConfig
    detect_missing_catalogue : bool
        Find sources with `storage.detection` where a brick has no tractor catalogue.
    verify_checksums : bool
        Compare files with their SHA-256 lists, where there are any.
    on_mismatch : {"quarantine", "note"}
        What to do with a catalogue that was not made from the coadds beside it (see
        `storage.consistency`): raise `InconsistentBrick`, or write the brick with a note.
    mask_policy : str
        Name of a `storage.mask_policy.MaskPolicy`: pixels without a say in detection. Stored
        cutouts keep all of invvar and maskbits whatever the policy.
    """

    bands: tuple[str, ...] = ("g", "r", "z")
    selection: Selection = field(default_factory=Selection)
    cutout: CutoutConfig = field(default_factory=CutoutConfig)
    detect_missing_catalogue: bool = False
    verify_checksums: bool = True
    on_mismatch: Literal["quarantine", "note"] = "quarantine"
    mask_policy: str = "legacy"

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise SchemaMismatch(f"bands {self.bands}: give at least one band, each once")
        if unknown := [band for band in self.bands if band not in BANDS]:
            raise SchemaMismatch(f"bands {unknown}: unknown; choose from {', '.join(BANDS)}")
        if self.on_mismatch not in ("quarantine", "note"):
            raise SchemaMismatch(f"on_mismatch {self.on_mismatch!r}: choose 'quarantine' or 'note'")
        mask_policy(self.mask_policy)


def config_digest(config: object, algorithm_version: int = ALGORITHM_VERSION) -> str:
    """Return the digest of a configuration dataclass and the version of the algorithm.

    Only what decides the stored bytes counts: the mask policy of an `IngestConfig` is left out
    where nothing is detected.
    """
    if not is_dataclass(config) or isinstance(config, type):
        raise SchemaMismatch(f"{config!r} is no configuration; give a dataclass")
    settings = asdict(config)
    if isinstance(config, IngestConfig) and not config.detect_missing_catalogue:
        del settings["mask_policy"]
    content = {"config": settings, "algorithm": algorithm_version}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
