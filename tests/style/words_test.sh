#!/usr/bin/env bash
# Proves that words.sh can fail: plain text passes, and each phrase planted in it alone is reported at its line.
set -euo pipefail
words=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/words.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

fresh_tree() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{tests/style,tests/slurm}
  printf '%s\n' '// Resumes from the last checkpoint; 3 skips in a row end the run.' 'int go_once(int on_device);' \
    '// An end-to-end test of what the log says.' 'int size = 1;  // of the header' >"$tree/tests/style/a.hpp"
  printf '%s\n' 'state=CANCELLED' >"$tree/tests/slurm/jobs.sh"
}

# expect_violation FILE LINE: appended to FILE of a plain tree, LINE is reported with FILE and its number, and only that.
expect_violation() {
  local file=$1 line=$2 number output
  fresh_tree
  printf '%s\n' "$line" >>"$tree/$file"
  number=$(wc -l <"$tree/$file")
  if output=$("$words" "$tree"); then
    echo "FAILED: $file may say: $line"
    failed=1
  elif [[ $output != "$file:$number:"* || $(wc -l <<<"$output") -ne 2 ]]; then
    printf 'FAILED: %s in %s is reported as\n%s\n' "$line" "$file" "$output"
    failed=1
  fi
}

fresh_tree
if ! "$words" "$tree"; then
  echo "FAILED: a tree without violations is refused"
  failed=1
fi
expect_violation tests/style/a.hpp 'log_info("resume: goes on after step {}", step);'
expect_violation tests/style/a.hpp 'int64_t accumulation_to_go_on_with(int ranks);'
expect_violation tests/style/a.hpp 'int num_skipped_on_end = 0;'
expect_violation tests/style/a.hpp '// The file is written anew.'
expect_violation tests/style/a.hpp '// The bytes are on the device before the rename.'
expect_violation tests/style/a.hpp '/// Prints a number for people.'
expect_violation tests/style/a.hpp 'void spoil_gradient();'
expect_violation tests/style/a.hpp '// Of the two, the later wins.'
expect_violation tests/style/a.hpp '  /// What a step changes is little.'
expect_violation tests/style/a.hpp 'at::Tensor normalise(at::Tensor x);'
expect_violation tests/style/a.hpp '// Colours of the plot.'
expect_violation tests/style/a.hpp '// a cancelled job'
expect_violation tests/style/b.md 'A file that cannot be read is passed over.'
expect_violation tests/style/c.sh 'echo "the run was carried through already"'
expect_violation tests/style/d.sbatch '# whoever cancels the job'
expect_violation tests/style/CMakeLists.txt '# the row that stands in the file'

rm -rf "${tree:?}"/*
if "$words" "$tree" 2>/dev/null; then
  echo "FAILED: a tree without sources passes"
  failed=1
fi
[[ $failed -eq 0 ]] && echo "words.sh finds every planted phrase"
exit "$failed"
