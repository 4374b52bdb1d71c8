#!/usr/bin/env bash
# Adapters through PEFT in both directions, by benchmarks/peers/peft_round_trip.py: four that PEFT writes and three that plumb trains.
#     benchmarks/peers/peft_round_trip.sh MODEL ROWS.jsonl [PYTHON of the peers' environment]
# MODEL has a lm_head of its own; ROWS are {"prompt", "completion"}.
set -euo pipefail
model=$1 rows=$2 python=${3:-/tmp/peers/bin/python}
plumb=${PLUMB:-build/plumb}
script=$(dirname "$0")/peft_round_trip.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONWARNINGS=ignore

check() { # of the adapter in a directory
  "$plumb" merge --dtype float32 --model "$model" --adapter "$1" --output_dir "$1-merged"
  "$python" "$script" read "$model" "$1" "$rows" --plumb "$plumb" --merged "$1-merged"
}
by_peft() {
  echo "## PEFT writes: $*"
  rm -rf "$work/adapter"*
  "$python" "$script" write "$model" "$work/adapter" "$@"
  check "$work/adapter"
}
by_plumb() {
  echo "## plumb trains: $*"
  rm -rf "$work/out"
  "$plumb" sft --model "$model" --data "$rows" --output_dir "$work/out" --lora_r 8 --max_steps 4 --max_length 256 \
    --learning_rate 0.01 --per_device_train_batch_size 4 --threads 2 "$@"
  check "$work/out/adapter"
}

by_peft
by_peft --targets all-linear --rslora --rank 4
by_peft --targets all-linear --dora --rank 4
by_peft --modules_to_save lm_head
by_plumb
by_plumb --lora_target_modules all-linear --use_rslora true --lora_rank_pattern down_proj=2
by_plumb --lora_target_modules all-linear --use_dora true
