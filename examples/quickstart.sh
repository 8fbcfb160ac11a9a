#!/usr/bin/env bash
# The main job, from a clean clone on a machine that has only Python: makes the environment, installs, compares
# five optimizers on six problems at equal oracle cost, and writes a report. A second run resumes the first.
#   bash examples/quickstart.sh [folder]        default: results/quickstart
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../.ci/environment.sh"
prepare bench,data
out="${1:-$root/results/quickstart}"
"$python" -m optenvs.bench.cli bench quickstart --out "$out"
report="$(find "$out" -name '*.html' -print -quit)"
[ -n "$report" ] || fail "the run wrote no report into $out"
echo "report: $report"
