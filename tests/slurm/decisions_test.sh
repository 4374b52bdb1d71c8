#!/usr/bin/env bash
# decisions_test.sh ROOT: tests the decisions of slurm/train.sbatch with stubs of Slurm's commands that record their
# arguments. run.sh tests it on a real Slurm.
set -euo pipefail
script=$(realpath "${1:?usage: decisions_test.sh ROOT}")/slurm/train.sbatch
world=$(mktemp -d)
trap 'rm -rf "$world"' EXIT
cd "$world"
num_failed=0

fail() {
  echo "FAILED: $*" >&2
  num_failed=$((num_failed + 1))
}

# expect WHAT GOT WANTED
expect() { [[ $2 == "$3" ]] || fail "$1: expected \"$3\", got \"$2\""; }

mkdir bin
cat >bin/srun <<'END'
#!/usr/bin/env bash
echo "$@" >srun.arguments
if [[ -n ${SAYS:-} ]]; then echo "$SAYS" >&2; fi
trap 'echo USR1 >>srun.signals; exit 85' USR1
trap 'echo TERM >>srun.signals; exit 1' TERM
mkdir -p ${SAVES:-.}
for ((i = 0; i < ${SECONDS_TO_RUN:-0} * 20; ++i)); do sleep 0.05; done
exit "$CODE"
END
cat >bin/squeue <<'END'
#!/usr/bin/env bash
# of a whole array a line for each task
[[ $* == *[0-9]_[0-9]* ]] || echo "${STATES_OF_ARRAY:-${STATE:-RUNNING}}"
[[ $* != *[0-9]_[0-9]* ]] || echo "${STATE:-RUNNING}"
END
cat >bin/scontrol <<'END'
#!/usr/bin/env bash
echo "$@" >>scontrol.arguments
END
chmod +x bin/*
export PATH=$world/bin:$PATH SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=4 SLURM_CPUS_ON_NODE=2 SLURM_JOB_NODELIST='n[1-4]' PLUMB_SITE=/dev/null

# start CODE [ARGUMENT...]: sets $code, $restarted (yes or no) and $log
start() {
  rm -f srun.* scontrol.arguments
  code=0
  local command=("${@:2}")
  [[ ${#command[@]} -gt 0 ]] || command=(sft --output_dir out)
  log=$(CODE=$1 bash "$script" "${command[@]}" 2>&1) || code=$?
  restarted=no
  if [[ -f scontrol.arguments ]]; then restarted=yes; fi
}

# Exit codes that requeue the job; the script ends with the same code.
for given in 75 76 85 1 134 137 139 143; do
  rm -rf out
  start $given
  expect "exit code of $given" $code $given
  expect "restart after $given" $restarted yes
  expect "scontrol" "$(<scontrol.arguments)" "requeue 7"
done
for given in 0 2 65 70 74; do
  rm -rf out
  start $given
  expect "exit code of $given" $code $given
  expect "restart after $given" $restarted no
done
STATE=COMPLETING start 85
expect "restart of a job that was canceled" $restarted no

# A task of an array goes back by itself, also the one whose job id is the array's, and counts its restarts by itself.
rm -rf out*
for given in "7 1" "8 2"; do
  read -r id task <<<"$given"
  export SLURM_JOB_ID=$id SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task STATES_OF_ARRAY=$'RUNNING\nPENDING'
  start 85 sft --output_dir out-%a --seed %a
  expect "restart of a task" "$(<scontrol.arguments)" "requeue 7_$task"
  expect "%a" "$(sed 's/.*sft/sft/' srun.arguments)" "sft --output_dir out-$task --seed $task"
  expect "memory of a task" "$(<"out-$task/slurm_restarts")" "7_$task 0 0"
done
unset SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID STATES_OF_ARRAY
export SLURM_JOB_ID=7

# A step that Slurm refuses is not started again, whatever its exit code.
rm -rf out
SAYS="srun: error: Unable to create step for job 7: More processors requested than permitted" start 1
expect "restart of a refused step" $restarted no
grep -q "^srun: error: Unable" <<<"$log" || fail "srun's message is lost: $log"

# At most three restarts without a new checkpoint; a new one resets the count.
rm -rf out
for count in 0 1 2 3; do
  SLURM_RESTART_COUNT=$count start 137
  expect "restart after restart $count" $restarted "$([[ $count == 3 ]] && echo no || echo yes)"
done
grep -q "after 3 restarts without progress" <<<"$log" || fail "it does not log why it stops: $log"
SLURM_RESTART_COUNT=4 SAVES=out/checkpoints/step-000010 start 137
expect "restart with progress" $restarted yes
SLURM_RESTART_COUNT=5 SAVES=out/checkpoints/step-000011.new.tmp-abc start 137
expect "an incomplete checkpoint" "$(<out/slurm_restarts)" "7 10 1"
SLURM_RESTART_COUNT=6 start 137
expect "progress that was made before" "$(<out/slurm_restarts)" "7 10 2"
SLURM_JOB_ID=8 start 137
expect "another job" "$(<out/slurm_restarts)" "8 10 0"

# A completed stage counts as progress, too.
rm -rf out
printf '%s\n' 'model = base' '# output_dir = no' 'output_dir = "out"  # here' '[sft]' 'output_dir = other' >align.ini
mkdir -p out/sft out/reward/checkpoints/step-000020
echo '  "has_ended": true' >out/sft/run.json
start 137 pipeline align.ini
expect "a pipeline's progress" "$(<out/slurm_restarts)" "7 21 0"

# The output directory.
for given in "sft --output_dir out" "sft --output_dir=out" "sft --output-dir out" "sft --config align.ini"; do
  rm -rf out
  read -ra words <<<"$given"
  start 0 "${words[@]}"
  [[ -d out ]] || fail "$given: not written to out"
done
while IFS='|' read -r line wanted; do
  printf '\357\273\277# a comment\r\n%s\r\n[sft]\noutput_dir = no\n' "$line" >odd.ini
  rm -rf wanted* && start 0 sft --config=odd.ini
  [[ -f $wanted/slurm_restarts ]] || fail "$line: expected $wanted"
done <<'END'
output_dir = wanted#1|wanted#1
output-dir=wanted  # here|wanted
  output_dir = "wanted #2" # here|wanted #2
output_dir = "wanted \"q\" \\"|wanted "q" \
output_dir = wanted two|wanted two
END
start 0 sft --data rows.csv
expect "without output_dir" $code 2

# Ranks: all, or those that can share the micro-batches of a step.
rm -rf out
start 0
expect "ranks at first" "$(<srun.arguments)" "--nodes=4 --ntasks=8 --mpi=pmix --kill-on-bad-exit=1 --wait=60 build/plumb sft --output_dir out"
ranks() { sed 's/.*--nodes=\([0-9]*\) --ntasks=\([0-9]*\) .*/\1 \2/' srun.arguments; }
echo '    "micro_batches_per_step": "24"' >out/run.json
SLURM_JOB_NUM_NODES=3 start 0
expect "24 micro-batches on 3 nodes" "$(ranks)" "3 6"
echo '    "micro_batches_per_step": "32"' >out/pipeline.json
SLURM_JOB_NUM_NODES=3 start 0
expect "24 and 32 micro-batches on 3 nodes" "$(ranks)" "2 4"
SLURM_NTASKS_PER_NODE=1 start 0
expect "ranks that the user asks for" "$(ranks)" "4 4"
OMP_NUM_THREADS=2 start 0
expect "two threads per rank" "$(ranks)" "4 4"

rm -rf out
for given in "64,32 2 96" "32,64 2 96" "16(x3),8 4 56" "4(x2) 2 8"; do
  read -r cpus nodes wanted <<<"$given"
  SLURM_JOB_CPUS_PER_NODE=$cpus SLURM_JOB_NUM_NODES=$nodes start 0
  expect "ranks on nodes of $cpus CPUs" "$(ranks)" "$nodes $wanted"
done
echo '    "micro_batches_per_step": "24"' >out/run.json
SLURM_JOB_CPUS_PER_NODE='16,8' SLURM_JOB_NUM_NODES=2 start 0
expect "24 micro-batches on nodes of 16 and 8 CPUs" "$(ranks)" "2 24"
SLURM_JOB_CPUS_PER_NODE='48(x2),8' SLURM_JOB_NUM_NODES=3 start 0
expect "as many nodes as surely have room" "$(ranks)" "2 24"
rm -rf out
SLURM_JOB_CPUS_PER_NODE='16,8' SLURM_JOB_NUM_NODES=2 SLURM_CPUS_PER_TASK=4 start 0
expect "four threads per rank" "$(ranks) $(grep -o -- '--cpus-per-task=4' srun.arguments)" "2 6 --cpus-per-task=4"
SLURM_JOB_CPUS_PER_NODE='16,8' SLURM_JOB_NUM_NODES=2 PLUMB_RANKS_PER_HOST=16 start 0
expect "more ranks than a node has CPUs" "$code $(grep -c "expected nodes with room for 16 x 1 CPUs (ranks x threads), got one with 8" <<<"$log")" "2 1"

# Signals reach srun as USR1, a second one changes nothing, and the exit code of srun is returned.
for signal in USR1 TERM; do
  rm -rf out srun.*
  CODE=0 SECONDS_TO_RUN=10 bash "$script" sft --output_dir out 2>log &
  until [[ -f srun.arguments ]]; do sleep 0.05; done
  sleep 0.2
  kill -$signal $!
  code=0
  wait $! || code=$?
  expect "exit code after $signal" $code 85
  expect "signals of srun after $signal" "$(<srun.signals)" USR1
done

if ((num_failed > 0)); then exit 1; fi
