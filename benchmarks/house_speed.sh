#!/usr/bin/env bash
# Compares speed and memory of two builds of plumb. Runs them in alternating pairs, so that other load on the machine affects
# both alike, and prints the median over the pairs of new / old. Needs an idle machine: 10 minutes on two cores.
#     benchmarks/house_speed.sh OLD_PLUMB NEW_PLUMB [PAIRS]
# STEPS (8) is the number of measured steps of a run, RANKS (8) the number of ranks, CASES (.) selects rows of the table.
# Where virtual cores are unequal, pin both programs to one core: taskset -c 0 benchmarks/house_speed.sh ...
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -eq 2 || $# -eq 3 ]] || { sed -n '2,6s/^# \{0,1\}//p' "benchmarks/${0##*/}" >&2 && exit 2; }
old=$(realpath "$1") new=$(realpath "$2") pairs=${3:-5}
export RANKS=${RANKS:-8} OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
  OMPI_MCA_rmaps_base_oversubscribe=1
steps=${STEPS:-8} cases=${CASES:-.}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# train PROGRAM DTYPE [OPTIONS]: prints the seconds of a step and the memory of all ranks in MB.
train() {
  PLUMB=$1 benchmarks/plumb_sft.sh "$2" "$steps" "${@:3}" |
    sed -E 's/.*"step_seconds": ([0-9.e-]+).*"peak_sum_pss_mb": ([0-9.]+).*/\1 \2/'
}

# start_up PROGRAM: prints the seconds from launch to the end of the first step, when its line is written.
start_up() {
  local begin
  rm -rf "$work/run"
  begin=$(date +%s.%N)
  mpirun -n "$RANKS" --bind-to none "$1" sft --model "$work/model" --data "$work/rows.jsonl" --output_dir "$work/run" \
    --per_device_train_batch_size 1 --max_steps 1 >"$work/log" 2>&1 || { cat "$work/log" >&2 && exit 1; }
  awk -v a="$begin" -v b="$(stat -c %.Y "$work/run/metrics.jsonl")" 'BEGIN { print b - a, "-" }'
}

# compare NAME MEASURE [ARGS]: runs MEASURE PROGRAM ARGS for both programs, in alternating order, and prints table rows.
compare() {
  local name=$1 measure=$2 pair
  shift 2
  [[ $name =~ $cases ]] || return 0
  : >"$work/pairs"
  for ((pair = 0; pair < pairs; pair++)); do
    local old_result new_result
    if ((pair % 2 == 0)); then
      old_result=$("$measure" "$old" "$@") new_result=$("$measure" "$new" "$@")
    else
      new_result=$("$measure" "$new" "$@") old_result=$("$measure" "$old" "$@")
    fi
    echo "$old_result $new_result" | tee -a "$work/pairs" >&2
  done
  row "$name, s" 1 3
  if ! grep -q -- ' -' "$work/pairs"; then row "$name, memory in MB" 2 4; fi
}

# row NAME OLD_COLUMN NEW_COLUMN
row() {
  echo "| $1 | $(column "$2" | median) | $(column "$3" | median) | $(ratios "$2" "$3" | median) | $(ratios "$2" "$3" | sort -g | sed -n '1p;$p' | paste -sd -) |"
}
column() { awk -v i="$1" '{ print $i }' "$work/pairs"; }
ratios() { awk -v a="$1" -v b="$2" '{ printf "%.3f\n", $b / $a }' "$work/pairs"; }
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }

"$old" init --output_dir "$work/model" --hidden_size 64 --num_layers 4 --num_heads 4 --intermediate_size 160 >/dev/null 2>&1
for ((i = 0; i < 64; i++)); do echo "{\"text\": \"row $i of a small file, short enough for one step\"}"; done >"$work/rows.jsonl"

echo "| $pairs pairs on $RANKS ranks | old, median | new, median | new / old, median | range |"
echo "|---|---|---|---|---|"
compare "sft in float32, a step" train float32
compare "sft in bfloat16, a step" train bfloat16
compare "LoRA in float32, a step" train float32 --lora_r 8
compare "QLoRA in bfloat16, a step" train bfloat16 --lora_r 8 --quantize nf4
compare "launch to the end of step 1" start_up
