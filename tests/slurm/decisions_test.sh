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
trap 'echo USR1 >>srun.signals; exit 85' USR1
trap 'echo TERM >>srun.signals; exit 1' TERM
mkdir -p ${SAVES:-.}
for ((i = 0; i < ${SECONDS_TO_RUN:-0} * 20; ++i)); do sleep 0.05; done
exit "$CODE"
END
cat >bin/squeue <<'END'
#!/usr/bin/env bash
echo "${STATE:-RUNNING}"
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
