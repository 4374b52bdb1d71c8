#!/usr/bin/env bash
# Tasks of reinforcement learning whose outcome is known, through the program: a bandit against its closed form, and with
# a directory of references a letter against TRL's curve, and a reward model of hh-rlhf against prompts that were held
# out and a second reward model of other pairs. Prints a Markdown table of each.
#     benchmarks/known_optima.sh [DIRECTORY of references]
# Environment: PLUMB, TASKS (bandit letter hh), SEEDS (1 2 3), RANKS (1), WORK (kept; default: temporary).
set -euo pipefail
cd "$(dirname "$0")/.."
references=${1:-}
program=$(realpath "${PLUMB:-build/plumb}")
read -ra tasks <<<"${TASKS:-bandit${references:+ letter hh}}"
read -ra seeds <<<"${SEEDS:-1 2 3}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=${WORK:-$(mktemp -d)}
[[ -n ${WORK:-} ]] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
script=$(realpath benchmarks/known_optima.py)
[[ -z $references ]] || references=$(realpath "$references")
cd "$work"

# plumb NAME ARGUMENTS...: its output is in NAME.log
plumb() {
  local name=$1
  shift
  mpirun -n "${RANKS:-1}" "$program" "$@" --threads 1 >"$name.log" 2>&1 || { tail -n 3 "$name.log" >&2; exit 1; }
}
policy_options=(--overwrite_output_dir true --save_steps 0 --logging_steps 1)

bandit() {
  "$program" init --output_dir bandit.model --hidden_size 32 --num_layers 1 --num_heads 2 --num_kv_heads 2 \
    --intermediate_size 32 --vocab_size 260 --overwrite_output_dir true >/dev/null 2>&1
  echo '{"prompt": "Which letter?"}' >bandit.jsonl
  echo "| beta | seed | p at first | best p | p after 80 steps | difference |"
  echo "|---|---|---|---|---|---|"
  for beta in 0.5 0.3 0.25; do
    for seed in "${seeds[@]}"; do
      plumb bandit rloo --model bandit.model --data bandit.jsonl --output_dir bandit "${policy_options[@]}" --max_steps 80 \
        --learning_rate 0.02 --per_device_train_batch_size 256 --num_generations 256 \
        --max_completion_length 1 --beta "$beta" --reward_funcs regex --reward_pattern '^x$' --seed "$seed"
      python3 "$script" bandit bandit "$beta" "$seed"
    done
  done
}

letter() {
  python3 "$script" short_prompts "$references/data/sft_alpaca.jsonl" letter.jsonl
  echo "| seed | TRL, rewards of steps 1, 7, 13, 60 | plumb | gain of plumb / TRL at step 13 | at step 60 |"
  echo "|---|---|---|---|---|"
  for seed in "${seeds[@]}"; do
    plumb letter grpo --model "$references/models/stories260K" --data letter.jsonl --output_dir letter --max_steps 60 \
      "${policy_options[@]}" --per_device_train_batch_size 32 --num_generations 8 --max_completion_length 24 \
      --learning_rate 1e-3 --lr_scheduler_type constant --shuffle false --reward_funcs share --count_text e --reward_weights 10 --seed "$seed"
    python3 "$script" letter letter "$references/golden/grpo_curve.json" "$seed"
  done
}

# The policy and both reward models begin as stories260K after a few epochs of answers. Pairs are divided in three:
# those of the first reward model, of the second, and prompts that neither of them nor the policy has seen.
hh() {
  python3 "$script" split "$references/data/pref_hh.jsonl"
  plumb hh_sft sft --model "$references/models/stories260K" --data hh_sft.jsonl --output_dir hh_sft --save_steps 0 \
    --overwrite_output_dir true --num_train_epochs 6 --per_device_train_batch_size 8 --learning_rate 2e-3
  for half in first second; do
    plumb hh_rm reward --model hh_sft/model --data "hh_$half.jsonl" --output_dir "hh_$half" --save_steps 0 \
      --overwrite_output_dir true --num_train_epochs 1 --per_device_train_batch_size 16 --learning_rate 5e-4 --max_length 512
  done
  plumb hh_grpo grpo --model hh_sft/model --data hh_prompts.jsonl --reward_model hh_first/model --output_dir hh_grpo \
    "${policy_options[@]}" --max_steps 60 --per_device_train_batch_size 64 --num_generations 8 \
    --max_completion_length 64 --learning_rate 3e-4 --beta 0.05 --max_kl 0.5
  for policy in hh_sft hh_grpo; do
    "$program" generate --model $policy/model --data hh_held_out.jsonl --temperature 1 --max_new_tokens 64 \
      >"$policy.answers.jsonl" 2>"$policy.log"
    for half in first second; do
      plumb hh_score score --model "hh_$half/model" --data "$policy.answers.jsonl" --output "$policy.$half.jsonl"
    done
  done
  echo "| reward model | accuracy on pairs held out | win rate of the policy over its start | KL of the last steps |"
  echo "|---|---|---|---|"
  for half in first second; do
    plumb hh_score score --model "hh_$half/model" --data hh_held_out_pairs.jsonl --output "hh_pairs.$half.jsonl"
    python3 "$script" hh "$half"
  done
}

for task in "${tasks[@]}"; do
  printf '\n### %s\n\n' "$task"
  $task
done
