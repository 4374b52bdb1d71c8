#!/usr/bin/env bash
# Processor time of plumb tokenize beside Hugging Face tokenizers (Rust), one core, pairs in turn; the ids must be equal.
# Of plumb it is the whole program without its time to load the tokenizer, JSON included; of the peer the library alone.
#     benchmarks/tokenize_side_by_side.sh PYTHON TEXTS.jsonl PAIRS MODEL_DIR...
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 texts=$2 pairs=$3
shift 3
export TOKENIZERS_PARALLELISM=false RAYON_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
core=$(taskset -cp $$ | sed 's/.*[ ,-]//')
median() { printf '%s\n' "$@" | sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }
own_seconds() {
  { TIMEFORMAT='%U %S' && time taskset -c "$core" build/plumb tokenize --model "$1" <"$2" >"$work/own" 2>/dev/null; } 2>&1 |
    awk '{ print $1 + $2 }'
}
bytes=$("$python" -c 'import json, sys; print(sum(len(json.loads(line)["text"].encode()) for line in open(sys.argv[1])))' "$texts")
for model in "$@"; do
  peer=() own=()
  for ((i = 0; i < pairs; i++)); do
    taskset -c "$core" "$python" benchmarks/peers/tokenize_rows.py "$model" <"$texts" >"$work/peer" 2>"$work/seconds"
    peer+=("$(tail -1 "$work/seconds")")
    load=$(own_seconds "$model" /dev/null)
    own+=("$(awk -v load="$load" -v all="$(own_seconds "$model" "$texts")" 'BEGIN { print all - load }')")
  done
  cmp "$work/peer" "$work/own" || { echo "$model: the ids differ"; exit 1; }
  awk -v model="$(basename "$model")" -v bytes="$bytes" -v peer="$(median "${peer[@]}")" -v own="$(median "${own[@]}")" \
    'BEGIN { printf "%s: plumb %.1f MB/s, tokenizers %.1f MB/s, ratio %.1f\n", model, bytes / 1e6 / own, bytes / 1e6 / peer, peer / own }'
done
