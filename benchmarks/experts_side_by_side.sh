#!/usr/bin/env bash
# A sparse MLP of 8 experts, forward and backward, beside transformers' MixtralSparseMoeBlock: one core, processor time,
# pairs in turn. PYTHON has transformers.
#     PYTHON=python3 benchmarks/experts_side_by_side.sh [PAIRS [TOKENS HIDDEN SIZE]]
set -euo pipefail
cd "$(dirname "$0")/.."
core=$(taskset -cp $$ | sed 's/.*[ ,-]//')
taskset -c "$core" "${PYTHON:-/tmp/peers/bin/python}" benchmarks/peers/experts_rate.py build/plumb_experts_rate "$@"
