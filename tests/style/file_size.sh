#!/usr/bin/env bash
# file_size.sh ROOT: fails, with its size, on every source file in ROOT of more than 400 lines: past that it holds two things.
set -euo pipefail
root=${1:?usage: file_size.sh ROOT}
readonly max_lines=400
cd "$root"

mapfile -d '' -t files < <(find lib partition io apps slurm tests benchmarks dev -type f \
  \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.sbatch' -o -name '*.cmake' \
  -o -name CMakeLists.txt -o -name dev \) -print0 2>/dev/null | sort -z)
if [[ ${#files[@]} -eq 0 ]]; then
  echo "file_size.sh: no sources under $root" >&2
  exit 2
fi

awk -v max="$max_lines" '
function report() { if (lines > max) { printf "%s: %d lines, at most %d: split it\n", file, lines, max; failed = 1 } }
FNR == 1 { report(); file = FILENAME }
{ lines = FNR }
END { report(); exit failed }
' "${files[@]}"
