#!/usr/bin/env bash
# All tests, from a clean clone on a machine that has only Python: makes the environment, installs, runs.
#   bash tests/run.sh [arguments of pytest]     for example: bash tests/run.sh tests/core -k ledger
#     --ci runs the dearest checks, too, which .ci/run does: some minutes more
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../.ci/environment.sh"
source "$root/.ci/data.sh"
prepare test
fetch_data
fetch_browser
cd "$root"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # two test processes with a thread each beat two with two
export TORCHINDUCTOR_COMPILE_THREADS="${TORCHINDUCTOR_COMPILE_THREADS:-1}" # nor does each start a pool of compilers
unset PYTHONDONTWRITEBYTECODE # the tests start a hundred interpreters: each would compile the project anew
exec "$python" -m pytest -n 2 --durations=30 "$@"
