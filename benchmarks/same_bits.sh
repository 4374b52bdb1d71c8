#!/usr/bin/env bash
# Checks that two builds of plumb compute the same bits: executes a fixed set of small runs with both programs, and compares
# every metric line and every byte that they export, prepare, save or print.
#     benchmarks/same_bits.sh [--only REGEX] [--models DIR] OLD_PLUMB NEW_PLUMB [WORKDIR]
#     benchmarks/same_bits.sh --list
# --models DIR adds a run on each model directory in DIR that OLD_PLUMB can train.
# Prints a line for each case and a summary; exit code 1 if anything differs or fails.
set -euo pipefail
export LC_ALL=C OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
  OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
self=$(realpath "$0")

usage() {
  sed -n '2,/^set/s/^# \{0,1\}//p' "$self"
  exit 2
}

only=. models='' mode=compare
while [[ ${1:-} == --* ]]; do
  case $1 in
    --only) only=${2:?} && shift 2 ;;
    --models) models=$(realpath "${2:?}") && shift 2 ;;
    --list) mode=list && shift ;;
    *) usage ;;
  esac
done

# ---- the two programs -----------------------------------------------------------------------------------------------

# start PROGRAM RANKS ARGS...: RANKS is 0 (without mpirun), N, or N/M for N ranks of which M make a node.
start() {
  local program=$1 ranks=$2
  shift 2
  [[ $ranks != */* ]] || local -x PLUMB_RANKS_PER_NODE=${ranks#*/}
  if [[ $ranks == 0 ]]; then
    "$program" "$@"
  else
    mpirun -n "${ranks%/*}" --bind-to none "$program" "$@"
  fi
}

# killed PROGRAM FAULT RANKS ARGS...: PLUMB_FAULT ends the run early.
killed() {
  local program=$1 fault=$2
  shift 2
  if PLUMB_FAULT=$fault start "$program" "$@" >/dev/null 2>&1; then
    echo "was not killed at $fault" >&2
    return 1
  fi
}

# The bodies of cases: BODY PROGRAM ARGS..., run in a directory of their own. `|| return`, since -e is off in them.
plain() { start "$@"; }
fed() { start "$1" 0 "${@:3}" <"$2"; }
twice() {
  start "$1" "$2" "${@:3}" || return
  echo "again:"
  start "$1" "$2" "${@:3}"
}
# OLD_PLUMB is killed, the given program resumes: resumed PROGRAM FAULT RANKS RANKS_AFTERWARDS ARGS...
resumed() {
  killed "$old" "$2" "$3" "${@:5}" || return
  start "$1" "$4" "${@:5}" 2>resume.log
  local code=$?
  cat resume.log >&2
  if [[ $code == 0 && $5 != pipeline ]] && ! grep -q 'resum.* after step' resume.log; then
    echo "did not resume from a checkpoint" >&2
    return 1
  fi
  rm -f resume.log
  return $code
}
# kill -9 of all ranks at any time after the first checkpoint, then the same command again.
kill_9() {
  local program=$1 ranks=$2 attempt launcher pids
  shift 2
  for attempt in 1 2 3 4 5; do
    rm -rf out
    start "$program" "$ranks" "$@" >/dev/null 2>&1 &
    launcher=$!
    while [[ ! -e out/checkpoints/step-000004 ]] && kill -0 "$launcher" 2>/dev/null; do sleep 0.01; done
    mapfile -t pids < <(ranks_of "$launcher")
    [[ ${#pids[@]} -eq 0 ]] || kill -9 "${pids[@]}" 2>/dev/null || true
    wait "$launcher" || break
    [[ $attempt != 5 ]] || { echo "ended before it was killed" >&2 && return 1; }
  done
  start "$program" "$ranks" "$@"
}
# Prints the descendants of a process, except mpirun itself.
ranks_of() {
  local pid
  for pid in $(pgrep -P "$1" || true); do
    if [[ $(<"/proc/$pid/comm") == mpirun ]]; then ranks_of "$pid"; else echo "$pid"; fi
  done 2>/dev/null
}

# ---- comparison -----------------------------------------------------------------------------------------------

# Prints a checksum for every file in the directory except files with times, paths, process ids or sentences; metrics.jsonl
# without measured values, of notes.json only its numbers and samples.
evidence() (
  cd "$1"
  find . -name metrics.jsonl -exec sed -i -E 's/,"(step_seconds|tokens_per_second|memory_bytes)":[^,}]*//g' {} +
  find . -name notes.json -exec sed -i -nE '/"(before|after)":/p; s/.*": (-?[0-9].*)/\1/p' {} +
  find . -type f ! -path './tmp/*' ! -name log ! -name report.html ! -name 'events.out.tfevents.*' ! -name status.json \
    ! -name run.json ! -name checks.json ! -name pipeline.json ! -path '*/checkpoints/*/manifest.json' \
    ! -path '*/checkpoints/*/COMMIT' -print0 | sort -z | xargs -0 sha256sum
)

differing_names() { # OLD_SUMS NEW_SUMS
  { diff "$1" "$2" || true; } | sed -nE 's|^[<>] [0-9a-f]{64}  (\./)?||p' | sort -u | head -n 6 | paste -sd ' '
}

# run_half PROGRAM DIRECTORY BODY ARGS...
run_half() {
  mkdir -p "$2/tmp"
  (
    cd "$2"
    ln -s ../../inputs/* .
    TMPDIR=$2/tmp
    export TMPDIR
    set +e
    "$3" "$1" "${@:4}" >stdout 2>log
    echo $? >code
  )
  evidence "$2" >"$2.sums"
}

num_same=0 num_refused=0 bad=()

# run_case NAME BODY ARGS...: both programs at the same time.
run_case() {
  local name=$1 directory=$work/$1 verdict
  shift
  [[ $name =~ $only ]] || return 0
  if [[ $mode == list ]]; then echo "$name" && return; fi
  rm -rf "$directory" && mkdir -p "$directory"
  run_half "$old" "$directory/old" "$@" &
  local first=$!
  run_half "$new" "$directory/new" "$@"
  wait "$first"
  local codes
  codes="$(<"$directory/old/code") $(<"$directory/new/code")"
  if [[ $codes != "0 0" ]]; then
    if [[ $name == model.* && ${codes% *} == "${codes#* }" && ! -e $directory/old/out/metrics.jsonl ]]; then
      verdict="refused by both" && num_refused=$((num_refused + 1))
    else
      verdict="FAILED: exit codes $codes (old, new): $(cat "$directory"/*/log | grep -iE -m 1 'error|not ' || true)"
    fi
  elif [[ ! -s $directory/old.sums ]]; then
    verdict="FAILED: left nothing to compare"
  elif cmp -s "$directory/old.sums" "$directory/new.sums"; then
    verdict="same" && num_same=$((num_same + 1))
  else
    verdict="DIFFERS: $(differing_names "$directory/old.sums" "$directory/new.sums")"
  fi
  printf '%-40s %s\n' "$name" "$verdict"
  if [[ $verdict == FAILED* || $verdict == DIFFERS* ]]; then bad+=("$name"); else rm -rf "$directory"; fi
}

# ---- inputs ---------------------------------------------------------------------------------------------------------

make_inputs() {
  mkdir -p "$work/inputs" && cd "$work/inputs"
  awk 'function line(i) {
    b = substr("!!!!", 1, i % 5); q = substr("??", 1, i % 3)
    printf "{\"prompt\":\"What is %d and one?\",\"completion\":\" It is %d%s\"}\n", i * i, i * i + 1, b > "rows.jsonl"
    printf "{\"text\":\"%d and one is %d%s\"}\n", i * i, i * i + 1, b > "texts.jsonl"
    printf "prompt,completion\n" > (i == 0 ? "rows.csv" : "/dev/null")
    printf "\"What is %d, and one?\",\" It is %d%s\"\n", i * i, i * i + 1, b > "rows.csv"
    printf "{\"messages\":[{\"role\":\"user\",\"content\":\"What is %d and one?\"},{\"role\":\"assistant\",\"content\":\"%d%s\"}]}\n", \
      i * i, i * i + 1, b > "chats.jsonl"
    printf "{\"prompt\":\"What is %d and one?\",\"chosen\":\" It is %d%s\",\"rejected\":\" %d%s\"}\n", \
      i * i, i * i + 1, b, 7 * i, q > "pairs.jsonl"
  } BEGIN { for (i = 0; i < 48; i++) line(i) }'
  head -n 7 rows.jsonl >eval_rows.jsonl
  head -n 7 pairs.jsonl >eval_pairs.jsonl
  cat >pipeline.ini <<'INI'
model = model
output_dir = out
threads = 1
logging_steps = 1
per_device_train_batch_size = 2
learning_rate = 0.001
save_steps = 2
[sft]
data = rows.jsonl
max_steps = 4
[reward]
data = pairs.jsonl
max_steps = 5
[dpo]
data = pairs.jsonl
max_steps = 6
INI
  sed 's/^save_steps.*/lora_r = 4/; s/^learning_rate.*/learning_rate = 0.01/' pipeline.ini >lora_pipeline.ini
  {
    "$old" init --output_dir model --hidden_size 32 --num_layers 2 --num_heads 4 --num_kv_heads 2 \
      --max_position_embeddings 256
    "$old" reward --model model --data pairs.jsonl --output_dir run --max_steps 3 --learning_rate 0.01 --threads 1
    mv run/model reward_model && rm -r run
    "$old" sft --model model --data rows.jsonl --output_dir run --max_steps 3 --learning_rate 0.01 --threads 1 --lora_r 4
    mv run/adapter adapter && rm -r run
    "$old" init --output_dir reference --hidden_size 32 --num_layers 2 --num_heads 4 --num_kv_heads 2 \
      --max_position_embeddings 256 --seed 5
    "$old" quantize --model model --output_dir nf4_model
  } >"$work/inputs.log" 2>&1 || { tail "$work/inputs.log" >&2 && exit 2; }
}

# ---- the cases --------------------------------------------------------------------------------------------------------

# train NAME RANKS STAGE OPTIONS...: three steps, evaluated after the second and the last.
train() {
  local arguments
  set_arguments 2 "$3" --max_steps 3 --logging_steps 1 --eval_steps 2 -- "${@:4}"
  run_case "$1" plain "$2" "${arguments[@]}"
}
# resume NAME FAULT RANKS RANKS_AFTERWARDS STAGE OPTIONS...: six steps, a checkpoint after every second.
resume() {
  local arguments
  set_arguments $((6 / $3)) "$5" --max_steps 6 --logging_steps 4 --save_steps 2 -- "${@:6}"
  run_case "$1" resumed "$2" "$3" "$4" "${arguments[@]}"
}
# set_arguments ACCUMULATION STAGE DEFAULTS... -- OPTIONS...: fills `arguments`; OPTIONS replace DEFAULTS, which have one
# value each.
set_arguments() {
  local rows=rows
  [[ $2 == sft ]] || rows=pairs
  local defaults=(--model model --data "$rows.jsonl" --output_dir out --threads 1 --per_device_train_batch_size 2
    --gradient_accumulation_steps "$1" --per_device_eval_batch_size 3 --eval_data "eval_$rows.jsonl"
    --learning_rate 0.001 --weight_decay 0.1 --max_grad_norm 0.5 --startup_checks false)
  arguments=("$2")
  shift 2
  while [[ $1 != -- ]]; do defaults+=("$1") && shift; done
  shift
  local i
  for ((i = 0; i < ${#defaults[@]}; i += 2)); do
    [[ " $* " == *" ${defaults[i]} "* ]] || arguments+=("${defaults[@]:i:2}")
  done
  arguments+=("$@")
}

run_set() {
  local stage dtype ranks
  for ranks in 1 3 8; do
    for dtype in float32 bfloat16; do train "sft.$dtype.np$ranks" "$ranks" sft --dtype "$dtype"; done
  done
  for stage in reward dpo; do
    for ranks in 1 3 8; do train "$stage.float32.np$ranks" "$ranks" "$stage"; done
    train "$stage.bfloat16.np3" 3 "$stage" --dtype bfloat16
    train "$stage.nodes.np4" 4/2 "$stage"
  done
  for stage in sft reward dpo; do
    train "$stage.kept_activations.np2" 2 "$stage" --gradient_checkpointing false --dtype bfloat16
    train "$stage.packing.np2" 2 "$stage" --packing true --max_length 64
    train "$stage.packing.bfloat16.np1" 1 "$stage" --packing true --max_length 64 --dtype bfloat16
    train "$stage.lora.np3" 3 "$stage" --lora_r 4
    train "$stage.qlora.bfloat16.np2" 2 "$stage" --lora_r 4 --quantize nf4 --dtype bfloat16
  done

  train sft.nodes.np4 4/2 sft --dtype bfloat16
  train sft.nodes.np6 6/3 sft
  train sft.unequal_nodes.np8 8/3 sft --packing true --max_length 64
  train sft.startup_checks.np2 2 sft --startup_checks true
  train sft.two_threads.np2 2 sft --threads 2
  train sft.adamw_8bit.np2 2 sft --optim adamw_8bit
  train sft.schedule.np2 2 sft --lr_scheduler_type cosine --warmup_steps 0.3 --seed 7 --per_device_train_batch_size 4 \
    --gradient_accumulation_steps 1 --max_steps 6
  train sft.epochs.np2 2 sft --max_steps -1 --num_train_epochs 1.5 --per_device_train_batch_size 5 \
    --gradient_accumulation_steps 2 --dataloader_drop_last true --shuffle false --save_dtype bfloat16
  train sft.dft.np2 2 sft --loss_type dft
  train sft.fast_reduction.np3 3 sft --reduction fast
  train sft.checkpoints.np2 2 sft --save_steps 1
  train sft.async_save.np2 2 sft --save_steps 1 --async_save true --optim adamw_8bit
  train sft.best_model.np2 2 sft --save_steps 1 --eval_steps 1 --load_best_model_at_end true --learning_rate 0.1
  train sft.texts.np2 2 sft --data texts.jsonl --eval_data eval_rows.jsonl
  train sft.chats.np2 2 sft --data chats.jsonl --eval_data chats.jsonl --chat_template chatml --assistant_only_loss true
  train sft.long_rows_cut.np1 1 sft --max_length 16 --completion_only_loss false

  train sft.lora.np1 1 sft --lora_r 4
  train sft.lora.np8 8 sft --lora_r 4
  for ranks in 1 3 8; do train "sft.qlora.np$ranks" "$ranks" sft --lora_r 4 --quantize nf4; done
  train sft.lora.bfloat16.np2 2 sft --lora_r 4 --dtype bfloat16
  train sft.lora.nodes.np4 4/2 sft --lora_r 4 --optim adamw_8bit
  train sft.lora.kept_activations.np2 2 sft --lora_r 4 --gradient_checkpointing false
  train sft.lora.packing.np2 2 sft --lora_r 4 --packing true --max_length 64
  train sft.lora.shapes.np3 3 sft --lora_r 4 --lora_target_modules all-linear --lora_dropout 0.1 --use_rslora true \
    --lora_rank_pattern q_proj=2 --lora_alpha_pattern v_proj=8 --lora_modules_to_save embed_tokens lm_head
  train sft.lora.continued.np2 2 sft --adapter adapter
  train sft.dora.np1 1 sft --lora_r 4 --use_dora true
  train sft.dora.bfloat16.np2 2 sft --lora_r 4 --use_dora true --dtype bfloat16
  train sft.dora.nodes.np6 6/3 sft --lora_r 4 --use_dora true
  train sft.qdora.np2 2 sft --lora_r 4 --use_dora true --quantize nf4
  train sft.qlora.nodes.np4 4/2 sft --lora_r 4 --quantize nf4
  train sft.qlora.quantized_base.np2 2 sft --lora_r 4 --model nf4_model

  train dpo.losses_1.np2 2 dpo --loss_type sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard \
    --loss_weights 1 .9 .8 .7 .6 .5 .4 .3 --label_smoothing 0.1
  train dpo.losses_2.np2 2 dpo --loss_type aot aot_unpaired apo_zero apo_down discopop sft sigmoid_norm \
    --loss_weights 1 .9 .8 .7 .6 .5 .4
  train dpo.divergence.np2 2 dpo --f_divergence_type js_divergence --use_weighting true
  train dpo.alpha_divergence.np2 2 dpo --f_divergence_type alpha_divergence --ld_alpha 0.5 --beta 0.3
  train dpo.reference_model.np2 2 dpo --ref_model reference --learning_rate 0.01
  train dpo.sampled_pairs.np2 2 dpo --reward_model reward_model --pairs sampled --num_generations 2 \
    --max_completion_length 6 --num_win_rate_prompts 4
  train dpo.filtered_pairs.np2 2 dpo --reward_model reward_model --pair_filter flip --pair_threshold 0.0
  train dpo.dora.np2 2 dpo --lora_r 4 --use_dora true
  train reward.lora_with_head.np2 2 reward --lora_r 4 --lora_modules_to_save score

  for ranks in 1 3 8; do run_case "pipeline.np$ranks" plain "$ranks" pipeline pipeline.ini; done
  run_case pipeline.lora.np2 plain 2 pipeline lora_pipeline.ini
  run_case pipeline.again.np2 twice 2 pipeline pipeline.ini
  run_case auto.np2 plain 2 auto --model model --data rows.jsonl pairs.jsonl --output_dir out --max_steps 2 --threads 1

  # kills: by a signal, and of OLD_PLUMB with either program resuming
  local fault arguments
  set_arguments 2 sft --max_steps 60 --logging_steps 10 --save_steps 4 --
  run_case kill_9.np3 kill_9 3 "${arguments[@]}"
  for fault in step:5:1 checkpoint-committed:4:0 checkpoint-renamed:4:0; do
    resume "resume.old_run.${fault%%:*}.np3" "$fault:kill" 3 3 sft
  done
  resume resume.old_run.bfloat16.np3_np2 step:5:1:kill 3 2 sft --dtype bfloat16
  resume resume.old_run.async_save.np2 checkpoint-written:4:1:kill 2 2 sft --async_save true
  resume resume.old_run.adamw_8bit.np2 step:3:1:kill 2 2 sft --optim adamw_8bit
  resume resume.old_run.lora.np2 step:5:1:kill 2 2 sft --lora_r 4 --lora_dropout 0.1
  resume resume.old_run.qlora.np3 step:5:1:kill 3 3 sft --lora_r 4 --quantize nf4
  resume resume.old_run.packing.np2 step:5:1:kill 2 2 sft --packing true --max_length 64
  resume resume.old_run.reward.np2 step:5:1:kill 2 2 reward
  resume resume.old_run.dpo.np2 step:5:1:kill 2 2 dpo
  run_case resume.old_run.pipeline.np2 resumed step:5:1:kill 2 2 pipeline pipeline.ini

  # commands other than training
  for dtype in float32 bfloat16; do
    for ranks in 1 3; do
      run_case "evaluate.$dtype.np$ranks" plain "$ranks" evaluate --model model --data rows.jsonl --dtype "$dtype" --threads 1
      run_case "score.$dtype.np$ranks" plain "$ranks" score --model reward_model --data pairs.jsonl --dtype "$dtype" --threads 1
    done
    run_case "generate.$dtype" plain 0 generate --model model --prompt "What is" --max_new_tokens 24 --dtype "$dtype" \
      --threads 1
    run_case "merge.$dtype" plain 0 merge --model model --adapter adapter --output_dir out --dtype "$dtype" --threads 1
  done
  run_case evaluate.pairs.np2 plain 2 evaluate --model model --data pairs.jsonl --ref_model reference --threads 1
  run_case evaluate.rewards.np2 plain 2 evaluate --model reward_model --data pairs.jsonl --threads 1
  run_case evaluate.adapter.np2 plain 2 evaluate --model model --adapter adapter --data rows.jsonl --threads 1
  run_case evaluate.nf4.np2 plain 2 evaluate --model nf4_model --data rows.jsonl --threads 1
  run_case score.file.np2 plain 2 score --model reward_model --data rows.jsonl --output scores.jsonl --threads 1
  run_case generate.sampled plain 0 generate --model model --adapter adapter --data eval_rows.jsonl --max_new_tokens 12 \
    --temperature 0.8 --top_p 0.9 --top_k 40 --seed 5 --threads 1
  run_case merge.nf4 plain 0 merge --model nf4_model --adapter adapter --output_dir out --quantize nf4 --threads 1
  run_case quantize plain 0 quantize --model model --output_dir out --double_quant false
  run_case init.qwen3 plain 0 init --output_dir out --family qwen3 --hidden_size 32 --num_layers 2 --num_heads 4 \
    --dtype bfloat16 --seed 3
  run_case tokenize fed texts.jsonl tokenize --model model
  for name in rows.jsonl texts.jsonl rows.csv pairs.jsonl; do
    run_case "prepare.$name" plain 2 prepare --model model --data "$name" --output_dir out --max_length 48
  done
  run_case prepare.chats.jsonl plain 2 prepare --model model --data chats.jsonl --output_dir out --chat_template chatml

  [[ -n $models ]] || return 0
  local model name
  for model in "$models"/*/config.json; do
    name=$(basename "$(dirname "$model")")
    train "model.$name.np2" 2 sft --model "$(dirname "$model")" --max_length 64
    train "model.$name.qlora.np2" 2 sft --model "$(dirname "$model")" --max_length 64 \
      --lora_r 4 --quantize nf4 --lora_target_modules all-linear --dtype bfloat16
  done
}

# ---------------------------------------------------------------------------------------------------------------------

work='' old='' new=''
if [[ $mode == list ]]; then
  run_set
  exit
fi
[[ $# -eq 2 || $# -eq 3 ]] || usage
old=$(realpath "$1") new=$(realpath "$2")
if [[ $# -eq 3 ]]; then mkdir -p "$3" && work=$(realpath "$3"); else work=$(mktemp -d); fi
rm -rf "$work/inputs"
make_inputs
run_set
cd /
if [[ ${#bad[@]} -gt 0 || $((num_same + num_refused)) -eq 0 ]]; then
  [[ ${#bad[@]} -gt 0 ]] || echo "no case matches $only"
  echo "$num_same cases same, $num_refused refused by both, ${#bad[@]} NOT SAME (see $work): ${bad[*]}"
  exit 1
fi
[[ $# -eq 3 ]] || rm -rf "$work"
echo "$num_same cases same, $num_refused refused by both, zero differ ($SECONDS s)"
