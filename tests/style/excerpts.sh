#!/usr/bin/env bash
# excerpts.sh ROOT: fails, with file:line, on every excerpt of code in the Markdown of ROOT that is not in the source that
# it names. An excerpt is a block ```cpp whose first line is "// PATH"; at most 12 more lines, which are consecutive in
# that file, apart from indentation.
set -euo pipefail
root=${1:?usage: excerpts.sh ROOT}
cd "$root"

mapfile -d '' -t files < <(find . -maxdepth 2 -name '*.md' -not -path './build*' -print0 | sort -z)
if [[ ${#files[@]} -eq 0 ]]; then
  echo "excerpts.sh: no Markdown under $root" >&2
  exit 2
fi

awk '
function trim(line) { gsub(/^[ \t]+|[ \t]+$/, "", line); return line }
function broken(why) { printf "%s:%d: %s\n", FILENAME, start, why; failed = 1 }
function text_of(path,    line, text, status) {
  if (path in texts) return texts[path]
  text = "\n"
  while ((status = (getline line < path)) > 0) text = text trim(line) "\n"
  close(path)
  return texts[path] = status < 0 ? "" : text
}
/^```cpp/ { start = FNR; path = ""; excerpt = "\n"; num_lines = 0; inside = 1; next }
inside && /^```/ {
  inside = 0
  if (path == "") broken("an excerpt names its file in its first line: // PATH")
  else if (text_of(path) == "") broken(path ": no such file")
  else if (num_lines > 12) broken("an excerpt has at most 12 lines, got " num_lines)
  else if (num_lines == 0 || !index(text_of(path), excerpt)) broken("these lines are not in " path)
  next
}
inside && FNR == start + 1 { if ($0 ~ /^\/\/ [^ ]+$/) path = substr($0, 4); next }
inside { excerpt = excerpt trim($0) "\n"; ++num_lines }
END { exit failed }
' "${files[@]}"
