#!/usr/bin/env bash
# doctor_plants.sh PROGRAM: plants real problems on this machine, one after the other, and prints a row of Markdown for
# each with what plumb doctor printed. Needs root, for mounts in namespaces of their own. Fails if one is not found, or if
# anything is found on the machine as it is. Results: benchmarks/results/doctor.md.
set -euo pipefail
plumb=$(realpath "${1:?usage: doctor_plants.sh PROGRAM}")
world=$(mktemp -d)
trap 'rm -rf "$world"' EXIT
cd "$world"
mkdir tree && cd tree
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_rmaps_base_oversubscribe=1 OMP_NUM_THREADS=1 plumb
two="mpirun -n 2 --bind-to none $plumb"
num_failed=0

# try WHAT CHECK COMMAND: CHECK is that which must be bad; "": none
try() {
  local code=0 bad
  timeout 120 unshare --mount bash -c "$3" >../out 2>../err || code=$?
  bad=$(sed -n 's/^BAD  //p' ../out | head -1)
  if [[ -z $2 && $code == 0 && -z $bad ]] || [[ -n $2 && $code == 1 && $bad == "$2"* ]]; then
    echo "| $1 | ${bad:-$(tail -1 ../out)} |" | sed 's/   */: /'
  else
    echo "FAILED: $1: exit code $code, expected a bad check \"$2\"" >&2
    cat ../out ../err >&2
    num_failed=$((num_failed + 1))
  fi
}

echo "| planted | printed |"
echo "|---|---|"
try "nothing, two ranks" "" "$two doctor --output_dir runs"
try "\`SLURM_STEP_NUM_TASKS=4\` without PMIx" launch "SLURM_STEP_NUM_TASKS=4 $plumb doctor"
try "\`PLUMB_FAULT\` is set" environment "PLUMB_FAULT=step:1:0:kill $plumb doctor"
try "rank 1 starts in /tmp" directory "mpirun -n 1 $plumb doctor : -n 1 --wdir /tmp $plumb doctor"
try "rank 1 runs a copy with another build id" versions "cp $plumb other && objcopy --remove-section .note.gnu.build-id other &&
  mpirun -n 1 $plumb doctor : -n 1 ./other doctor"
try "rank 1 with \`ATEN_CPU_CAPABILITY=default\`" processors "mpirun -n 1 $plumb doctor : -n 1 -x ATEN_CPU_CAPABILITY=default $plumb doctor"
try "\`OMP_NUM_THREADS=64\`" cores "OMP_NUM_THREADS=64 $plumb doctor"
try "\`OMP_NUM_THREADS=all\`" OpenMP "OMP_NUM_THREADS=all $plumb doctor"
try "both ranks bound to CPU 0" binding "mpirun -n 2 --bind-to none taskset -c 0 bash -c 'exec -a plumb $plumb doctor' || exit \$?"
try "/dev/shm of 64 MiB" "shared memory" "mount -t tmpfs -o size=64m none /dev/shm && $two doctor"
try "/dev/shm of 4 MiB" "shared memory" "mount -t tmpfs -o size=4m none /dev/shm && $two doctor"
try "\`PLUMB_SHM_DIR=/proc/none\`" "shared memory" "PLUMB_SHM_DIR=/proc/none $two doctor"
try "\`ulimit -n 100\`" limits "ulimit -n 100; $plumb doctor"
try "\`ulimit -v 30000000\`" limits "ulimit -v 30000000; $plumb doctor"
try "\`ulimit -f 1000000\`" limits "ulimit -f 1000000; $plumb doctor"
try "\`ulimit -t 3600\`" limits "ulimit -t 3600; $plumb doctor"
try "\`ulimit -s 512\`" limits "ulimit -s 512; $plumb doctor"
try "\`TMPDIR=/proc/none\`" TMPDIR "TMPDIR=/proc/none $plumb doctor"
try "/tmp of 8 MiB" TMPDIR "mount -t tmpfs -o size=8m none /tmp && TMPDIR=/tmp $plumb doctor"
try "output_dir on a read-only file system" output_dir "mkdir ro && mount -t tmpfs -o ro none ro && $plumb doctor --output_dir ro/out"
try "output_dir of 100 MiB" disk "mkdir small && mount -t tmpfs -o size=100m none small && $plumb doctor --output_dir small"
try "output_dir with 20 inodes" disk "mkdir few && mount -t tmpfs -o nr_inodes=20 none few && $plumb doctor --output_dir few"
try "rank 1 has an output_dir of its own" output_dir "mkdir own && mpirun -n 1 $plumb doctor --output_dir own : -n 1 unshare --mount bash -c 'mount -t tmpfs none own && exec $plumb doctor --output_dir own'"
if ((num_failed > 0)); then exit 1; fi
