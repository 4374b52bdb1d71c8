#!/usr/bin/env bash
# Shows that excerpts.sh can fail, and that it passes excerpts that are true.
set -euo pipefail
script=$(realpath "$(dirname "$0")")/excerpts.sh
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir "$root/lib"
printf 'int f() {\n  return 1;\n}\n' >"$root/lib/f.cpp"

# try EXPECTED_STATUS EXPECTED_TEXT BLOCK_LINE...
try() {
  local expected=$1 text=$2 status=0 output
  shift 2
  { echo "# Title" && echo '```cpp' && printf '%s\n' "$@" && echo '```'; } >"$root/A.md"
  output=$("$script" "$root" 2>&1) || status=$?
  if [[ $status != "$expected" || $output != *"$text"* ]]; then
    echo "FAILED: expected status $expected and \"$text\", got $status and \"$output\"" >&2
    exit 1
  fi
}

try 0 "" "// lib/f.cpp" "int f() {" "return 1;"
try 1 "A.md:2: these lines are not in lib/f.cpp" "// lib/f.cpp" "int g() {"
try 1 "not in lib/f.cpp" "// lib/f.cpp" "int f() {" "}"
try 1 "not in lib/f.cpp" "// lib/f.cpp"
try 1 "no such file" "// lib/g.cpp" "int f() {"
try 1 "names its file" "int f() {"
try 1 "at most 12 lines, got 13" "// lib/f.cpp" {1..13}
