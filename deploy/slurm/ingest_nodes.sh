#!/bin/bash
# The same on many nodes: this small job commits, and asks SLURM for a job a worker.
#   sbatch deploy/slurm/ingest_nodes.sh /data/dr9 list.txt
#SBATCH --job-name=brickyard-ingest-nodes
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
source "${BRICKYARD_DEPLOY:-$HOME/brickyard/deploy/slurm}/environment.sh"
export BRICKYARD_CLUSTER=slurm BRICKYARD_WORKERS="${BRICKYARD_WORKERS:-64}"
default='{"queue": "regular", "walltime": "04:00:00", "cores": 2, "memory": "8GB", "interface": "ib0"}'
export BRICKYARD_SLURM="${BRICKYARD_SLURM:-$default}"
brickyard ingest "$1" --release dr9 --region south --bricks-from "$2"
