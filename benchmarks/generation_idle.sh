#!/usr/bin/env bash
# How long ranks wait for each other while completions of very different lengths are made: runs `plumb grpo` on a random
# model that ends a text at one of six of its 260 tokens, so that lengths go from 1 to 128, and prints the mean and the
# largest `generation_idle` of the rounds as a Markdown table.
#     benchmarks/generation_idle.sh [RANKS]
# Environment: ROWS (numbers of completions of a round: 64 128 256), STEPS (6), DTYPES, PREFIX (of mpirun), PLUMB.
set -euo pipefail
cd "$(dirname "$0")/.."
ranks=${1:-2}
program=$(realpath "${PLUMB:-build/plumb}")
read -ra row_counts <<<"${ROWS:-64 128 256}"
read -ra dtypes <<<"${DTYPES:-float32 bfloat16}"
read -ra prefix <<<"${PREFIX:-}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" init --output_dir "$work/model" --hidden_size 288 --num_layers 6 --num_heads 6 --num_kv_heads 6 \
  --intermediate_size 768 --max_position_embeddings 512 >/dev/null 2>&1
echo '{"eos_token_id": [256, 0, 1, 2, 3, 4]}' >"$work/model/generation_config.json"
awk 'BEGIN { srand(0); for (i = 0; i < 256; i++) { s = ""
  for (j = 0; j < 64; j++) s = s sprintf("%c", 97 + int(rand() * 26)); printf "{\"prompt\": \"%s\"}\n", s } }' >"$work/rows.jsonl"

echo "| dtype | completions | lengths | seconds of a round | idle, mean | idle, most |"
echo "|---|---|---|---|---|---|"
for dtype in "${dtypes[@]}"; do
  for rows in "${row_counts[@]}"; do
    "${prefix[@]}" mpirun -n "$ranks" --bind-to core "$program" grpo --model "$work/model" --data "$work/rows.jsonl" \
      --output_dir "$work/run" --overwrite_output_dir true --dtype "$dtype" --max_steps "${STEPS:-6}" \
      --per_device_train_batch_size 8 --gradient_accumulation_steps "$((rows / 8 / ranks))" --num_generations 8 \
      --max_completion_length 128 --reward_funcs repetition --repetition_ngram 1 --logging_steps 1 --save_steps 0 \
      --threads 1 >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    python3 - "$work/run/metrics.jsonl" "$dtype" "$rows" <<'PYTHON'
import json, statistics, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
of = lambda name: [line[name] for line in lines if name in line]
idle = of("generation_idle")
print(f"| {sys.argv[2]} | {sys.argv[3]} | {min(of('completions/min_length')):.0f} to {max(of('completions/max_length')):.0f}, "
      f"mean {statistics.mean(of('completions/mean_length')):.0f} | {statistics.median(of('generation_seconds')):.2f} | "
      f"{100 * statistics.mean(idle):.1f} % | {100 * max(idle):.1f} % |")
PYTHON
  done
done
