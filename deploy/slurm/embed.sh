#!/bin/bash
# Embeddings on all GPUs of a node, a worker each (pip install 'brickyard[cuda]').
#   sbatch deploy/slurm/embed.sh dr9/south
#SBATCH --job-name=brickyard-embed
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --mem=240G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
source "${BRICKYARD_DEPLOY:-$HOME/brickyard/deploy/slurm}/environment.sh"
export BRICKYARD_CLUSTER=cuda
brickyard embed "$1" --device cuda
