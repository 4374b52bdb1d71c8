#!/usr/bin/env bash
# Proves that layers.sh can fail: a sound tree passes, and each violation planted in it alone is reported at its line.
set -euo pipefail
layers=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/layers.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

fresh_tree() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{lib/base,partition,io/file,apps/run,tests/partition}
  printf '%s\n' '#include <vector>' '// #include "apps/x.hpp"' >"$tree/lib/base/a.hpp"
  printf '%s\n' '#include <mpi.h>' '#include "lib/base/a.hpp"' >"$tree/partition/b.cpp"
  printf '%s\n' '#include <hdf5.h>' '#include <filesystem>' '#include "partition/b.hpp"' >"$tree/io/file/c.cpp"
  printf '%s\n' '#include <fstream>' '#include "io/file/c.hpp"' '#include "lib/base/a.hpp"' >"$tree/apps/run/d.cpp"
  printf '%s\n' '#include <mpi.h>' '#include "partition/b.hpp"' >"$tree/tests/partition/b_test.cpp"
}

expect_pass() {
  if ! "$layers" "$tree"; then
    echo "FAILED: a tree without violations is refused"
    failed=1
  fi
}

# expect_violation FILE INCLUDE: appended to FILE of a sound tree, INCLUDE is reported with FILE and its line, and only that.
expect_violation() {
  local file=$1 include=$2 line output
  fresh_tree
  mkdir -p "$(dirname "$tree/$file")"
  printf '%s\n' "$include" >>"$tree/$file"
  line=$(wc -l <"$tree/$file")
  if output=$("$layers" "$tree"); then
    echo "FAILED: $file may say $include"
    failed=1
  elif [[ $output != "$file:$line: "* || $(wc -l <<<"$output") -ne 2 ]]; then
    printf 'FAILED: %s in %s is reported as\n%s\n' "$include" "$file" "$output"
    failed=1
  fi
}

fresh_tree
expect_pass
expect_violation lib/base/a.hpp '#include "partition/b.hpp"'
expect_violation lib/base/a.hpp '#include "io/file/c.hpp"'
expect_violation lib/text/new.cpp '  #  include "apps/run/d.hpp"  // indented'
expect_violation partition/b.cpp '#include "io/file/c.hpp"'
expect_violation partition/b.cpp '#include <apps/run/d.hpp>'
expect_violation io/file/c.cpp '#include "apps/run/d.hpp"'
expect_violation io/file/c.cpp '#include "../apps/d.hpp"'
expect_violation lib/base/a.hpp '#include "lib/model/m.hpp"'
expect_violation lib/model/m.hpp '#include "lib/text/t.hpp"'
expect_violation io/file/c.cpp '#include "io/report/r.hpp"'
expect_violation io/dataset/n.cpp '#include "io/checkpoint/r.hpp"'
expect_violation apps/run/d.cpp '#include "apps/train/t.hpp"'
expect_violation apps/attic/e.cpp '#include <vector>'
expect_violation lib/base/a.hpp '#include "sibling.hpp"'
expect_violation lib/base/a.hpp '#include <mpi.h>'
expect_violation io/file/c.cpp '#include <mpi.h>'
expect_violation apps/run/d.cpp '#include <mpi.h>'
expect_violation lib/kernels/k.cu '#include <nccl.h>'
expect_violation lib/base/a.hpp '#include <hdf5.h>'
expect_violation partition/b.cpp '#include <hdf5.h>'
expect_violation apps/run/d.cpp '#include <H5Cpp.h>'
expect_violation lib/base/a.hpp '#include <fstream>'
expect_violation partition/b.cpp '#include <filesystem>'
expect_violation apps/run/d.cpp '#include <torch/torch.h>'
expect_violation tests/partition/b_test.cpp '#include <torch/torch.h>'

rm -rf "${tree:?}"/*
if "$layers" "$tree" 2>/dev/null; then
  echo "FAILED: a tree without sources passes"
  failed=1
fi
[[ $failed -eq 0 ]] && echo "layers.sh finds every planted violation"
exit "$failed"
