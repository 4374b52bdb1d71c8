#!/usr/bin/env bash
# Where the time of a training step goes: runs plumb under perf on one core, with the model of training_speed.sh, and
# prints a Markdown table of the parts of Trainer::step. With FLAMES also draws them as a flame graph.
#     benchmarks/profile.sh PLUMB DTYPE [FLAMES.svg] [CORE]
# Needs perf (linux-perf) and python3. The program must not be stripped.
set -euo pipefail
program=$(realpath "$1") dtype=$2 flames=${3:+$(realpath -m "$3")} core=${4:-0}
here=$(realpath "$(dirname "$0")")
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$here/llama_24m.sh" "$program" .
taskset -c "$core" perf record -q -F 199 -e cpu-clock --call-graph dwarf,16384 -o record "$program" sft --model model \
  --data rows.jsonl --output_dir run --dtype "$dtype" --max_steps 12 --max_length 256 --per_device_train_batch_size 1 \
  --gradient_accumulation_steps 8 --threads 1 --logging_steps 1 --gradient_checkpointing false --startup_checks false \
  >log 2>&1 || { cat log >&2 && exit 1; }
perf script -i record --no-inline -F ip,sym 2>/dev/null >stacks
python3 "$here/profile.py" stacks ${flames:+"$flames"}
