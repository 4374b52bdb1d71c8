#!/usr/bin/env bash
# layers.sh ROOT: fails, with file:line, on every #include in ROOT that breaks the layers lib < partition < io < apps, or
# the order of the folders within one of them, or that pulls a library into a layer that must not know it. CMake cannot
# say this, because all layers share one include root.
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
# Each argument is one floor of a layer: folders that must not include each other, above the floors that came before.
function floor(layer, folders,    names, count, i) {
  count = split(folders, names, " ")
  ++floors
  for (i = 1; i <= count; ++i) floor_of[layer "/" names[i]] = floors
}
BEGIN {
  rank["lib"] = 1; rank["partition"] = 2; rank["io"] = 3; rank["apps"] = 4
  floor("lib", "base cmake")
  floor("lib", "device kernels jinja tokenizer")
  floor("lib", "optim model text")
  floor("lib", "nn")
  floor("lib", "objective")
  floor("io", "file")
  floor("io", "records huggingface run")
  floor("io", "report checkpoint dataset gguf")
  floor("apps", "options")
  floor("apps", "models")
  floor("apps", "rewards")
  floor("apps", "run")
  floor("apps", "doctor preference")
  floor("apps", "rollout")
  floor("apps", "train")
  floor("apps", "pipeline")
  floor("apps", "batch")
  floor("apps", "commands")
}
function folder_of(parts, count) { return count > 2 ? parts[1] "/" parts[2] : "" }
function broken(why) { printf "%s:%d: %s\n    %s\n", FILENAME, FNR, why, $0; failed = 1 }
/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
  header = $0
  sub(/^[^<"]*[<"]/, "", header)
  sub(/[>"].*$/, "", header)
  own_folder = folder_of(own, split(FILENAME, own, "/"))
  to_folder = folder_of(to, split(header, to, "/"))
  layer = own[1]
  if (header ~ /^torch\/(torch|all|extension)\.h$/)
    broken("includes all of torch (20 s to compile); include ATen or a torch/csrc header")
  if (!(layer in rank)) next
  if (to[1] in rank) {
    if (rank[to[1]] > rank[layer]) broken(layer " must not include " to[1] " (lib < partition < io < apps)")
  } else if ($0 ~ /include[ \t]*"/) {
    broken("a quoted include starts at the repository root: lib/, partition/, io/ or apps/")
  }
  if (own_folder != to_folder && own_folder in floor_of && to_folder in floor_of && own[1] == to[1] &&
      floor_of[to_folder] >= floor_of[own_folder])
    broken(own_folder " must not include " to_folder ", which is on the same floor or above")
  if (own_folder != "" && !(own_folder in floor_of) && layer != "partition" && !(own_folder in unknown)) {
    unknown[own_folder]
    broken(own_folder " is not in the order of folders of layers.sh")
  }
  if (header ~ /^(mpi|nccl)\.h$/ && layer != "partition") broken("<" header "> belongs to partition/")
  if (header ~ /^(hdf5(_hl)?|H5[A-Za-z0-9_]*)\.h$/ && layer != "io") broken("<" header "> belongs to io/")
  if (header ~ /^(fstream|filesystem)$/ && rank[layer] < rank["io"]) broken("files and paths belong to io/ and apps/")
}
END { exit failed }
' "${files[@]}"
