#!/usr/bin/env bash
# One line of JSON for each peer and dtype, on 8 ranks of one thread:
#     benchmarks/peers/run.sh [DIRECTORY of the environment] [options for all of them, such as --steps 10]
set -euo pipefail
venv=${1:-/tmp/peers}
shift || true
cd "$(dirname "$0")"
export OMP_NUM_THREADS=1 DS_ACCELERATOR=cpu TORCH_CPP_LOG_LEVEL=ERROR PYTHONWARNINGS=ignore
export PATH=$venv/bin:$PATH # DeepSpeed compiles its operators with this ninja
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for dtype in float32 bfloat16; do
    for peer in fsdp2 deepspeed_zero3; do
        "$venv/bin/python" -m torch.distributed.run --standalone --nproc_per_node "${RANKS:-8}" \
            "$peer.py" --dtype "$dtype" "$@" 2>"$log" | grep '^{' || { cat "$log" >&2; exit 1; }
    done
done
