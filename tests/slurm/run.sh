#!/usr/bin/env bash
# run.sh [BUILD_DIR [SCENARIO...]]: tests slurm/train.sbatch on a real Slurm of four hosts in network namespaces. Needs
# root; leaves only BUILD_DIR/slurm with the logs and table.md. Fails if a scenario fails.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath "${1:-$root/build}")
work=$build/slurm
plumb=$work/plumb
shift $(($# > 0))

if [[ -z ${PLUMB_SLURM_INSIDE:-} ]]; then
  for tool in slurmctld slurmd munged ip tc; do
    command -v $tool >/dev/null || { echo "run.sh: missing: $tool; ./dev slurm installs it" >&2 && exit 2; }
  done
  # when this process ends for any reason, the namespaces' first process is killed, and with it all others in them
  PLUMB_SLURM_INSIDE=1 setpriv --pdeathsig KILL \
    unshare --mount --net --uts --ipc --pid --fork --mount-proc --kill-child "${BASH_SOURCE[0]}" "$build" "$@" &
  trap 'kill -KILL $! 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM HUP
  wait $!
  exit
fi

mount --make-rprivate /
rm -rf "$work"
mkdir -p "$work"
cd "$work"
cp "$build/plumb" "$plumb" # a copy, since the program may be rebuilt during the run
# shellcheck source=tests/slurm/cluster.sh
source "$root/tests/slurm/cluster.sh"
# shellcheck source=tests/slurm/jobs.sh
source "$root/tests/slurm/jobs.sh"
# shellcheck source=tests/slurm/scenarios.sh
source "$root/tests/slurm/scenarios.sh"

start_cluster
write_inputs
[[ $# -gt 0 ]] || set -- "${scenarios[@]}"
{
  echo "| fault | exit code of each start | restarts | ranks of each start | seconds to detect | steps lost | same bits |"
  echo "|---|---|---|---|---|---|---|"
} | tee table.md
for scenario in undisturbed "$@"; do
  wait_until 120 all_idle || { echo "run.sh: before $scenario: the hosts are not idle" >&2 && sinfo >&2 && exit 1; }
  echo "$(date +%T) $scenario" >&2
  "$scenario"
done
if ((num_failed > 0)); then
  echo "run.sh: $num_failed expectations failed; logs: $work" >&2
  exit 1
fi
