#!/usr/bin/env bash
# run.sh PROGRAM [ARGS]: runs the fault table, or with --chaos MINUTES random faults, by plumb_faults. The result of the
# complete table or of a chaos run is written to benchmarks/results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=${1:?usage: run.sh PROGRAM [ARGS]}
shift

case " $* " in
  *" --chaos "*) name=faults_chaos ;;
  "  " | *" --times "*) name=faults ;;
  *) exec "$program" "$@" ;;
esac
[[ " $* " != *" --only "* && " $* " != *" --smoke "* && " $* " != *" --list "* ]] || exec "$program" "$@"

table=$(mktemp)
trap 'rm -f "$table"' EXIT
began=$(date -u '+%Y-%m-%d %H:%M')
load=$(cut -d ' ' -f 1 /proc/loadavg)
status=0
"$program" --table "$table" "$@" || status=$?
[[ -s $table ]] || exit 1

print_machine() {
  echo "$began UTC, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(nproc) cores of" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load before the run $load; made by \`./dev faults${*:+ }$*\`"
}
{
  cat "tests/faults/$name.head.md"
  print_machine "$@"
  echo
  cat "$table"
} >"benchmarks/results/$name.md"
exit "$status"
