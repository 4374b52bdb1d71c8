#!/usr/bin/env bash
# A mixture of experts with 100 M active parameters (Mixtral: 4 layers of 8 experts, top 2), one process and one thread:
# forward and backward of a row of 1024 tokens beside transformers, in turn; processor time, of plumb the difference of
# steps that accumulate 7 and 2 rows. PYTHON has transformers.
#     PYTHON=python3 benchmarks/experts_model_side_by_side.sh [PAIRS]
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-3}
program=${PLUMB:-build/plumb}
core=$(taskset -cp $$ | sed 's/.*[ ,-]//')
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" init --output_dir "$work/model" --family mixtral --hidden_size 1024 --num_layers 4 --num_heads 16 \
  --num_kv_heads 8 --intermediate_size 2816 --vocab_size 8192 --max_position_embeddings 1024 >/dev/null 2>&1
awk 'BEGIN { srand(0); for (i = 0; i < 16; i++) { s = ""; for (j = 0; j < 1200; j++) s = s sprintf("%c", 97 + int(rand() * 26))
  printf "{\"text\": \"%s\"}\n", s } }' >"$work/rows.jsonl"
median() { sort -g | awk '{ x[NR] = $1 } END { print (NR % 2) ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
seconds_of_run() {
  rm -rf "$work/run"
  local TIMEFORMAT='%U %S'
  { time taskset -c "$core" "$program" sft --model "$work/model" --data "$work/rows.jsonl" --output_dir "$work/run" \
    --max_length 1024 --per_device_train_batch_size 1 --max_steps 2 --gradient_accumulation_steps "$2" \
    --router_aux_loss_coef 0 --reduction fast --save_steps 0 --dtype "$1" \
    --gradient_checkpointing false --startup_checks false --threads 1 >"$work/log" 2>&1; } 2>"$work/time" || {
    cat "$work/log" >&2
    exit 1
  }
  awk '{ print $1 + $2 }' "$work/time"
}
for dtype in float32 bfloat16; do
  for kind in eager grouped_mm; do : >"$work/$dtype.$kind"; done
  : >"$work/$dtype.plumb"
  for ((pair = 0; pair < pairs; pair++)); do
    short=$(seconds_of_run "$dtype" 2) long=$(seconds_of_run "$dtype" 7)
    awk -v a="$long" -v b="$short" 'BEGIN { print (a - b) / 10 }' >>"$work/$dtype.plumb"
    for kind in eager grouped_mm; do
      taskset -c "$core" "${PYTHON:-/tmp/peers/bin/python}" benchmarks/peers/experts_model.py "$work/model" "$dtype" "$kind" \
        >>"$work/$dtype.$kind"
    done
  done
  for kind in eager grouped_mm; do
    paste "$work/$dtype.plumb" "$work/$dtype.$kind" | awk '{ print $2 / $1 }' | median |
      xargs printf '%-8s %-10s plumb %.2f s, transformers %.2f s, ratio %.2f\n' "$dtype" "$kind" \
        "$(median <"$work/$dtype.plumb")" "$(median <"$work/$dtype.$kind")"
  done
done
