#!/bin/bash
# Pre-training on all GPUs of a node, a process each.
#   sbatch deploy/slurm/pretrain.sh dr9/south pretrain.toml
#SBATCH --job-name=brickyard-pretrain
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --mem=240G
#SBATCH --time=48:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
source "${BRICKYARD_DEPLOY:-$HOME/brickyard/deploy/slurm}/environment.sh"
torchrun --standalone --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" -m flows pretrain "$1" --device cuda --config "$2"
