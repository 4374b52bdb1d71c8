#!/usr/bin/env bash
# Cost of the watchdog and of checkpoints: steps alternately with and without the watchdog, and how long a step waits for an
# asynchronous save, compared with a copy of the same memory.
#     benchmarks/survival_cost.sh [PAIRS of runs with and without the watchdog]
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-200}
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
median() { sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }

build/plumb init --output_dir "$work/model" --hidden_size 768 --num_layers 8 --num_heads 12 --num_kv_heads 4 \
  --intermediate_size 2048 --vocab_size 8000 >/dev/null 2>&1
for ((i = 0; i < 512; i++)); do echo "{\"text\": \"row $i of a small file, short enough for many short steps\"}"; done >"$work/rows.jsonl"

echo "watchdog:"
mpirun -n 2 --bind-to core build/plumb_watchdog_cost "$pairs" 7

for ranks in 1 2; do
  rm -rf "$work/run"
  mpirun -n "$ranks" --bind-to none build/plumb sft --model "$work/model" --data "$work/rows.jsonl" \
    --output_dir "$work/run" --per_device_train_batch_size 1 --logging_steps 1 --startup_checks false --threads 1 \
    --max_steps 9 --save_steps 3 --async_save true >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  step=$(sed -n 's/.*"step_seconds":\([0-9.e-]*\).*/\1/p' "$work/run/metrics.jsonl" | tail -n +4 | median)
  echo "asynchronous save, $ranks rank(s), $(du -sm "$work"/run/checkpoints/step-000009 | cut -f1) MiB on disk, a step of $step s:"
  grep -o 'checkpoint: .*' "$work/log" | sed "s|$work/||"
done
build/plumb_survival_cost 1024
