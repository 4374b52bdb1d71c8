#!/usr/bin/env bash
# Prints one line of JSON for plumb, like those of peers/run.sh: a Llama of 24 M parameters, rows of 256 tokens, 8 ranks of
# one thread, one row per rank and step.
#     benchmarks/plumb_sft.sh DTYPE [STEPS] [more options of plumb sft]
set -euo pipefail
cd "$(dirname "$0")/.."
dtype=$1
steps=${2:-8}
shift $(($# < 2 ? $# : 2))
program=${PLUMB:-build/plumb}
ranks=${RANKS:-8}
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
benchmarks/llama_24m.sh "$program" "$work"
mpirun -n "$ranks" --bind-to none "$program" sft --model "$work/model" --data "$work/rows.jsonl" --output_dir "$work/run" \
  --max_length 256 --per_device_train_batch_size 1 --max_steps "$((steps + 2))" --logging_steps 1 --learning_rate 1e-3 \
  --dtype "$dtype" --gradient_checkpointing false --threads 1 "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$work/run/metrics.jsonl"; }
median=$(field step_seconds | tail -n +3 | sort -g | awk '{ x[NR] = $1 } END { print (NR % 2) ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }')
field memory_bytes | sort -g | tail -n 1 | awk -v s="$median" -v r="$ranks" -v d="$dtype" \
  '{ printf "{\"peer\": \"plumb\", \"dtype\": \"%s\", \"ranks\": %d, \"tokens_per_second\": %.0f, \"step_seconds\": %.4f, \"peak_sum_pss_mb\": %.0f}\n", d, r, r * 256 / s, s, $1 / 1e6 }'
