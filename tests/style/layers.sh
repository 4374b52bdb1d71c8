#!/usr/bin/env bash
# layers.sh ROOT: fails, with file:line, on every #include in ROOT that breaks the layers lib < partition < io < apps or
# pulls a library into a layer that must not know it. CMake cannot say this, because all layers share one include root.
set -euo pipefail
root=${1:?usage: layers.sh ROOT}
cd "$root"

mapfile -d '' -t files < <(find lib partition io apps tests benchmarks \
  -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print0 2>/dev/null | sort -z)
if [[ ${#files[@]} -eq 0 ]]; then
  echo "layers.sh: no sources under $root" >&2
  exit 2
fi

awk '
BEGIN { rank["lib"] = 1; rank["partition"] = 2; rank["io"] = 3; rank["apps"] = 4 }
function broken(why) { printf "%s:%d: %s\n    %s\n", FILENAME, FNR, why, $0; failed = 1 }
/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
  header = $0
  sub(/^[^<"]*[<"]/, "", header)
  sub(/[>"].*$/, "", header)
  split(FILENAME, own, "/")
  split(header, to, "/")
  layer = own[1]
  if (header ~ /^torch\/(torch|all|extension)\.h$/)
    broken("includes all of torch (20 s to compile); include ATen or a torch/csrc header")
  if (!(layer in rank)) next
  if (to[1] in rank) {
    if (rank[to[1]] > rank[layer]) broken(layer " must not include " to[1] " (lib < partition < io < apps)")
  } else if ($0 ~ /include[ \t]*"/) {
    broken("a quoted include starts at the repository root: lib/, partition/, io/ or apps/")
  }
  if (header ~ /^(mpi|nccl)\.h$/ && layer != "partition") broken("<" header "> belongs to partition/")
  if (header ~ /^(hdf5(_hl)?|H5[A-Za-z0-9_]*)\.h$/ && layer != "io") broken("<" header "> belongs to io/")
  if (header ~ /^(fstream|filesystem)$/ && rank[layer] < rank["io"]) broken("files and paths belong to io/ and apps/")
}
END { exit failed }
' "${files[@]}"
