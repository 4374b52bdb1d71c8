#!/usr/bin/env bash
# A Slurm cluster of four hosts, and a fifth of another size, on one machine, sourced by run.sh inside its namespaces. A host has its own network, name,
# process ids, temporary files and shared memory, so ranks on two hosts communicate by TCP only. Killing its first process
# simulates a power cut. Nothing outside the namespaces is touched; they end with run.sh, together with all processes in
# them.

: "${work:?a directory for logs}"
readonly controller=10.77.0.254
readonly cluster=/run/cluster # sockets and state; private, in memory
export SLURM_CONF=$cluster/slurm.conf
declare -A init_of            # host -> its first process

# The namespace's own /run, /etc/hosts and network.
build_network() {
  mount -t tmpfs none /run
  mkdir -p $cluster/state $cluster/spool
  ip link set lo up
  ip link add br0 type bridge
  ip address add $controller/24 dev br0
  ip link set br0 up
  hostname control
  echo "127.0.0.1 localhost" >$cluster/hosts
  echo "$controller control" >>$cluster/hosts
  local i
  for i in 1 2 3 4 5; do echo "10.77.0.$i n$i" >>$cluster/hosts; done
  mount --bind $cluster/hosts /etc/hosts
}

# boot HOST: starts its first process, which runs until the power cut and, being bash, reaps orphans.
boot() {
  local host=$1
  ip link add "v$host" type veth peer name eth0
  ip link set "v$host" master br0 up
  # shellcheck disable=SC2016
  unshare --net --uts --ipc --mount --pid --fork --mount-proc --kill-child bash -c '
    hostname "$0"
    mount -t tmpfs none /tmp
    mount -t tmpfs none /dev/shm
    trap : CHLD
    while :; do sleep 3600 & wait; done' "$host" 2>/dev/null &
  local launcher=$!
  until init_of[$host]=$(grep -o '[0-9]*' "/proc/$launcher/task/$launcher/children"); do sleep 0.05; done
  ip link set eth0 netns "${init_of[$host]}"
  on "$host" ip link set lo up
  on "$host" ip address add "10.77.0.${host#n}/24" dev eth0
  on "$host" ip link set eth0 up
  until on "$host" mountpoint -q /dev/shm; do sleep 0.05; done
  start_slurmd "$host"
}

# on HOST COMMAND...: runs a command on a host.
on() {
  local host=$1
  shift
  nsenter --target "${init_of[$host]}" --net --uts --ipc --mount --pid "$@"
}

start_slurmd() { on "$1" slurmd -N "$1"; }

# Kills the daemon only; its child processes continue.
kill_slurmd() { on "$1" kill -KILL "$(<"$cluster/slurmd.$1.pid")"; }

# The other hosts receive nothing more from this host: its connections are not closed.
cut_power() {
  ip link delete "v$1"
  kill -KILL "${init_of[$1]}"
}

write_configuration() {
  cat >"$SLURM_CONF" <<END
ClusterName=plumb
SlurmctldHost=control($controller)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket
CredType=cred/munge
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool/%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmctldLogFile=$work/log/slurmctld.log
SlurmdLogFile=$work/log/slurmd.%n.log
SlurmctldDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$work/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=2,batch_sched_delay=0,sched_min_interval=0
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=3600
SlurmdTimeout=20
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-4] CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=n5 CPUs=1 RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=n[1-4] Default=YES MaxTime=24:00:00 State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n[1-4] MaxTime=24:00:00 State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=mixed Nodes=n[4-5] MaxTime=24:00:00 State=UP
END
}

start_cluster() {
  mkdir -p "$work/log"
  build_network
  write_configuration
  head -c 1024 /dev/urandom >$cluster/munge.key
  chmod 400 $cluster/munge.key
  munged --force --key-file=$cluster/munge.key --socket=$cluster/munge.socket --pid-file=$cluster/munged.pid \
    --log-file="$work/log/munged.log" --seed-file=$cluster/munge.seed
  slurmctld -c
  local host
  for host in n1 n2 n3 n4; do boot $host; done
  wait_until 30 all_idle
}

all_idle() { [[ $(sinfo --noheader --partition debug --states idle --format %D) == 4 ]]; }

# set_rate MBIT: limits the sending rate of each host; 0 means no limit
set_rate() {
  local host
  for host in n1 n2 n3 n4; do
    if (($1 == 0)); then
      on $host tc qdisc delete dev eth0 root
    else
      on $host tc qdisc replace dev eth0 root tbf rate "$1mbit" burst 64kb latency 200ms
    fi
  done
}

# wait_until SECONDS COMMAND...: false if the command is not true by then
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}
