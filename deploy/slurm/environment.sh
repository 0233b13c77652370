# Where things are; every script of this folder reads it. Paths must be on a file system that all
# nodes see, except BRICKYARD_STAGING, which is best on the node's own disk.
export BRICKYARD_HOME="${BRICKYARD_HOME:-$SCRATCH/brickyard/home}"
export BRICKYARD_STAGING="${BRICKYARD_STAGING:-${TMPDIR:-/tmp}/brickyard-staging}"
export BRICKYARD_LOG_FORMAT="${BRICKYARD_LOG_FORMAT:-json}"
export OMP_NUM_THREADS=1
# shellcheck disable=SC1091
source "${BRICKYARD_VENV:-$HOME/brickyard/.venv}/bin/activate"
