#!/usr/bin/env bash
# Runs plumb and transformers + PEFT (+ bitsandbytes) alternately, LoRA and QLoRA, for several rounds, so that other load
# on the machine affects both, and prints medians and ratios as a Markdown table. Needs benchmarks/peers/setup.sh once.
#     benchmarks/lora_side_by_side.sh [ROUNDS] [DIRECTORY of the peers' environment]
# Environment: THREADS (2), BATCH (rows per step, 8), MICRO_BATCH (plumb's, BATCH), STEPS (6), WARMUP (2),
# DTYPES, TARGETS (attention all-linear), QUANTIZE (none nf4), PEERS (peft_at_once peft_row_by_row: a bare loop around
# transformers and PEFT; trl, trl_accumulating: SFTTrainer with the batch at once or row by row), MODEL_OPTIONS (of plumb
# init), ROWS (a file of prompt and completion, for plumb and trl only; by default texts, of which every token is
# trained), PLUMB, PLUMB_OPTIONS (more options of plumb sft).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
venv=${2:-/tmp/peers}
program=${PLUMB:-build/plumb}
threads=${THREADS:-2} batch=${BATCH:-8} steps=${STEPS:-6} warmup=${WARMUP:-2}
micro_batch=${MICRO_BATCH:-$batch}
read -ra dtypes <<<"${DTYPES:-float32 bfloat16}"
read -ra targets <<<"${TARGETS:-attention all-linear}"
read -ra quantize <<<"${QUANTIZE:-none nf4}"
read -ra peers <<<"${PEERS:-peft_at_once peft_row_by_row}"
# 99.5 M parameters, half of them embedding and head
read -ra model_options <<<"${MODEL_OPTIONS:---hidden_size 768 --num_layers 8 --num_heads 12 --num_kv_heads 4 --intermediate_size 2048 --vocab_size 32000 --tie_word_embeddings false --max_position_embeddings 512}"
read -ra more_options <<<"${PLUMB_OPTIONS:-}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PYTHONWARNINGS=ignore OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" init --output_dir "$work/model" "${model_options[@]}" >/dev/null 2>&1
# Bytes are tokens: rows of 256 to 511 and one that ends the text.
awk 'BEGIN { srand(0); for (i = 0; i < 256; i++) { s = ""; n = 256 + int(rand() * 255)
  for (j = 0; j < n; j++) s = s sprintf("%c", 97 + int(rand() * 26)); printf "{\"text\": \"%s\"}\n", s } }' >"$work/rows.jsonl"
[[ -z ${ROWS:-} ]] || cp "$ROWS" "$work/rows.jsonl"

modules_of() { [[ $1 == attention ]] && echo "q_proj k_proj v_proj o_proj" || echo "$1"; }

# One line of JSON like the peer's. Tokens per second are the median of the measured steps.
run_plumb() {
  local dtype=$1 target=$2 base=$3 modules
  read -ra modules <<<"$(modules_of "$target")"
  rm -rf "$work/run"
  OMP_NUM_THREADS=$threads /usr/bin/time -o "$work/time" -f '%M' "$program" sft --model "$work/model" \
    --data "$work/rows.jsonl" --output_dir "$work/run" --dtype "$dtype" --max_length 512 --shuffle false \
    --max_steps "$((steps + warmup))" --per_device_train_batch_size "$micro_batch" \
    --gradient_accumulation_steps "$((batch / micro_batch))" --learning_rate 2e-4 --lr_scheduler_type constant \
    --gradient_checkpointing false --logging_steps 1 --threads "$threads" --lora_r 16 --lora_alpha 32 \
    --lora_target_modules "${modules[@]}" --quantize "$base" "${more_options[@]}" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
  "$venv/bin/python" - "$work" "$dtype" "$base" "$threads" "$warmup" <<'PYTHON'
import json, statistics, sys
work, dtype, quantize, threads, warmup = sys.argv[1:]
lines = [json.loads(line) for line in open(f"{work}/run/metrics.jsonl")]
steps = [line for line in lines if "tokens_per_second" in line and "loss" in line]
print(json.dumps({
    "peer": "plumb", "dtype": dtype, "quantize": quantize, "threads": int(threads),
    "tokens_per_second": round(statistics.median(s["tokens_per_second"] for s in steps[int(warmup):]), 1),
    "peak_rss_mb": round(int(open(f"{work}/time").read().split()[-1]) / 1024, 1),
    "first_loss": steps[0]["loss"], "last_loss": steps[-1]["loss"],
}))
PYTHON
}

# glibc keeps memory that the peer frees, as in pairs_side_by_side.sh. Its adapters are bfloat16 if the model is, which is
# faster than float32 adapters, whose inputs PEFT converts.
keep_freed=(MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864)

# dtype, micro-batches of a step, adapted modules
run_trl() {
  local dtype=$1 accumulation=$2
  env "${keep_freed[@]}" "$venv/bin/python" benchmarks/peers/trl_sft.py "$work/model" "$work/rows.jsonl" \
    --dtype "$dtype" --threads "$threads" --steps "$steps" --warmup "$warmup" --batch "$batch" --max_length 512 \
    --accumulation "$accumulation" --learning_rate 2e-4 --lora_r 16 --targets "${@:3}" 2>"$work/log" | grep '^{' ||
    { cat "$work/log" >&2; exit 1; }
}

run_peer() {
  local name=$1 dtype=$2 target=$3 base=$4 modules options=()
  read -ra modules <<<"$(modules_of "$target")"
  case $name in
    peft_at_once) options=(--batching padded --adapter_dtype "$dtype") ;;
    peft_row_by_row) options=(--batching one_by_one --adapter_dtype "$dtype") ;;
    trl) run_trl "$dtype" 1 "${modules[@]}" && return ;;
    trl_accumulating) run_trl "$dtype" "$batch" "${modules[@]}" && return ;;
  esac
  env "${keep_freed[@]}" "$venv/bin/python" benchmarks/peers/peft_lora.py "$work/model" "$work/rows.jsonl" \
    --dtype "$dtype" --threads "$threads" --steps "$steps" --warmup "$warmup" --batch "$batch" --max_length 512 \
    --quantize "$base" "${options[@]}" --targets "${modules[@]}" 2>"$work/log" | grep '^{' ||
    { cat "$work/log" >&2; exit 1; }
}

keep() { sed "s/^{/{\"targets_are\": \"$1\", \"program\": \"$2\", /" | tee -a "$work/results" >&2; }

for ((round = 0; round < rounds; round++)); do
  for dtype in "${dtypes[@]}"; do
    for target in "${targets[@]}"; do
      for how in "${quantize[@]}"; do
        run_plumb "$dtype" "$target" "$how" | keep "$target" plumb
        for peer in "${peers[@]}"; do run_peer "$peer" "$dtype" "$target" "$how" | keep "$target" "$peer"; done
      done
    done
  done
done
"$venv/bin/python" - "$work/results" <<'PYTHON'
import collections, json, statistics, sys
runs = collections.defaultdict(list)
for line in open(sys.argv[1]):
    run = json.loads(line)
    runs[run["dtype"], run["targets_are"], run.get("quantize", "none"), run["program"]].append(run)

def ratio(ours, theirs, key):
    """Median over the rounds; empty if one side was not run."""
    ratios = [a[key] / b[key] for a, b in zip(ours, theirs)]
    return f"{statistics.median(ratios):.2f}" if ratios else ""

print("| dtype | adapted | base | program | tokens/s (median) | peak RSS, MB | plumb is faster by | plumb's peak / its | of its LoRA's speed | first loss |")
print("|---|---|---|---|---|---|---|---|---|---|")
for (dtype, targets, quantize, program), group in sorted(runs.items()):
    ours = runs.get((dtype, targets, quantize, "plumb"), [])
    unquantized = runs.get((dtype, targets, "none", program), [])
    speed = [run["tokens_per_second"] for run in group]
    print(f"| {dtype} | {targets} | {'plain' if quantize == 'none' else quantize} | {program}"
          f" | {statistics.median(speed):.0f} ({min(speed):.0f}-{max(speed):.0f})"
          f" | {statistics.median(run['peak_rss_mb'] for run in group):.0f}"
          f" | {ratio(ours, group, 'tokens_per_second')} | {ratio(ours, group, 'peak_rss_mb')}"
          f" | {ratio(group, unquantized, 'tokens_per_second') if quantize != 'none' else ''}"
          f" | {group[0]['first_loss']:.4f} |")
PYTHON
