#!/usr/bin/env bash
# Compares speed and memory of two builds of plumb. Both run at the same time, each on one of two cores, and then again with
# the cores exchanged: what slows the machine slows both, and neither has the faster core. A pair is the geometric mean
# of these two ratios new / old; printed are the median and the range over the pairs.
#     benchmarks/house_speed.sh OLD_PLUMB NEW_PLUMB [PAIRS]
# STEPS (8) is the number of measured steps of a run, RANKS (2) the number of ranks on a core, CASES (.) selects rows.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -eq 2 || $# -eq 3 ]] || { sed -n '2,7s/^# \{0,1\}//p' "benchmarks/${0##*/}" >&2 && exit 2; }
old=$(realpath "$1") new=$(realpath "$2") pairs=${3:-5}
export RANKS=${RANKS:-2} OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
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
  local begin run=$work/run_$BASHPID
  begin=$(date +%s.%N)
  mpirun -n "$RANKS" --bind-to none "$1" sft --model "$work/model" --data "$work/rows.jsonl" --output_dir "$run" \
    --per_device_train_batch_size 1 --max_steps 1 >"$run.log" 2>&1 || { cat "$run.log" >&2 && exit 1; }
  awk -v a="$begin" -v b="$(stat -c %.Y "$run/metrics.jsonl")" 'BEGIN { print b - a, "-" }'
  rm -r "$run"
}

# on_core CORE COMMAND...: runs a function or command on that core.
on_core() {
  taskset -cp "$1" "$BASHPID" >/dev/null
  "${@:2}"
}

# compare NAME MEASURE [ARGS]: runs MEASURE PROGRAM ARGS for both programs side by side and prints table rows.
compare() {
  local name=$1 measure=$2 pair core
  shift 2
  [[ $name =~ $cases ]] || return 0
  : >"$work/pairs"
  for ((pair = 0; pair < pairs; pair++)); do
    for core in 0 1; do
      on_core "$core" "$measure" "$old" "$@" >"$work/old_$core" &
      on_core "$((1 - core))" "$measure" "$new" "$@" >"$work/new_$core"
      wait "$!"
    done
    paste -d ' ' "$work"/{old,new}_0 "$work"/{old,new}_1 | tee -a "$work/pairs" >&2
  done
  row "$name, s" 1
  if ! grep -q -- ' -' "$work/pairs"; then row "$name, memory in MB" 2; fi
}

# row NAME COLUMN: of each program's results; a line of pairs has old and new on one placement, then on the other.
row() {
  awk -v i="$2" '{ print $i "\n" $(i + 4) }' "$work/pairs" | median >"$work/old"
  awk -v i="$2" '{ print $(i + 2) "\n" $(i + 6) }' "$work/pairs" | median >"$work/new"
  awk -v i="$2" '{ printf "%.3f\n", sqrt($(i + 2) / $i * $(i + 6) / $(i + 4)) }' "$work/pairs" | sort -g >"$work/ratios"
  echo "| $1 | $(<"$work/old") | $(<"$work/new") | $(median <"$work/ratios") | $(sed -n '1p;$p' "$work/ratios" | paste -sd -) |"
}
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }

"$old" init --output_dir "$work/model" --hidden_size 64 --num_layers 4 --num_heads 4 --intermediate_size 160 >/dev/null 2>&1
for ((i = 0; i < 64; i++)); do echo "{\"text\": \"row $i of a small file, short enough for one step\"}"; done >"$work/rows.jsonl"

echo "| $pairs pairs, $RANKS ranks each | old, median | new, median | new / old, median | range |"
echo "|---|---|---|---|---|"
compare "sft in float32, a step" train float32
compare "sft in bfloat16, a step" train bfloat16
compare "LoRA in float32, a step" train float32 --lora_r 8
compare "QLoRA in bfloat16, a step" train bfloat16 --lora_r 8 --quantize nf4
compare "launch to the end of step 1" start_up
