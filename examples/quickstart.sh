#!/usr/bin/env bash
# The main job, from a clean clone on a machine that has only Python: makes the environment, installs, compares
# five optimizers on six problems at equal oracle cost, and writes a report. A second run resumes the first.
#   bash examples/quickstart.sh [folder]        default: results/quickstart
set -euo pipefail
case "${1:-}" in
-h | --help)
    sed -n '2,4s/^# *//p' "${BASH_SOURCE[0]}"
    exit
    ;;
-*)
    echo "error: no option $1; bash examples/quickstart.sh --help says more" >&2
    exit 2
    ;;
esac
if [ $# -gt 1 ]; then
    echo "error: expected one folder, got $#: $*" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/../.ci/environment.sh"
prepare bench,data
out="${1:-$root/results/quickstart}"
"$python" -m optenvs bench quickstart --out "$out" # its last line says where the report lies
say "To go on:"
[ -n "${VIRTUAL_ENV:-}" ] || say "  source $(dirname "$python")/activate"
say "  optenvs list      # the environments; optenvs --help says what else there is"
say "  python            # README.md has five uses"
