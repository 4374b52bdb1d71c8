#!/usr/bin/env bash
# Time from launch to the end of the first step on 8 ranks, in pairs with an empty program that loads the same libraries.
#     benchmarks/startup.sh [PAIRS]
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-5}
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build/plumb init --output_dir "$work/model" --hidden_size 64 --num_layers 4 --num_heads 4 --intermediate_size 160 >/dev/null 2>&1
for ((i = 0; i < 64; i++)); do echo "{\"text\": \"row $i of a small file, short enough for one step\"}"; done >"$work/rows.jsonl"
now() { date +%s.%N; }
empty=() plumb=()
for ((i = 0; i < pairs; i++)); do
  begin=$(now)
  mpirun -n 8 --bind-to none build/plumb_empty_program
  empty+=("$(awk -v a="$begin" -v b="$(now)" 'BEGIN { print b - a }')")
  rm -rf "$work/run"
  begin=$(now)
  mpirun -n 8 --bind-to none build/plumb sft --model "$work/model" --data "$work/rows.jsonl" --output_dir "$work/run" \
    --per_device_train_batch_size 1 --max_steps 1 2>"$work/log"
  # the first step's line is written to metrics.jsonl when the step ends
  plumb+=("$(awk -v a="$begin" -v b="$(stat -c %.Y "$work/run/metrics.jsonl")" 'BEGIN { print b - a }')")
done
median() { printf '%s\n' "$@" | sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
e=$(median "${empty[@]}") p=$(median "${plumb[@]}")
printf 'empty program %s s, plumb to the end of step 1 %s s, ratio %s\n' "$e" "$p" "$(awk -v p="$p" -v e="$e" 'BEGIN { printf "%.2f", p / e }')"
echo "plumb --help: $( { time -p build/plumb --help >/dev/null; } 2>&1 | awk '/real/ { print $2 }') s"
