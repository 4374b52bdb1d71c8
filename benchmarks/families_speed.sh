#!/usr/bin/env bash
# Training speed of model families per useful floating-point operation, beside Llama's: models of about 15 M parameters
# with the settings of small directories of each family, one rank on one core, rows of 256 tokens; each family's run
# alternates with Llama's. Seconds are processor time. Prints a Markdown table.
#     benchmarks/families_speed.sh PLUMB PYTHON ROUNDS LLAMA_DIR MODEL_DIR...
# PYTHON: one with transformers. MODEL_DIR: small models with tokenizers, such as ../shared/reference/models/tiny-*.
set -euo pipefail
plumb=$(realpath "$1") python=$2 rounds=$3
shift 3
here=$(realpath "$(dirname "$0")")
core=$(taskset -cp $$ | sed 's/.*[ ,-]//')
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 HF_HUB_OFFLINE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
names=()
for directory in "$@"; do
  names+=("$(basename "$directory")")
  "$python" "$here/peers/wider_model.py" "$directory" "$work/$(basename "$directory")"
done
cd "$work"
awk 'BEGIN { srand(0); for (i = 0; i < 256; i++) { s = ""; for (j = 0; j < 700; j++) s = s sprintf("%c", 97 + int(rand() * 26))
  printf "{\"text\": \"%s\"}\n", s } }' >rows.jsonl
# run MODEL DTYPE STEPS: processor seconds of the whole run
run() {
  rm -rf run
  # what bash's `time` prints has no place among the program's messages
  { TIMEFORMAT='%U %S' && time taskset -c "$core" "$plumb" sft --model "$1" --data rows.jsonl --output_dir run --dtype "$2" \
    --max_steps "$3" --max_length 256 --per_device_train_batch_size 2 --gradient_accumulation_steps 4 --threads 1 \
    --learning_rate 1e-3 --gradient_checkpointing false --startup_checks false >log 2>&1; } 2>elapsed.txt ||
    { cat log >&2 && exit 1; }
  awk '{ print $1 + $2 }' elapsed.txt
}
# rate MODEL DTYPE: useful GFLOP a second of processor time, from the difference of a long and a short run
rate() {
  local short long
  short=$(run "$1" "$2" 1)
  long=$(run "$1" "$2" 5)
  awk -v a="$short" -v b="$long" -v flop="$(cat "$1/flop_per_token")" 'BEGIN { print 4 * 2048 * flop / (b - a) / 1e9 }'
}
for ((round = 0; round < rounds; round++)); do
  for dtype in float32 bfloat16; do
    for name in "${names[@]:1}"; do
      echo "$name $dtype $(rate "${names[0]}" "$dtype") $(rate "$name" "$dtype")" | tee -a rates >&2
    done
  done
done
"$python" - rates <<'PYTHON'
import collections, statistics, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, dtype, llama, own = line.split()
    rows[name, dtype].append((float(llama), float(own)))
print("| model | dtype | Llama, GFLOP/s | this family, GFLOP/s | ratio |")
print("|---|---|---|---|---|")
for (name, dtype), pairs in rows.items():
    llama, own, ratio = (statistics.median(v) for v in zip(*((a, b, b / a) for a, b in pairs)))
    print(f"| {name} | {dtype} | {llama:.0f} | {own:.0f} | {ratio:.2f} |")
PYTHON
