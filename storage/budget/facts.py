"""What a budget is made from: measurements of sample bricks, and published averages without them.

Every constant says where it comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: Averages a brick [bytes] (legacysurvey.org, pages "files" of DR9 and DR10: volumes of the coadd
#: and tractor folders over 331,958 and 366,898 bricks). DR8 is taken to be as DR9. The coadd folder
#: also holds models, chi, depths and pictures, so that what ingest reads is a part of it.
COADD_BYTES: Mapping[str, float] = MappingProxyType({"dr8": 268e6, "dr9": 268e6, "dr10": 164e6})
TRACTOR_BYTES: Mapping[str, float] = MappingProxyType({"dr8": 12e6, "dr9": 12e6, "dr10": 18e6})
#: Share of the coadd folder that ingest reads (image, invvar, nexp, psfsize, maskbits): image and
#: invvar took 8 bits each a filled pixel in a DR6 brick, 78 MB in three bands of a brick filled
#: whole; many are not, and the whole folder is the most.
COADD_SHARE = (0.2, 0.35, 1.0)

#: Objects of the releases over their bricks (same pages): DR9 1,969,942,678, DR10 2,827,055,986.
CATALOGUED: Mapping[str, float] = MappingProxyType({"dr8": 5934.0, "dr9": 5934.0, "dr10": 7705.0})
#: Objects brighter than z = 20 that are centred on galaxies: 76.17 million in DR9 (Stein et al.
#: 2021), 229 a brick, a share 0.0387 of all that is catalogued.
SELECTED_SHARE = 76.17e6 / 1_969_942_678
REFERENCE_MAG = 20.0
#: Galaxy counts in z grow by about this many dex a magnitude near z = 20, and by no more than 0.6
#: (Euclidean) anywhere; good for a range of some magnitudes.
COUNTS_SLOPE = 0.4
#: Without a catalogue read, the selected share may be off by this factor: star density, depth and
#: rules other than the magnitude are not known.
BLIND_FACTOR = 2.0

#: Stored bytes a pixel and band, without a measurement: 6.1 in DR9 pixels (docs/decisions/0007);
#: less where a brick is blank, more where invvar differs from pixel to pixel, 9.3 uncompressed.
STORED_BYTES_PER_PIXEL = (3.5, 6.1, 8.0)
#: Ledger, history and receipt of one brick [bytes], their later rewriting included.
LEDGER_BYTES = 8_000.0
#: One commit [bytes]: the manifests that it rewrites (13 arrays of at most 4,096 shards, half full,
#: 50 bytes a shard), the snapshot and the rewritten chunks of the ledger. Old snapshots are kept.
COMMIT_BYTES = 2_000_000.0

#: Rows that the Prefect database gets for every run of a flow or task: the run, its 3 states, and
#: events with their resources (counted in databases of ingest runs: 226 rows for 14 runs, 538 for
#: 33).
PREFECT_ROWS_PER_RUN = 16

#: The wall time of an ingest over that of its parts side by side, at most (benchmark
#: ingest.wall_over_bound).
WALL_OVER_PARTS = (1.0, 1.15, 1.3)
#: Starting workers and the flow [s].
START_SECONDS = (3.0, 10.0, 30.0)
#: How far the losses at edges, and the bytes of a cutout, of few bricks may be from those of all.
LOSS_FACTOR = 2.0
RATE_SPREAD = 0.15
#: The flow, Dask's scheduler and Prefect's server beside the workers [bytes].
COORDINATOR_BYTES = 1.2e9
#: A worker's peak in a long run over that of the calibration: memory that the allocator keeps, the
#: largest brick of many.
PEAK_FACTOR = 1.25


@dataclass(frozen=True)
class CatalogueCount:
    """One brick whose catalogue was read: its row of the bricks table, and what is selected."""

    brickname: str
    candidates: float
    selected: int


@dataclass(frozen=True)
class BrickCost:
    """One brick that was read and written for the calibration: seconds and bytes."""

    brickname: str
    objects: int
    fetch_seconds: float
    plan_seconds: float
    read_seconds: float
    write_seconds: float
    commit_seconds: float
    store_bytes: int


@dataclass(frozen=True)
class Measurements:
    """What the calibration found.

    Parameters
    ----------
    catalogues : tuple of CatalogueCount
        Of the sampled bricks with a readable catalogue.
    costs : tuple of BrickCost
        Of the bricks that were read and written.
    file_bytes : mapping of str to int
        Bytes of the files that ingest would read, by brick, of the sampled ones.
    neighbours : mapping of str to int
        How many neighbours the cutouts of a brick may take pixels from, of the sampled ones.
    peak_bytes : int
        Largest resident memory of the process that measured; 0 where it is unknown.
    failures : mapping of str to str
        Sampled bricks that cannot be read, with the reason.
    """

    catalogues: tuple[CatalogueCount, ...] = ()
    costs: tuple[BrickCost, ...] = ()
    file_bytes: Mapping[str, int] = field(default_factory=dict)
    neighbours: Mapping[str, int] = field(default_factory=dict)
    peak_bytes: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
