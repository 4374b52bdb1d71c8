#!/usr/bin/env bash
# Runs steps of `plumb grpo` and of TRL's GRPOTrainer alternately, each with generation, and prints medians and ratios as
# a Markdown table. Needs benchmarks/peers/setup.sh once.
#     benchmarks/grpo_side_by_side.sh [ROUNDS] [DIRECTORY of the peers' environment]
# Environment: THREADS (2), ROWS (completions of a step, 64, of which 8 share a prompt), BATCH (completions of a
# micro-batch, 8), PROMPT (bytes of a prompt, 64), NEW_TOKENS (64), STEPS (3), WARMUP (1), DTYPES, CORES (of taskset;
# default: all), PLUMB.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
venv=${2:-/tmp/peers}
program=${PLUMB:-build/plumb}
threads=${THREADS:-2} rows=${ROWS:-64} batch=${BATCH:-8} prompt=${PROMPT:-64} new_tokens=${NEW_TOKENS:-64}
steps=${STEPS:-3} warmup=${WARMUP:-1}
read -ra dtypes <<<"${DTYPES:-float32 bfloat16}"
pin=()
[[ -z ${CORES:-} ]] || pin=(taskset -c "$CORES")
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONWARNINGS=ignore OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The Llama of 24.4 M parameters of the other benchmarks, with a byte-level tokenizer.
"$program" init --output_dir "$work/model" --hidden_size 288 --num_layers 6 --num_heads 6 --num_kv_heads 6 \
  --intermediate_size 768 --vocab_size 32000 --tie_word_embeddings false --max_position_embeddings 512 >/dev/null 2>&1
awk -v n="$prompt" 'BEGIN { srand(0); for (i = 0; i < 256; i++) { s = ""
  for (j = 0; j < n; j++) s = s sprintf("%c", 97 + int(rand() * 26)); printf "{\"prompt\": \"%s\"}\n", s } }' >"$work/rows.jsonl"

# Both print: tokens per second, peak memory in MB, share of generation in a step.
run_plumb() {
  rm -rf "$work/run"
  "${pin[@]}" /usr/bin/time -o "$work/time" -f '%M' "$program" grpo --model "$work/model" --data "$work/rows.jsonl" \
    --output_dir "$work/run" --dtype "$1" --max_steps "$((steps + warmup))" --per_device_train_batch_size "$batch" \
    --gradient_accumulation_steps "$((rows / batch))" --max_completion_length "$new_tokens" --reward_funcs repetition \
    --repetition_ngram 1 --shuffle false --gradient_checkpointing false --logging_steps 1 --save_steps 0 --threads "$threads" \
    >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  "$venv/bin/python" - "$work" "$warmup" <<'PYTHON'
import json, statistics, sys
work, warmup = sys.argv[1], int(sys.argv[2])
lines = [json.loads(line) for line in open(f"{work}/run/metrics.jsonl")]
counts = [0] + [line["num_tokens"] for line in lines]
rates = [(counts[i + 1] - counts[i]) / line["step_seconds"] for i, line in enumerate(lines)][warmup:]
assert not any(line["frac_reward_zero_std"] for line in lines), "groups without a signal are skipped"
shares = [line["generation_seconds"] / line["step_seconds"] for line in lines][warmup:]
peak = int(open(f"{work}/time").read().split()[-1]) / 1024
print(f"{statistics.median(rates):.1f} {peak:.0f} {statistics.median(shares):.3f}")
PYTHON
}
run_trl() {
  "${pin[@]}" env MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864 \
    "$venv/bin/python" benchmarks/peers/trl_grpo.py "$work/model" "$work/rows.jsonl" --dtype "$1" --threads "$threads" \
    --batch "$rows" --accumulation "$((rows / batch))" --max_completion_length "$new_tokens" --steps "$steps" \
    --warmup "$warmup" 2>"$work/log" | grep '^{' >"$work/trl.json" || { cat "$work/log" >&2; exit 1; }
  "$venv/bin/python" -c 'import json, sys; r = json.load(open(sys.argv[1]))
print(r["tokens_per_second"], r["peak_rss_mb"], r["generation_share"])' "$work/trl.json"
}
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }

echo "| dtype | plumb, tokens/s | TRL | plumb / TRL | range | memory, plumb / TRL, MB | ratio | generation in a step, plumb | TRL |"
echo "|---|---|---|---|---|---|---|---|---|"
for dtype in "${dtypes[@]}"; do
  : >"$work/pairs"
  for ((round = 0; round < rounds; round++)); do
    echo "$(run_plumb "$dtype") $(run_trl "$dtype")" | tee -a "$work/pairs" >&2
  done
  column() { awk "{ print $1 }" "$work/pairs" | median; }
  # shellcheck disable=SC2016 # fields of awk
  printf '| %s | %.0f | %.0f | %.2f | %s | %.0f / %.0f | %.2f | %.0f %% | %.0f %% |\n' "$dtype" "$(column '$1')" \
    "$(column '$4')" "$(column '$1 / $4')" \
    "$(awk '{ printf "%.2f\n", $1 / $4 }' "$work/pairs" | sort -g | sed -n '1p;$p' | paste -sd -)" "$(column '$2')" \
    "$(column '$5')" "$(column '$2 / $5')" "$(column '100 * $3')" "$(column '100 * $6')"
done
