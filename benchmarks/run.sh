#!/usr/bin/env bash
# What ./dev bench runs: start-up, and the speed and memory of plumb; with the peers' environment there
# (benchmarks/peers/setup.sh) also side by side with them.
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
