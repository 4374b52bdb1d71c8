#!/usr/bin/env bash
# Runs plumb and TRL alternately on preference pairs, reward and DPO, for several rounds, so that other load on the machine
# affects both, and prints medians and ratios as a Markdown table. Needs benchmarks/peers/setup.sh once and
# ../shared/reference.
#     benchmarks/pairs_side_by_side.sh [ROUNDS] [DIRECTORY of the peers' environment]
# Environment: RANKS (1), THREADS per rank (2 / RANKS), BATCH (pairs per micro-batch, 8 / RANKS; a step has 8),
# STEPS (4), WARMUP (1), STAGES, DTYPES, ROWS, PLUMB, PLUMB_OPTIONS (more options of plumb reward and plumb dpo).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-3}
venv=${2:-/tmp/peers}
program=${PLUMB:-build/plumb}
rows=${ROWS:-../shared/reference/data/pref_hh.jsonl}
ranks=${RANKS:-1} steps=${STEPS:-4} warmup=${WARMUP:-1}
threads=${THREADS:-$((ranks < 2 ? 2 : 1))}
batch=${BATCH:-$((8 / ranks))}
read -ra stages <<<"${STAGES:-reward dpo}"
read -ra dtypes <<<"${DTYPES:-float32 bfloat16}"
read -ra more_options <<<"${PLUMB_OPTIONS:-}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONWARNINGS=ignore
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The Llama of 24.4 M parameters of the other benchmarks, with a byte-level tokenizer: 512 tokens are 512 bytes.
"$program" init --output_dir "$work/model" --hidden_size 288 --num_layers 6 --num_heads 6 --num_kv_heads 6 \
  --intermediate_size 768 --vocab_size 32000 --tie_word_embeddings false --max_position_embeddings 512 >/dev/null 2>&1

# One line of JSON like TRL's. Tokens per second are the median of the measured steps.
run_plumb() {
  local stage=$1 dtype=$2
  rm -rf "$work/run"
  local command=("$program" "$stage" --model "$work/model" --data "$rows" --output_dir "$work/run" --dtype "$dtype"
    --max_steps "$((steps + warmup))" --per_device_train_batch_size "$batch" --gradient_accumulation_steps "$((8 / ranks / batch))" --max_length 512 --learning_rate 2e-5
    --gradient_checkpointing false --logging_steps 1 --threads "$threads" "${more_options[@]}")
  ((ranks == 1)) || command=(mpirun -n "$ranks" --bind-to none "${command[@]}")
  # GNU time gives the peak RSS of one process, as TRL's VmHWM does
  OMP_NUM_THREADS=$threads /usr/bin/time -o "$work/time" -f '%M' "${command[@]}" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
  "$venv/bin/python" - "$work" "$stage" "$dtype" "$ranks" "$threads" "$warmup" <<'PYTHON'
import json, statistics, sys
work, stage, dtype, ranks, threads, warmup = sys.argv[1:]
lines = [json.loads(line) for line in open(f"{work}/run/metrics.jsonl")]
steps = [line for line in lines if "tokens_per_second" in line and "loss" in line]
measured = steps[int(warmup):]
pss = max(line["memory_bytes"] for line in steps) / 2**20
result = {
    "peer": "plumb", "stage": stage, "dtype": dtype, "ranks": int(ranks), "threads": int(threads),
    "tokens_per_second": round(statistics.median(line["tokens_per_second"] for line in measured), 1),
    "peak_sum_pss_mb": round(pss, 1), "first_loss": steps[0]["loss"], "last_loss": steps[-1]["loss"],
}
# With several ranks GNU time knows only the largest.
result["peak_rss_mb"] = round(int(open(f"{work}/time").read().split()[-1]) / 1024 if ranks == "1" else pss, 1)
print(json.dumps(result))
PYTHON
}

# glibc keeps memory that TRL frees: its head allocates temporaries of [4096, vocabulary] in each step, and their page
# faults otherwise take a third of a DPO step's CPU time. Waiting threads do not spin, since other work may run.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
keep_freed=(MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864)

# Name of the row in the table, stage, dtype, options of trl_pairs.py
run_trl() {
  local name=$1 stage=$2 dtype=$3
  shift 3
  [[ $stage == reward ]] || set -- "$@" --precompute_ref_log_probs
  env "${keep_freed[@]}" "$venv/bin/python" benchmarks/peers/trl_pairs.py "$work/model" "$rows" --stage "$stage" \
    --dtype "$dtype" --threads 2 --steps "$steps" --warmup "$warmup" --batch 8 --max_length 512 "$@" 2>"$work/log" |
    grep '^{' | sed "s/\"peer\": \"trl\"/\"peer\": \"$name\"/" || { cat "$work/log" >&2; exit 1; }
}

for ((round = 0; round < rounds; round++)); do
  for stage in "${stages[@]}"; do
    for dtype in "${dtypes[@]}"; do
      run_plumb "$stage" "$dtype" | tee -a "$work/results" >&2
      run_trl trl "$stage" "$dtype" | tee -a "$work/results" >&2
      # the same step, one pair at a time: no padding between pairs, and less memory
      run_trl trl_pair_by_pair "$stage" "$dtype" --accumulation 8 | tee -a "$work/results" >&2
    done
  done
done
"$venv/bin/python" - "$work/results" <<'PYTHON'
import collections, json, statistics, sys
runs = collections.defaultdict(list)
for line in open(sys.argv[1]):
    run = json.loads(line)
    runs[run["stage"], run["dtype"], run["peer"]].append(run)
print("| stage | dtype | program | tokens/s (median) | peak RSS, MB | PSS after a step, MB | plumb is faster by | plumb's peak / its |")
print("|---|---|---|---|---|---|---|---|")
for (stage, dtype, peer), group in sorted(runs.items()):
    ours = runs[stage, dtype, "plumb"]
    speed = [run["tokens_per_second"] for run in group]
    peak = [run["peak_rss_mb"] for run in group]
    pss = statistics.median(run["peak_sum_pss_mb"] for run in group)
    ratio = statistics.median(o["tokens_per_second"] / s for o, s in zip(ours, speed))
    share = statistics.median(o["peak_rss_mb"] / p for o, p in zip(ours, peak))
    print(f"| {stage} | {dtype} | {peer} | {statistics.median(speed):.0f} ({min(speed):.0f}-{max(speed):.0f})"
          f" | {statistics.median(peak):.0f} | {pss:.0f} | {ratio:.2f} | {share:.2f} |")
PYTHON
