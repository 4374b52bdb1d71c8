#!/usr/bin/env bash
# Teaches a small model three skills on 8 ranks and shows what it learned: makes rows and a model with random weights,
# asks it rows that it is never trained on, trains, and asks again. Everything lands in demo/ at the root of the sources.
#
#   apps/demo/run.sh [BUILD_DIR]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly plumb=${1:-build}/plumb
readonly demo=demo
readonly mark=$demo/made_by_plumb_demo  # what lies beside it may be removed
readonly num_ranks=8
readonly num_shown=9

# root in a container, more ranks than cores, and one rank that starts without mpirun
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

fail() {
  echo "demo: $*" >&2
  exit 2
}

on_ranks() { mpirun -n "$num_ranks" --bind-to none "$plumb" "$@"; }

# "0.956667" to "95.7 %"
percent() { awk -v share="$1" 'BEGIN { printf "%.1f %%", 100 * share }'; }

# The share of held-out rows whose greedy answer is exactly the right one.
exact_match() {
  on_ranks evaluate --model "$1" --data $demo/heldout.csv | sed -n 's/.*"exact_match":\([^,}]*\).*/\1/p' | grep .
}

# Answers to the first held-out rows, one a line.
answers() {
  "$plumb" generate --model "$1" --data $demo/shown.csv --max_new_tokens 8 |
    sed 's/.*"completion":"\(.*\)"}$/\1/'
}

clear_world() {
  if [[ -e $demo && ! -e $mark && -n $(ls -A $demo) ]]; then
    fail "$PWD/$demo holds something else; move it away"
  fi
  mkdir -p $demo
  touch $mark
  rm -rf $demo/base $demo/run $demo/{train,heldout,shown}.csv $demo/{before,after}.txt
}

[[ -x $plumb ]] || fail "$plumb is not there; run ./dev build"
command -v mpirun >/dev/null || fail "mpirun is not there; run ./dev setup"

say "Rows and a model with random weights"
clear_world
awk -v seed=1 -v num_train=20000 -v num_heldout=300 -v directory=$demo -f apps/demo/rows.awk
head -n $((num_shown + 1)) $demo/heldout.csv >$demo/shown.csv
sed -n 2,5p $demo/train.csv
echo "... $(($(wc -l <$demo/train.csv) - 1)) rows to train, $(($(wc -l <$demo/heldout.csv) - 1)) held out"
"$plumb" init --output_dir $demo/base --chat_template chatml --hidden_size 128 --num_layers 4 --num_heads 4 \
  --intermediate_size 512 --tie_word_embeddings

say "Before: rows held out that the model answers exactly"
before=$(exact_match $demo/base)
percent "$before"
echo

say "Fine-tuning on $num_ranks ranks, each holding 1/$num_ranks of parameters, gradients and optimizer state"
on_ranks sft --model $demo/base --data $demo/train.csv --eval_data $demo/heldout.csv --output_dir $demo/run \
  --max_steps 1700 --per_device_train_batch_size 2 --learning_rate 1.3e-3 --warmup_steps 100 --adam_beta2 0.98 \
  --gradient_checkpointing false --logging_steps 100 --eval_steps 400

say "After"
after=$(exact_match $demo/run/model)
percent "$after"
echo

say "The first $num_shown rows held out"
answers $demo/base >$demo/before.txt
answers $demo/run/model >$demo/after.txt
tail -n +2 $demo/shown.csv | tr ',' '\t' | paste - $demo/after.txt $demo/before.txt |
  awk -F '\t' 'BEGIN { row = "  %-18s  %-8s  %-6s  %-6s  %s\n"; printf row, "system", "question", "right", "after", "before" }
               { printf row, $1, $2, $3, $4, $5 }'

say "Exact answers to rows never seen: $(percent "$before") before, $(percent "$after") after; $((SECONDS / 60)) min $((SECONDS % 60)) s in all"
echo "Ask it yourself:  $plumb generate --model $demo/run/model --system 'Reverse the word.' --prompt cat"
