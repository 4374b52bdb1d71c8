#!/usr/bin/env bash
# Training speed of two builds on one core, in alternating pairs, beside the rate of LibTorch's matrix products of the
# step's shapes in the same pair: a Llama of 24 M parameters, rows of 256 tokens, 8 accumulation steps, one rank. Prints a
# Markdown table. Seconds are processor time, so that other programs on the core count less.
#     benchmarks/training_speed.sh OLD_PLUMB NEW_PLUMB PYTHON [PAIRS] [CORE]
# PYTHON: one with torch.
set -euo pipefail
old=$(realpath "$1") new=$(realpath "$2") python=$3 pairs=${4:-5} core=${5:-0}
here=$(realpath "$(dirname "$0")")
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$here/llama_24m.sh" "$old" .
cat >products.py <<'PYTHON'
# seconds of LibTorch's products of a micro-batch of 256 tokens: x W^T, dy W and dy^T x of each matrix
import sys, time, torch
torch.set_num_threads(1)
dtype, seconds = getattr(torch, sys.argv[1]), 0.0
def least_seconds(product):
    product()
    times = []
    for _ in range(3):
        begin, count = time.process_time(), 0
        while time.process_time() - begin < 0.03:
            product()
            count += 1
        times.append((time.process_time() - begin) / count)
    return min(times)
for count, inputs, outputs in ((6, 288, 864), (6, 288, 288), (6, 288, 1536), (6, 768, 288), (1, 288, 32000)):
    x, w, dy = (torch.randn(s).to(dtype) for s in ((256, inputs), (outputs, inputs), (256, outputs)))
    y, dx, dw = torch.empty_like(dy), torch.empty_like(x), torch.empty_like(w)
    seconds += count * sum(map(least_seconds, (lambda: torch.mm(x, w.t(), out=y), lambda: torch.mm(dy, w, out=dx),
                                               lambda: torch.mm(dy.t(), x, out=dw))))
print(seconds)
PYTHON
# run PROGRAM DTYPE STEPS: processor seconds of the whole run
run() {
  rm -rf run
  # what bash's `time` prints has no place among the program's messages
  { TIMEFORMAT='%U %S' && time taskset -c "$core" "$1" sft --model model --data rows.jsonl --output_dir run --dtype "$2" \
    --max_steps "$3" --max_length 256 --per_device_train_batch_size 1 --gradient_accumulation_steps 8 --threads 1 \
    --logging_steps 1 --learning_rate 1e-3 --gradient_checkpointing false --startup_checks false >log 2>&1; } 2>elapsed.txt ||
    { cat log >&2 && exit 1; }
  awk '{ print $1 + $2 }' elapsed.txt
}
steps=8
step_seconds() {
  local short long
  short=$(run "$1" "$2" 2)
  long=$(run "$1" "$2" $((2 + steps)))
  awk -v a="$short" -v b="$long" -v n="$steps" 'BEGIN { print (b - a) / n }'
}
for ((pair = 0; pair < pairs; pair++)); do
  for dtype in float32 bfloat16; do
    products=$(taskset -c "$core" "$python" products.py "$dtype")
    echo "$dtype $products $(step_seconds "$old" "$dtype") $(step_seconds "$new" "$dtype")" | tee -a pairs >&2
  done
done
"$python" - pairs <<'PYTHON'
import collections, statistics, sys
rows = collections.defaultdict(list)
for line in open(sys.argv[1]):
    dtype, *seconds = line.split()
    rows[dtype].append([float(x) for x in seconds])
print("| dtype | products, GFLOP/s | old, tokens/s | new, tokens/s | old / products | new / products | new / old |")
print("|---|---|---|---|---|---|---|")
tokens, flop = 8 * 256, 8 * 256 * 91.1e6
for dtype, group in rows.items():
    def of(value, digits): return f"{statistics.median(map(value, group)):.{digits}f}"
    print(f"| {dtype} | {of(lambda g: flop / g[0] / 8e9, 0)} | {of(lambda g: tokens / g[1], 0)} | {of(lambda g: tokens / g[2], 0)} "
          f"| {of(lambda g: 8 * g[0] / g[1], 2)} | {of(lambda g: 8 * g[0] / g[2], 2)} | {of(lambda g: g[1] / g[2], 2)} |")
PYTHON
