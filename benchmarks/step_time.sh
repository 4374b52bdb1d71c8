#!/usr/bin/env bash
# Holds the time of a step that `plumb plan --machine` prints against runs, for several models, ranks, number formats and an
# adapter. Prints a Markdown table. Every micro-batch is full. Each case measures the machine with its own ranks, just
# before its run; on a machine that is busy with other things the table means nothing.
#     benchmarks/step_time.sh [PLUMB [CASES]]     CASES: an extended regular expression that selects rows
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:-build/plumb}") cases=${2:-.}
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk 'BEGIN { srand(0); for (i = 0; i < 64; i++) { s = ""; for (j = 0; j < 1100; j++) s = s sprintf("%c", 97 + int(rand() * 26))
  printf "{\"text\": \"%s\"}\n", s } }' >"$work/rows.jsonl"

# make_model NAME OPTIONS...
make_model() {
  "$program" init --output_dir "$work/$1" --tie_word_embeddings false --max_position_embeddings 2048 "${@:2}" >/dev/null 2>&1
}
make_model 24M --hidden_size 288 --num_layers 6 --num_heads 6 --intermediate_size 768 --vocab_size 32000
make_model 110M --hidden_size 768 --num_layers 12 --num_heads 12 --intermediate_size 2048 --vocab_size 16000

# compare MODEL RANKS DTYPE MAX_LENGTH [OPTIONS]: prints a row.
compare() {
  local model=$1 ranks=$2 dtype=$3 length=$4 options=("${@:5}") predicted measured
  [[ "$model $ranks $dtype $length ${options[*]}" =~ $cases ]] || return 0
  local run=(--model "$work/$model" --max_length "$length" --per_device_train_batch_size 1 --dtype "$dtype"
    --gradient_checkpointing false --threads 1 "${options[@]}")
  mpirun -n "$ranks" --bind-to none "$program" doctor --measure "$work/machine.json" >/dev/null 2>&1 || true
  predicted=$("$program" plan "${run[@]}" --num_ranks "$ranks" --machine "$work/machine.json" 2>/dev/null |
    sed -n 's/^time: \([0-9.e-]*\) s per step.*/\1/p')
  mpirun -n "$ranks" --bind-to none "$program" sft "${run[@]}" --data "$work/rows.jsonl" --output_dir "$work/run" \
    --max_steps 7 --logging_steps 1 --startup_checks false >"$work/log" 2>&1 || { cat "$work/log" >&2 && exit 1; }
  measured=$(sed -n 's/.*"step_seconds":\([0-9.e+-]*\).*/\1/p' "$work/run/metrics.jsonl" | tail -n +3 | sort -g | sed -n 3p)
  rm -r "$work/run"
  awk -v p="$predicted" -v m="$measured" -v c="| $model | $ranks | $dtype | $length | ${options[*]:-} |" \
    'BEGIN { printf "%s %.3f | %.3f | %.2f |\n", c, p, m, m / p }'
}

echo "| model | ranks | dtype | tokens of a micro-batch | | plan, s | measured, s | measured / plan |"
echo "|---|---|---|---|---|---|---|---|"
for dtype in float32 bfloat16; do
  compare 24M 1 $dtype 256
  compare 24M 1 $dtype 1024
  compare 24M 2 $dtype 256 --gradient_accumulation_steps 4
  compare 24M 8 $dtype 256
  compare 110M 1 $dtype 512
  compare 110M 2 $dtype 512
  compare 110M 1 $dtype 512 --lora_r 16
done
