#!/usr/bin/env bash
# The jobs of the scenarios and their results, sourced by run.sh. Every job is the same run of 60 steps of 24
# micro-batches; a disturbed run must end with the bits of an undisturbed one.

: "${work:?}" "${plumb:?}" "${root:?}"
# shellcheck disable=SC2034 # for scenarios.sh
readonly reward=(reward --data pairs.jsonl --max_steps 20 --per_device_train_batch_size 1 --gradient_accumulation_steps 3
  --save_steps 5 --logging_steps 1)
# shellcheck disable=SC2034 # for scenarios.sh
readonly run=(sft --model base --data rows.csv --max_steps 60 --per_device_train_batch_size 1 --gradient_accumulation_steps 3
  --save_steps 10 --logging_steps 1 --learning_rate 1e-3)
num_failed=0

write_inputs() {
  "$plumb" init --output_dir base --hidden_size 64 --num_layers 2 2>/dev/null
  awk 'BEGIN {
    print "prompt,completion"
    for (i = 0; i < 480; ++i) printf "What is %d plus %d?,The answer is %d.\n", i, i % 7, i + i % 7 }' >rows.csv
  awk 'BEGIN {
    for (i = 0; i < 96; ++i)
      printf "{\"prompt\": \"What is %d plus one?\", \"chosen\": \" It is %d.\", \"rejected\": \" It is %d.\"}\n", i, i + 1, i + 3 }' >pairs.jsonl
  cat >align.ini <<END
model = base
output_dir = pipeline
max_steps = 20
per_device_train_batch_size = 1
gradient_accumulation_steps = 3
save_steps = 5
logging_steps = 1

[sft]
data = rows.csv
max_steps = 60
save_steps = 10
learning_rate = 1e-3

[reward]
data = pairs.jsonl
END
  # settings of a site for this network
  cat >site.env <<END
export PLUMB_PROGRAM=$plumb
export OMPI_MCA_btl_tcp_if_include=10.77.0.0/24 OMPI_MCA_oob_tcp_if_include=10.77.0.0/24
export OMPI_MCA_mpi_yield_when_idle=1 # eight ranks, few cores
if ((\${SLURM_RESTART_COUNT:-0} > 0)); then unset PLUMB_FAULT_ONCE; fi
if [[ -n \${PLUMB_FAULT_ONCE:-} && -n \${SLURM_JOB_ID:-} ]]; then export PLUMB_FAULT=\$PLUMB_FAULT_ONCE; fi
END
}

# submit NAME [SBATCH_OPTION...] -- [PLUMB_ARGUMENT...]: a job on four hosts, or three, that logs to NAME.log; sets $job and $name
submit() {
  name=$1
  shift
  local options=()
  while [[ $1 != -- ]]; do options+=("$1") && shift; done
  shift
  job=$(PLUMB_SITE=$work/site.env sbatch --parsable --nodes 3-4 --output "$name.log" "${options[@]}" \
    "$root/slurm/train.sbatch" "$@")
}

state() { squeue --noheader --jobs "$job" --format %T; }

is_over() { [[ $(state) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)?$ ]]; }

# A requeued job starts two minutes later; this skips the wait. A start within the same second is refused.
hurry() {
  if [[ $(squeue --noheader --jobs "$job" --format %r) == BeginTime ]]; then
    sleep 3
    scontrol update JobId="$job" StartTime=now || true
  fi
}

is_over_or_hurried() {
  hurry
  is_over
}

wait_for_end() {
  wait_until 1200 is_over_or_hurried || fail "does not end"
}

logs() { grep -qs -- "$1" "$name.log"; }

# wait_for_log PATTERN [SECONDS]
wait_for_log() { wait_until "${2:-300}" logs "$1" || fail "\"$1\" is not in $name.log"; }

# wait_for_restart N: waits until the job runs after N restarts
wait_for_restart() { wait_until 300 is_restarted "$1" || fail "was not started again"; }
is_restarted() {
  hurry
  [[ $(restarts) == "$1" && $(state) == RUNNING ]]
}

restarts() { scontrol show job "$job" | sed -n 's/.* Restarts=\([0-9]*\).*/\1/p'; }

# rank_of HOST: prints the process id of its first rank, in the host's namespace
rank_of() { on "$1" scontrol listpids "$job.0" "$1" | awk '$4 == 0 { print $1; exit }'; }

fail() {
  echo "FAILED: $name: $*" >&2
  num_failed=$((num_failed + 1))
}

# expect WHAT GOT PATTERN
expect() { [[ $2 =~ ^($3)$ ]] || fail "$1: expected $3, got $2"; }

# The exit code of each start of the job, as train.sbatch logs it or, for the last one, Slurm.
# "-": Slurm ended it.
exit_codes() {
  scontrol show job "$job" | sed -n 's/.* ExitCode=\([0-9]*\):.*/last \1/p' | cat "$name.log" - | awk '
    /^train.sbatch: job .*: start/ { code[++starts] = "-" }
    /^train.sbatch: job .*: exit code/ { code[starts] = $6 + 0 }
    $1 == "last" { code[starts] = $2 }
    END { for (i = 1; i <= starts; ++i) line = line (i == 1 ? "" : " ") code[i]; print line }'
}

# Prints the repeated steps: for every line "resuming after step N", the last step logged before it, minus N.
steps_lost() {
  awk '/^step [0-9]+\// { split($2, part, "/"); newest = part[1] }
    /resuming after step/ && newest { match($0, /step [0-9]+/); lost = lost sep newest - substr($0, RSTART + 5, RLENGTH - 5); sep = " " }
    END { print lost == "" ? "-" : lost }' "$name.log"
}

# Ranks of each start, as the start-up check logs them.
ranks() { sed -n 's/.*spread over \([0-9]*\) ranks.*/\1/p' "$name.log" | xargs; }

# bits DIRECTORY: prints the metrics of a run without times and memory, and a checksum of the weights.
bits() {
  sed 's/,"step_seconds".*//' "$1/metrics.jsonl"
  sha256sum <"$1/model/model.safetensors"
}

# has_golden_bits [DIRECTORY [GOLDEN_DIRECTORY]]
has_golden_bits() { if cmp -s <(bits "${1:-$name}") <(bits "${2:-golden}"); then echo yes; else echo no; fi; }

# row FAULT SECONDS_TO_DETECT BITS
row() {
  local line
  line="| $1 | $(exit_codes) | $(restarts) | $(ranks) | $2 | $(steps_lost) | $3 |"
  echo "$line" | tee -a table.md
}
