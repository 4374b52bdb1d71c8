#!/usr/bin/env bash
# Run by ./dev bench: start-up, and speed and memory of plumb; also compared with the peers if their environment exists
# (benchmarks/peers/setup.sh).
#     benchmarks/run.sh [DIRECTORY of the peers' environment]
set -euo pipefail
cd "$(dirname "$0")"
venv=${1:-/tmp/peers}
./startup.sh
if [[ -x $venv/bin/python ]]; then
  ./side_by_side.sh 3 "$venv"
else
  for dtype in float32 bfloat16; do ./plumb_sft.sh "$dtype"; done
fi
