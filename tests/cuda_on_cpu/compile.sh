#!/usr/bin/env bash
# compile.sh [--update] ROOT [ARCHITECTURE...]: compiles lib/kernels/cuda by nvcc for GPUs of these architectures (80 90 100
# 120), with warnings, spilled registers and local memory as errors, and compares registers and static shared memory of
# every kernel with lib/kernels/cuda/registers.txt; where cuobjdump is found, also the numbers of 16-byte loads and stores
# on sm_90. --update writes the table instead, of all architectures. Exits with 77 where there is no nvcc.
set -euo pipefail
update=false
if [[ ${1:-} == --update ]]; then
  update=true
  shift
fi
root=${1:?usage: compile.sh [--update] ROOT [ARCHITECTURE...]}
shift
readonly all_architectures=(80 90 100 120)
architectures=("$@")
[[ $# -gt 0 ]] || architectures=("${all_architectures[@]}")
cd "$root"
readonly table=lib/kernels/cuda/registers.txt

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [[ ! -x $nvcc ]]; then
  echo "compile.sh: skipped: no nvcc in PATH, in /usr/local/cuda/bin or as CUDACXX"
  exit 77
fi
version=$("$nvcc" --version | sed -n 's/.*release .*, V//p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compiler=("$nvcc")
if command -v ccache >/dev/null; then compiler=(ccache "$nvcc"); fi
# shellcheck disable=SC2054  # nvcc separates options of its stages by commas
flags=(-std=c++20 -O3 --expt-relaxed-constexpr -Werror=all-warnings -Xptxas=-v,-warn-spills,-warn-lmem-usage
  -Xcompiler=-Wall,-Wextra,-Wshadow -I.)
for architecture in "${architectures[@]}"; do
  flags+=("-gencode=arch=compute_$architecture,code=sm_$architecture")
done
for source in lib/kernels/cuda/*.cu; do
  name=$(basename "$source" .cu)
  if ! "${compiler[@]}" "${flags[@]}" -c "$source" -o "$work/$name.o" 2>"$work/$name.log"; then
    echo "compile.sh: $source does not compile without warnings, spills or local memory:" >&2
    grep -vE 'ptxas info|^ +[0-9]+ bytes stack' "$work/$name.log" >&2
    exit 1
  fi
done

# norm_kernel<BFloat16, true, 32> of plumb::cuda::(anonymous namespace)::norm_kernel<plumb::BFloat16, true, 32>(...)
short_names() { c++filt -p | sed -E 's/\(anonymous namespace\)::|plumb::(cuda::)?//g; s/^void //'; }

# KERNEL <tab> COLUMN <tab> VALUE of everything that was measured
{
  for log in "$work"/*.log; do
    sed -nE "s/.*Compiling entry function '(.*)' for '(.*)'/\1\t\2/p; s/.*Used ([0-9]+) registers.*/&/p" "$log"
  done | awk -F'\t' 'NF == 2 { kernel = $1; column = $2; next }
    { match($0, /Used [0-9]+/); print kernel "\t" column "\t" substr($0, RSTART + 5, RLENGTH - 5)
      bytes = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART, RLENGTH - 11) : 0
      print kernel "\tshared\t" bytes }'
  if command -v "${CUOBJDUMP:-cuobjdump}" >/dev/null && [[ " ${architectures[*]} " == *" 90 "* ]]; then
    for object in "$work"/*.o; do "${CUOBJDUMP:-cuobjdump}" --dump-sass --gpu-architecture sm_90 "$object"; done |
      awk '/Function :/ { kernel = $3; loads[kernel] += 0; stores[kernel] += 0 }
        /LDG\.E\.128/ { ++loads[kernel] } /STG\.E\.128/ { ++stores[kernel] } /LDL|STL/ { print kernel "\tlocal\t1" }
        END { for (k in loads) print k "\tloads\t" loads[k] "\n" k "\tstores\t" stores[k] }'
  fi
} | short_names | sort -u >"$work/measured"
if cut -f 2 "$work/measured" | grep -qx local; then
  echo "compile.sh: local memory is used:" >&2
  grep -P '\tlocal\t' "$work/measured" >&2
  exit 1
fi

readonly columns=(sm_80 sm_90 sm_100 sm_120 shared loads stores)
if $update; then
  {
    echo "# Written by tests/cuda_on_cpu/compile.sh --update: of each kernel the registers by architecture, bytes of static"
    echo "# shared memory, and 16-byte loads and stores in the code for sm_90 (with others for the ends of rows)."
    echo "# nvcc $version"
    { printf '%s\t' "${columns[@]}" && echo kernel
      awk -F'\t' -v names="${columns[*]}" '{ value[$1, $2] = $3; kernels[$1] }
        END { n = split(names, name, " "); for (k in kernels) { for (i = 1; i <= n; ++i) printf "%s\t", value[k, name[i]]; print k } }' \
        "$work/measured" | sort -t$'\t' -k8
    } | expand -t 7
  } >"$table"
  exit 0
fi
if ! grep -qx "# nvcc $version" "$table"; then
  echo "compile.sh: compiled by nvcc $version; the table is of $(sed -n 's/^# nvcc //p' "$table"), so it is not compared"
  exit 0
fi
# every measured value is in the table, and every kernel of the table has been measured
awk -v names="${columns[*]}" '
  BEGIN { n = split(names, name, " ") }
  FNR == NR { if (/^#/ || /kernel$/ && $1 == "sm_80") next
    for (i = 1; i <= n; ++i) { expected[i] = $1; sub(/^[^ ]+ +/, "") }
    for (i = 1; i <= n; ++i) value[$0, name[i]] = expected[i]
    kernels[$0]; next }
  { split($0, field, "\t"); seen[field[1]]
    if (value[field[1], field[2]] != field[3]) {
      printf "%s: %s is %s, in the table %s\n", field[1], field[2], field[3], value[field[1], field[2]]; failed = 1 } }
  END { for (k in kernels) if (!(k in seen)) { printf "%s: in the table only\n", k; failed = 1 }
    if (failed) print "compile.sh: if this is meant, run compile.sh --update"
    exit failed }' "$table" "$work/measured"
