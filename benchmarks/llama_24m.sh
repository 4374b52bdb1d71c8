#!/usr/bin/env bash
# Makes what several benchmarks train on: DIRECTORY/model, a Llama of 24 M parameters with random weights, and
# DIRECTORY/rows.jsonl, 512 texts of 300 letters.
#     benchmarks/llama_24m.sh PLUMB DIRECTORY
set -euo pipefail
"$1" init --output_dir "$2/model" --hidden_size 288 --num_layers 6 --num_heads 6 --num_kv_heads 6 \
  --intermediate_size 768 --vocab_size 32000 --tie_word_embeddings false --max_position_embeddings 512 >/dev/null 2>&1
awk 'BEGIN { srand(0); for (i = 0; i < 512; i++) { s = ""; for (j = 0; j < 300; j++) s = s sprintf("%c", 97 + int(rand() * 26))
  printf "{\"text\": \"%s\"}\n", s } }' >"$2/rows.jsonl"
