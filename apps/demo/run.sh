#!/usr/bin/env bash
# Takes a small model with random weights through all stages on 8 ranks and shows the effect of each: it makes rows,
# fine-tunes on instructions, trains a reward model on preferences, aligns with them, or by rewards of its own answers,
# and asks held-out questions.
# All files are written to demo/ at the root of the sources.
#
#   apps/demo/run.sh [BUILD_DIR]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly plumb=${1:-build}/plumb
readonly demo=demo
readonly mark=$demo/made_by_plumb_demo  # files beside it may be removed
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

# Drops the log lines about rows and speed.
quietly() { "$@" 2> >(grep -v -e 'plumb: prepare' -e 'tokens/s' >&2); }

# The number behind a key of one line of JSON.
number() { sed -n 's/.*"'"${1//\//\\/}"'":\(-\{0,1\}[0-9][^,}]*\).*/\1/p' | grep .; }

# "0.956667" to "95.7 %"
percent() { awk -v fraction="$1" 'BEGIN { printf "%.1f %%", 100 * fraction }'; }

# The fraction of held-out instructions whose greedy answer is exactly right.
exact_match() { quietly on_ranks evaluate --model "$1" --data $demo/heldout.csv | number exact_match; }

# Answers to the first held-out rows, one a line.
answers() {
  quietly "$plumb" generate --model "$1" --data $demo/shown.csv --max_new_tokens 12 |
    sed 's/.*"completion":"\(.*\)"}$/\1/'
}

clear_demo() {
  if [[ -e $demo && ! -e $mark && -n $(ls -A $demo) ]]; then
    fail "$PWD/$demo: expected an empty or missing folder, found other files; move them away"
  fi
  mkdir -p $demo
  touch $mark
  rm -rf $demo/base $demo/run $demo/{train,heldout,shown,prompts}.csv $demo/{pairs,heldout_pairs}.jsonl \
    $demo/align.ini $demo/{base,sft,dpo,grpo}.txt
}

write_pipeline() {
  cat >$demo/align.ini <<EOF
model = $demo/base
output_dir = $demo/run
per_device_train_batch_size = 2
gradient_checkpointing = false
adam_beta2 = 0.98
logging_steps = 50

[sft]
data = $demo/train.csv
eval_data = $demo/heldout.csv
max_steps = 2000
learning_rate = 1.3e-3
warmup_steps = 100
eval_steps = 400

[reward]
data = $demo/pairs.jsonl
eval_data = $demo/heldout_pairs.jsonl
max_steps = 150
learning_rate = 5e-4
warmup_steps = 20
eval_steps = 50

[dpo]
data = $demo/pairs.jsonl
eval_data = $demo/heldout_pairs.jsonl
loss_type = sigmoid,sft
max_steps = 150
learning_rate = 1e-4
warmup_steps = 20
eval_steps = 50

[grpo]
data = $demo/prompts.csv
eval_data = $demo/heldout.csv
reward_funcs = match
reward_weights = 0,1           # the reward model only watches: it knows style, not what is right
num_generations = 8
num_generations_eval = 1
max_completion_length = 12
per_device_train_batch_size = 16
max_steps = 60
learning_rate = 2e-4
logging_steps = 10
eval_steps = 20
EOF
}

[[ -x $plumb ]] || fail "$plumb: not found; run ./dev build"
command -v mpirun >/dev/null || fail "mpirun: not found; run ./dev setup"

say "Rows, pairs, and a model with random weights"
clear_demo
awk -v seed=1 -v num_train=34000 -v num_heldout=300 -v num_pairs=3000 -v num_prompts=1000 -v directory=$demo -f apps/demo/rows.awk
head -n $((num_shown + 1)) $demo/heldout.csv >$demo/shown.csv
sed -n 2,5p $demo/train.csv
echo "... $(($(wc -l <$demo/train.csv) - 1)) instructions; some answers end with a full stop, most do not"
head -n 2 $demo/pairs.jsonl
echo "... $(wc -l <$demo/pairs.jsonl) preferences: a full stop is wanted, and upper case only where it was asked for"
"$plumb" init --output_dir $demo/base --chat_template chatml --hidden_size 128 --num_layers 4 --num_heads 4 \
  --intermediate_size 512 --tie_word_embeddings

say "Fine-tuning, reward model, DPO and GRPO on $num_ranks ranks, each holding 1/$num_ranks of parameters, gradients and optimizer state"
write_pipeline
on_ranks pipeline $demo/align.ini

say "The first $num_shown held-out instructions"
for stage in base sft dpo grpo; do
  model=$demo/run/$stage/model
  [[ $stage != base ]] || model=$demo/base
  answers "$model" >$demo/$stage.txt
done
tail -n +2 $demo/shown.csv | tr ',' '\t' | paste - $demo/{sft,dpo,grpo,base}.txt |
  awk -F '\t' 'BEGIN { row = "  %-18s  %-8s  %-9s  %-9s  %-9s  %-10s  %s\n"
                       printf row, "system", "question", "wanted", "after sft", "after dpo", "after grpo", "before" }
               { printf row, $1, $2, $3, $4, $5, $6, $7 }'

base=$(exact_match $demo/base)
sft=$(exact_match $demo/run/sft/model)
dpo=$(exact_match $demo/run/dpo/model)
grpo=$(exact_match $demo/run/grpo/model)
accuracy=$(quietly on_ranks evaluate --model $demo/run/reward/model --data $demo/heldout_pairs.jsonl | number accuracy)
margins=$(grep eval_loss $demo/run/dpo/metrics.jsonl | number eval_rewards/margins | xargs printf '%.2f ')
win_rate=$(tr -d '\n' <$demo/run/dpo/notes.json | sed -n 's/.*"win rate[^}]*"value": *\([0-9.]*\).*/\1/p')

say "On 300 held-out instructions and 300 held-out pairs, after $((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "An answer is exact if it is the wanted word with its full stop. Fine-tuning saw full stops at random, so that about a"
echo "third of its answers are exact even where the words are right. Then dpo learns the full stop from preferences between"
echo "two answers, grpo from a reward of 1 for each exact answer of its own."
echo "  exact answers                 $(percent "$base") before, $(percent "$sft") after sft;" \
  "from there $(percent "$dpo") by dpo, $(percent "$grpo") by grpo"
echo "  accuracy of the reward model  $(percent "$accuracy")"
echo "  reward margins of dpo         ${margins% }"
echo "  win rate of dpo over sft      $(percent "$win_rate")"
echo
echo "The report:       $demo/run/report.html"
echo "Ask it yourself:  $plumb generate --model $demo/run/dpo/model --system 'Reverse the word.' --prompt cab"
