#!/usr/bin/env bash
# Scenarios, sourced by run.sh: each disturbs the run of jobs.sh in one way and checks the result.
# shellcheck disable=SC2154 # job, name and run are from jobs.sh

# shellcheck disable=SC2034 # for run.sh
readonly scenarios=(walltime_twice killed_rank stopped_rank killed_slurmd power_cut preempted mixed_nodes crash_loop canceled full_disk array chain pipeline submitted submitted_once readme)

undisturbed() {
  submit golden -- "${run[@]}" --output_dir golden
  wait_for_end
  expect "exit codes" "$(exit_codes)" 0
  row "none" - -
}

# Slurm sends the signal 120 s before the end of the time limit, which is shortened to less than that.
walltime_twice() {
  submit walltime --time 30 --signal B:USR1@120 -- "${run[@]}" --output_dir walltime
  set_rate 20
  hit_walltime 0 "^step 3/"
  hit_walltime 1 "^step 13/"
  set_rate 0
  wait_for_end
  expect "exit codes" "$(exit_codes)" "85 85 0"
  expect "steps lost" "$(steps_lost)" "0 0"
  expect "same bits" "$(has_golden_bits)" yes
  row "time limit, twice" - "$(has_golden_bits)"
}

# hit_walltime RESTARTS PATTERN: the job's limit ends its start after so many restarts, once that is logged.
hit_walltime() {
  wait_for_restart "$1"
  wait_for_log "$2"
  local stops
  stops=$(grep -cs "exit code 85;" "$name.log" || true)
  scontrol update JobId="$job" TimeLimit=$((($(elapsed) + 59) / 60 + 1))
  wait_until 120 has_ended_with 85 $((stops + 1)) || fail "the time limit after $1 restarts did not end it with 85"
  wait_until 60 is_pending
  scontrol update JobId="$job" TimeLimit=30
}

elapsed() { squeue --noheader --jobs "$job" --format %M | awk -F: '{ for (i = 1; i <= NF; ++i) s = s * 60 + $i; print s }'; }
is_pending() { [[ $(state) == PENDING ]]; }
# has_ended_with CODE TIMES
has_ended_with() { (($(grep -cs "exit code $1;" "$name.log") == $2)); }
has_ended_somehow() { logs "^train.sbatch: job .*exit code"; }

# A signal to a rank on another host than the first: DIRECTORY SIGNAL EXIT_CODES TITLE [OPTIONS of plumb]
signaled_rank() {
  local directory=$1 signal=$2 codes=$3 title=$4
  shift 4
  submit "$directory" -- "${run[@]}" --output_dir "$directory" "$@"
  wait_for_log "^step 15/"
  on n3 kill "-$signal" "$(rank_of n3)"
  local since=$SECONDS
  wait_until 60 has_ended_somehow || fail "a rank that got $signal is not noticed"
  local detected=$((SECONDS - since))
  wait_for_end
  expect "exit codes" "$(exit_codes)" "$codes"
  expect "same bits" "$(has_golden_bits)" yes
  row "$title" $detected "$(has_golden_bits)"
}

killed_rank() { signaled_rank killed_rank KILL "(137|143) 0" "SIGKILL of a rank"; }

stopped_rank() {
  signaled_rank stopped_rank STOP "(76|137|143) 0" "SIGSTOP of a rank (watchdog: 10 s)" --watchdog_seconds 10
}

# The ranks of that host keep running until Slurm declares the host down and ends the job with signals, which the ranks may
# or may not have time to handle.
killed_slurmd() {
  submit killed_slurmd -- "${run[@]}" --output_dir killed_slurmd
  set_rate 10
  wait_for_log "^step 5/"
  kill_slurmd n3
  local since=$SECONDS
  wait_for_restart 1
  local detected=$((SECONDS - since))
  set_rate 0
  wait_for_end
  expect "exit codes" "$(exit_codes)" "(-|85) 0"
  expect "ranks" "$(ranks)" "8 6"
  expect "same bits" "$(has_golden_bits)" yes
  row "SIGKILL of a slurmd (SlurmdTimeout: 20 s)" $detected "$(has_golden_bits)"
  start_slurmd n3
}

# Cuts the power of the host of the first rank and of train.sbatch itself: nothing more is logged.
power_cut() {
  submit power_cut -- "${run[@]}" --output_dir power_cut
  wait_for_log "^step 15/"
  cut_power n1
  local since=$SECONDS
  wait_for_restart 1
  local detected=$((SECONDS - since))
  wait_for_end
  expect "ranks" "$(ranks)" "8 6"
  expect "same bits" "$(has_golden_bits)" yes
  row "power cut of the first host" $detected "$(has_golden_bits)"
  boot n1
}

# A job of a higher priority takes the hosts for five seconds; Slurm lets the other one end within the grace time.
preempted() {
  submit preempted -- "${run[@]}" --output_dir preempted
  set_rate 10
  wait_for_log "^step 5/"
  sbatch --partition urgent --nodes 4 --exclusive --output urgent.log --wrap "sleep 5" >/dev/null
  wait_for_restart 1
  set_rate 0
  wait_for_end
  expect "exit codes" "$(exit_codes)" "85 0"
  expect "steps lost" "$(steps_lost)" 0
  expect "same bits" "$(has_golden_bits)" yes
  row "preempted by another job (PreemptMode=REQUEUE)" - "$(has_golden_bits)"
}

# A host with two CPUs and one with one: three ranks, with as many micro-batches a step as eight have.
mixed_nodes() {
  boot n5
  wait_until 30 is_idle n5
  submit mixed_nodes --partition mixed --nodes 2 -- "${run[@]/#3/8}" --output_dir mixed_nodes
  wait_for_end
  expect "exit codes" "$(exit_codes)" 0
  expect "ranks" "$(ranks)" 3
  expect "same bits" "$(has_golden_bits)" yes
  row "hosts of two CPUs and of one" - "$(has_golden_bits)"
}
is_idle() { [[ $(sinfo --noheader --nodes "$1" --format %t) == idle ]]; }

crash_loop() {
  PLUMB_FAULT=step:15:5:kill submit crash_loop -- "${run[@]}" --output_dir crash_loop
  wait_for_end
  expect "exit codes" "$(exit_codes)" "(137|143) (137|143) (137|143) (137|143)"
  expect "restarts" "$(restarts)" 3
  logs "giving up after 3 restarts without progress" || fail "it did not log why it stopped"
  row "crash at step 15, always" - -
  submit crash_loop_fixed -- "${run[@]}" --output_dir crash_loop
  wait_for_end
  expect "same bits" "$(has_golden_bits crash_loop)" yes
  row "... the same command without the fault" - "$(has_golden_bits crash_loop)"
}

canceled() {
  submit canceled -- "${run[@]}" --output_dir canceled
  wait_for_log "^step 15/"
  scancel "$job"
  wait_for_end
  expect "state" "$(scontrol show job "$job" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p')" CANCELLED
  expect "restarts" "$(restarts)" 0
  row "scancel" - -
  submit canceled_again -- "${run[@]}" --output_dir canceled
  wait_for_end
  expect "same bits" "$(has_golden_bits canceled)" yes
  row "... submitted again" - "$(has_golden_bits canceled)"
}

# An error that a restart does not fix.
full_disk() {
  PLUMB_FAULT=step:15:5:error submit full_disk -- "${run[@]}" --output_dir full_disk
  wait_for_end
  expect "exit codes" "$(exit_codes)" 74
  expect "restarts" "$(restarts)" 0
  row "input/output error of a rank" - -
}

# Three tasks of one host each stop once with a checkpoint, one after the other: also the one that carries the array's id
# goes back while others run or wait, and none starts a third time.
array() {
  # shellcheck disable=SC2016 # for the ranks
  echo 'if [[ -n ${SLURM_ARRAY_TASK_ID:-} && ${SLURM_RESTART_COUNT:-0} == 0 ]]; then export PLUMB_FAULT=step:$((15 * SLURM_ARRAY_TASK_ID)):0:usr1; fi' >>site.env
  submit array --array 1-3 --nodes 1 -- "${run[@]/#3/12}" --output_dir array-%a
  wait_until 600 are_tasks_over_or_hurried || fail "does not end"
  local task
  for task in 1 2 3; do
    expect "starts of task $task" "$(grep -c "job ${job}_$task: start" array.log)" 2
    expect "exit codes of task $task" "$(grep -o "job ${job}_$task: exit code [0-9]*" array.log | grep -o '[0-9]*$')" 85
    expect "same bits of task $task" "$(has_golden_bits array-$task)" yes
  done
  echo "| array of three tasks, each stopped once | 85 0 each | 1 each | 2 each | - | 0 | $(has_golden_bits array-3) |" | tee -a table.md
}
are_tasks_over_or_hurried() {
  local waiting
  waiting=$(squeue --noheader --array --format '%i %r' | awk '$2 == "BeginTime" { print $1 }')
  if [[ -n $waiting ]]; then sleep 3; fi
  for waiting in $waiting; do scontrol update JobId="$waiting" StartTime=now || true; done
  is_queue_empty
}

# The second job waits for the first one, also while that is requeued.
chain() {
  PLUMB_FAULT_ONCE=step:15:5:kill submit chain_sft -- "${run[@]}" --output_dir chain_sft
  local first=$job
  submit chain_reward --dependency "afterok:$first" --kill-on-invalid-dep yes -- "${reward[@]}" --model chain_sft/model --output_dir chain_reward
  local second=$job
  job=$first name=chain_sft
  wait_for_end
  expect "exit codes" "$(exit_codes)" "(137|143) 0"
  expect "same bits" "$(has_golden_bits)" yes
  row "afterok: SIGKILL of a rank in the first job" - "$(has_golden_bits)"
  job=$second name=chain_reward
  wait_for_end
  expect "exit codes" "$(exit_codes)" 0
  row "... the second job" - -
}

# A rank is lost in the second stage; then there are three hosts only. Its stages are those of the chain.
pipeline() {
  submit pipeline -- pipeline align.ini
  wait_for_log "^step 7/20 "
  on n3 kill -KILL "$(rank_of n3)"
  wait_until 300 has_ended_somehow || fail "a lost rank is not noticed"
  scontrol update NodeName=n2 State=DRAIN Reason=test
  wait_for_end
  scontrol update NodeName=n2 State=RESUME
  expect "exit codes" "$(exit_codes)" "(137|143) 0"
  expect "ranks" "$(ranks)" "8 8 6"
  expect "same bits of sft" "$(has_golden_bits pipeline/sft)" yes
  expect "same bits of reward" "$(has_golden_bits pipeline/reward chain_reward)" yes
  row "pipeline: SIGKILL of a rank in stage 2, then a host less" - "$(has_golden_bits pipeline/reward chain_reward)"
}

# A pipeline as a job per stage, one of which loses a rank, and a sweep over seeds, the first of which is the default.
submitted() {
  name=submitted
  sed 's/^output_dir = .*/output_dir = staged/' align.ini >staged.ini
  { sed '/^\[/,$d; s/^output_dir = .*/output_dir = sweep/; s/= 3$/= 12/' align.ini && sed -n '/^\[sft\]/,/^$/p' align.ini; } >sweep.ini
  PLUMB_FAULT_ONCE=step:15:5:kill PLUMB_SITE=$work/site.env "$root/slurm/submit" staged.ini --nodes 3-4 --per_stage --submit >submitted.out ||
    fail "refused"
  wait_until 60 is_running # on four hosts: the sweep needs only one
  PLUMB_SITE=$work/site.env "$root/slurm/submit" sweep.ini --nodes 1 --array seed=42,43 --submit >>submitted.out || fail "refused"
  expect "jobs" "$(grep -c '^submitted job' submitted.out)" 3
  wait_until 900 are_tasks_over_or_hurried || fail "does not end"
  expect "same bits of the first stage" "$(has_golden_bits staged/sft)" yes
  expect "same bits of the first task" "$(has_golden_bits sweep/seed-42/sft)" yes
  expect "bits of another seed" "$(has_golden_bits sweep/seed-43/sft)" no
  expect "starts of the first stage" "$(cat staged-sft-*.log | grep -c ': start')" 2
  "$plumb" compare sweep/seed-42 sweep/seed-43 >submitted.out
  expect "options that differ" "$(grep -c '^  seed-4[23] .* done' submitted.out) $(grep -c '^  run      seed$' submitted.out)" "2 1"
  expect "models" "$(cat {staged,sweep/seed-42}/{sft,reward}/model/config.json 2>/dev/null | grep -c architectures)" 3
  echo "| slurm/submit: a job per stage, SIGKILL of a rank in the first; a sweep of two seeds | - | 1 | - | - | - | $(has_golden_bits staged/sft) |" | tee -a table.md
}

is_running() { [[ -n $(squeue --noheader --states running) ]]; }

# One job for a pipeline, which its time limit stops in both stages and which loses a slurmd between.
submitted_once() {
  sed 's/^output_dir = .*/output_dir = once/' align.ini >once.ini
  job=$(PLUMB_SITE=$work/site.env "$root/slurm/submit" once.ini --nodes 3-4 --time 00:30:00 --submit |
    sed -n 's/^submitted job //p')
  name=once-$job
  set_rate 10
  hit_walltime 0 "^step 3/60 "
  wait_for_restart 1
  wait_for_log "^step 8/60 "
  kill_slurmd n3
  wait_for_restart 2
  set_rate 0
  wait_for_log "^step 60/60 "
  set_rate 10
  hit_walltime 2 "^step 5/20 "
  start_slurmd n3
  set_rate 0
  wait_for_end
  expect "exit codes" "$(exit_codes)" "85 (-|85) 85 0"
  expect "same bits of sft" "$(has_golden_bits once/sft)" yes
  expect "same bits of reward" "$(has_golden_bits once/reward chain_reward)" yes
  row "slurm/submit: a pipeline, time limit in both stages, SIGKILL of a slurmd" - "$(has_golden_bits once/reward chain_reward)"
}

# The commands of slurm/README.md as written, one after the other, in a directory with the files they name.
readme() {
  name=readme
  mkdir -p readme/slurm readme/build
  cp "$root/slurm/train.sbatch" "$root/slurm/submit" site.env readme/slurm
  ln -s "$plumb" readme/build/plumb
  cp -r base rows.csv pairs.jsonl align.ini readme
  cp -r base readme/DIR
  local commands=() command
  # indented lines are commands; a backslash continues one
  mapfile -t commands < <(sed -n 's/^    //p' "$root/slurm/README.md" | sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join' -e '}')
  expect "commands" "${#commands[@]}" 8
  pushd readme >/dev/null || return
  for command in "${commands[@]}"; do
    # the first command of the chain writes to the same directory as the first command
    if [[ $command == first=* ]]; then mv out out_alone; fi
    eval "$command" || fail "refused: $command"
    if [[ $command != first=* ]]; then wait_until 600 is_queue_empty || fail "does not end: $command"; fi
  done
  local directory
  for directory in out_alone out out2 pipeline/sft pipeline/reward runs/seed-{1..3}; do
    [[ -s $directory/model/model.safetensors ]] || fail "no model in $directory"
  done
  popd >/dev/null || return
  local states
  states=$(scontrol --oneliner show jobs | grep "WorkDir=$PWD/readme " | sed 's/.* JobState=\([A-Z_]*\).*/\1/' | sort | uniq -c | xargs)
  expect "states" "$states" "9 COMPLETED"
  echo "| the eight commands of slurm/README.md | $states | - | - | - | - | - |" | tee -a table.md
}
is_queue_empty() { [[ -z $(squeue --noheader) ]]; }
