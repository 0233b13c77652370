#!/bin/bash
# All bricks of a list, on the cores of one node:  sbatch deploy/slurm/ingest.sh /data/dr9 list.txt
# Killed by the time limit, it loses the last commit at most: submit it again (--requeue does).
#SBATCH --job-name=brickyard-ingest
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=64
#SBATCH --mem=240G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
source "${BRICKYARD_DEPLOY:-$HOME/brickyard/deploy/slurm}/environment.sh"
export BRICKYARD_CLUSTER=local BRICKYARD_WORKERS="${SLURM_CPUS_PER_TASK:-2}"
brickyard ingest "$1" --release dr9 --region south --bricks-from "$2"
