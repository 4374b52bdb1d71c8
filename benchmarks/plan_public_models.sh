#!/usr/bin/env bash
# What public models need: a Markdown table of `plumb plan` for full fine-tuning, LoRA and QLoRA, from the
# config.json files in tests/lib/model/public_*_configs.hpp, without any weights.
#     benchmarks/plan_public_models.sh [NODE_GIB]      default: nodes with 512 GiB and 8 ranks
# The program is build/plumb, or PLUMB_PROGRAM.
set -euo pipefail
export LC_ALL=C
readonly node_gib=${1:-512} ranks_per_node=8 most_nodes=64
root=$(dirname "$(realpath "$0")")/..
program=$(realpath "${PLUMB_PROGRAM:-$root/build/plumb}")
models=$(mktemp -d)
trap 'rm -rf "$models"' EXIT

# Small to large; the last four are mixtures of experts.
readonly names=(
  HuggingFaceTB/SmolLM2-135M-Instruct google/gemma-3-270m-it Qwen/Qwen2-0.5B-Instruct meta-llama/Llama-3.2-1B-Instruct
  google/gemma-2-2b-it HuggingFaceTB/SmolLM3-3B microsoft/Phi-4-mini-instruct Qwen/Qwen3-4B
  mistralai/Mistral-7B-Instruct-v0.3 allenai/Olmo-3-7B-Think meta-llama/Llama-3.1-8B-Instruct
  ibm-granite/granite-3.3-8b-instruct zai-org/GLM-4-9B-0414 google/gemma-3-12b-it microsoft/phi-4
  mistralai/Mistral-Small-24B-Instruct-2501 Qwen/Qwen3-32B meta-llama/Llama-3.1-70B-Instruct
  Qwen/Qwen1.5-MoE-A2.7B openai/gpt-oss-20b Qwen/Qwen3-30B-A3B mistralai/Mixtral-8x7B-Instruct-v0.1)

# Writes the config.json of a model: the raw string after its name.
write_config() {
  mkdir -p "$models/$1"
  awk -v name="{\"$1\"," '
    index($0, name) { wanted = 1 }
    wanted && sub(/.*R"\(/, "") { inside = 1 }
    inside && /\}\)",?$/ { sub(/\)",?$/, ""); print; exit }
    inside { print }' "$root"/tests/lib/model/public_*_configs.hpp >"$models/$1/config.json"
  [[ -s $models/$1/config.json ]] || { echo "no configuration of $1 in the tests" >&2 && exit 1; }
}

# Prints the plan of one micro-batch of 2048 tokens on this many nodes.
plan() {
  local model=$1 nodes=$2
  shift 2
  "$program" plan --model "$models/$model" --num_ranks $((nodes * ranks_per_node)) --ranks_per_node "$ranks_per_node" \
    --dtype bfloat16 --gradient_checkpointing true --max_length 2048 --per_device_train_batch_size 1 "$@"
}

# Prints GiB of a line of a plan.
gib_of() {
  sed -n "s/^  $1  *\([0-9.]*\) \([KMGT]iB\)$/\1 \2/p" |
    awk '{ scale["KiB"] = 2^-20; scale["MiB"] = 2^-10; scale["GiB"] = 1; scale["TiB"] = 1024; print $1 * scale[$2] }'
}

# Prints "GiB of all nodes on the fewest nodes" that hold the model: powers of two.
fewest_nodes() {
  local model=$1 nodes=1 text total
  shift
  while ((nodes <= most_nodes)); do
    text=$(plan "$model" "$nodes" "$@")
    total=$(gib_of 'all ranks and nodes' <<<"$text")
    if awk -v a="$total" -v b="$((nodes * node_gib))" 'BEGIN { exit !(a <= b) }'; then
      awk -v a="$total" -v n="$nodes" 'BEGIN { printf "%.*f on %d", a < 10, a, n }'
      return
    fi
    nodes=$((nodes * 2))
  done
  printf 'more than %d' "$most_nodes"
}

parameters_of() { plan "$1" 1 | sed -n 's/^plan: \([0-9.]*\) M parameters.*/\1/p' | awk '{ printf "%.2f", $1 / 1000 }'; }

printf '| model | parameters, G | full, GiB on nodes | full, 8-bit moments | LoRA | QLoRA |\n|---|---|---|---|---|---|\n'
for name in "${names[@]}"; do
  write_config "$name"
  lora=(--lora_r 16 --lora_target_modules all-linear)
  printf '| %s | %s | %s | %s | %s | %s |\n' "$name" "$(parameters_of "$name")" "$(fewest_nodes "$name")" \
    "$(fewest_nodes "$name" --optim adamw_8bit)" "$(fewest_nodes "$name" "${lora[@]}")" \
    "$(fewest_nodes "$name" "${lora[@]}" --quantize nf4)"
done
