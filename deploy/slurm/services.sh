#!/bin/bash
# Prefect, MLflow, workers and the review desk, on a service or workflow node, as long as the queue
# allows; what they know is in BRICKYARD_HOME, so the next job goes on. From your own machine:
#   ssh -L 4200:NODE:4200 -L 8642:NODE:8642 login-node      (or -J, where nodes take no connections)
#SBATCH --job-name=brickyard-services
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=7-00:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=%x-%j.log
set -euo pipefail
source "${BRICKYARD_DEPLOY:-$HOME/brickyard/deploy/slurm}/environment.sh"
# Workers of the pools ask SLURM for Dask workers when a flow needs some.
export BRICKYARD_CLUSTER=slurm BRICKYARD_WORKERS="${BRICKYARD_WORKERS:-8}"
default='{"queue": "regular", "cores": 2, "memory": "16GB"}'
export BRICKYARD_SLURM="${BRICKYARD_SLURM:-$default}"
# As the job's shell gets the signal, it has to be passed on; all services stop cleanly.
brickyard up & pid=$!
trap 'kill -TERM "$pid"' TERM
wait "$pid" || true
wait "$pid"
