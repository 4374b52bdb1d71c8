#!/usr/bin/env bash
# Proves that file_size.sh can fail: 400 lines pass, 401 do not, wherever the file is in the list.
set -euo pipefail
file_size=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/file_size.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

mkdir -p "$tree"/{lib/base,tests}
seq 400 >"$tree/lib/base/a.hpp"
seq 3 >"$tree/tests/z_test.cpp"
if ! "$file_size" "$tree"; then
  echo "FAILED: a file of 400 lines is refused"
  failed=1
fi
for file in lib/base/a.hpp tests/z_test.cpp; do
  content=$(cat "$tree/$file")
  seq 401 >"$tree/$file"
  if output=$("$file_size" "$tree") || [[ $output != "$file: 401 lines"* ]]; then
    echo "FAILED: 401 lines in $file are reported as: $output"
    failed=1
  fi
  printf '%s\n' "$content" >"$tree/$file"
done
rm -rf "${tree:?}"/*
if "$file_size" "$tree" 2>/dev/null; then
  echo "FAILED: a tree without sources passes"
  failed=1
fi
[[ $failed -eq 0 ]] && echo "file_size.sh finds every planted violation"
exit "$failed"
