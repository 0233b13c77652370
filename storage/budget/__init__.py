"""What an ingest will cost, before it runs: objects, bytes, hours, memory, and whether they fit.

Pure arithmetic on tables of bricks and on measured facts: nothing here reads a brick, asks a server
or looks at a disk. `tasks.planning` measures; `brickyard plan` shows and decides.
"""

from storage.budget.budget import Budget, Work, budget_of
from storage.budget.estimates import Estimate, total_of
from storage.budget.facts import BrickCost, CatalogueCount, Measurements
from storage.budget.region_counts import RegionCounts, read_region_counts
from storage.budget.verdict import Machine, Obstacle, obstacles

__all__ = [
    "BrickCost",
    "Budget",
    "CatalogueCount",
    "Estimate",
    "Machine",
    "Measurements",
    "Obstacle",
    "RegionCounts",
    "Work",
    "budget_of",
    "obstacles",
    "read_region_counts",
    "total_of",
]
