#!/usr/bin/env bash
# Runs `plumb generate` and transformers' generate alternately, greedy, and prints medians over the rounds and of the
# ratios as a Markdown table. Needs benchmarks/peers/setup.sh once.
#     benchmarks/generate_side_by_side.sh [ROUNDS] [DIRECTORY of the peers' environment]
# Environment: THREADS (2), ROWS (numbers of rows: 1 8 16 64; the peer has all in one batch), NEW_TOKENS (64),
# PROMPT (bytes of a prompt, 64), DTYPES, CORES (of taskset; default: all), MODEL_OPTIONS (of plumb init), PLUMB, and OLD
# (another plumb, as a second peer).
# shellcheck disable=SC2016 # fields of awk
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
venv=${2:-/tmp/peers}
program=${PLUMB:-build/plumb}
threads=${THREADS:-2} new_tokens=${NEW_TOKENS:-64} prompt=${PROMPT:-64}
read -ra dtypes <<<"${DTYPES:-float32 bfloat16}"
read -ra row_counts <<<"${ROWS:-1 8 16 64}"
pin=()
[[ -z ${CORES:-} ]] || pin=(taskset -c "$CORES")
# the shape of SmolLM2-135M
read -ra model_options <<<"${MODEL_OPTIONS:---hidden_size 576 --num_layers 30 --num_heads 9 --num_kv_heads 3 --intermediate_size 1536 --vocab_size 49152 --tie_word_embeddings true --max_position_embeddings 2048}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PYTHONWARNINGS=ignore HF_HUB_OFFLINE=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" init --output_dir "$work/model" "${model_options[@]}" >/dev/null 2>&1
awk -v n="$prompt" 'BEGIN { srand(0); for (i = 0; i < 256; i++) { s = ""
  for (j = 0; j < n; j++) s = s sprintf("%c", 97 + int(rand() * 26)); printf "{\"prompt\": \"%s\"}\n", s } }' >"$work/all.jsonl"

# run_plumb PROGRAM DTYPE ROWS: tokens per second and peak memory in MB. A random model ends few texts early.
run_plumb() {
  "${pin[@]}" /usr/bin/time -o "$work/time" -f '%M' "$1" generate --model "$work/model" --data "$work/rows.jsonl" \
    --dtype "$2" --threads "$threads" --max_new_tokens "$new_tokens" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
  awk -v rss="$(<"$work/time")" -v want="$(($3 * new_tokens))" '
    match($0, /([0-9]+) tokens in ([0-9.]+) s/) { split(substr($0, RSTART, RLENGTH), f, " "); n = f[1]; s = f[4] }
    END { if (n < 0.9 * want) { print "expected about " want " tokens, got " n > "/dev/stderr"; exit 1 } printf "%.1f %.0f\n", n / s, rss / 1024 }' "$work/log"
}
run_peer() {
  "${pin[@]}" "$venv/bin/python" benchmarks/peers/generate.py "$work/model" "$work/rows.jsonl" --dtype "$1" --threads "$threads" \
    --batch "$2" --new_tokens "$new_tokens" 2>"$work/log" | sed -n 's/.*"tokens_per_second": \([0-9.]*\), "peak_rss_mb": \([0-9.]*\).*/\1 \2/p' |
    grep . || { cat "$work/log" >&2; exit 1; }
}
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }

echo "| dtype | rows | plumb, tokens/s | ${OLD:+before | plumb / before | }transformers | plumb / transformers | range | memory, plumb / transformers |"
echo "|---|---|---|---|---|---|---|${OLD:+---|---|}"
for dtype in "${dtypes[@]}"; do
  for rows in "${row_counts[@]}"; do
    head -n "$rows" "$work/all.jsonl" >"$work/rows.jsonl"
    : >"$work/pairs"
    for ((round = 0; round < rounds; round++)); do
      ours=$(run_plumb "$program" "$dtype" "$rows")
      old=${OLD:+$(run_plumb "$OLD" "$dtype" "$rows")}
      echo "$ours $(run_peer "$dtype" "$rows") ${old:-1 1}" | tee -a "$work/pairs" >&2
    done
    column() { awk "{ print $1 }" "$work/pairs" | median; }
    printf '| %s | %s | %.0f |' "$dtype" "$rows" "$(column '$1')"
    [[ -z ${OLD:-} ]] || printf ' %.0f | %.2f |' "$(column '$5')" "$(column '$1 / $5')"
    printf ' %.0f | %.2f | %s | %.2f |\n' "$(column '$3')" "$(column '$1 / $3')" \
      "$(awk '{ printf "%.2f\n", $1 / $3 }' "$work/pairs" | sort -g | sed -n '1p;$p' | paste -sd -)" "$(column '$2 / $4')"
  done
done
