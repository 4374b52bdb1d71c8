#!/usr/bin/env bash
# Readability counts of source trees: sizes of folders and functions, include cycles, casts, documents, words, tests.
#     benchmarks/house_counts.sh TREE [TREE...]     prints a Markdown table with a column per tree
# Needs universal-ctags and python3. Tests are counted if TREE/build is configured.
set -euo pipefail
export LC_ALL=C
self=$(dirname "$(realpath "$0")")/..
readonly layers=(lib partition io apps)
[[ $# -gt 0 ]] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2 && exit 2; }

sources() { find "${layers[@]}" -name '*.[ch]pp'; }

# Prints the folders with sources, each after its number of sources.
folders() { sources | sed 's|/[^/]*$||' | sort | uniq -c | awk '{ print $1, $2 }'; }

# Prints how many includes within one layer are on a cycle of files; x.hpp and x.cpp are one file here.
includes_on_cycles() {
  python3 - "${layers[@]}" <<'PYTHON'
import collections, pathlib, re, sys
arrows = collections.defaultdict(set)
for layer in sys.argv[1:]:
    for path in pathlib.Path(layer).rglob("*.[ch]pp"):
        stem = str(path)[:-4]
        for target in re.findall(r'^\s*#\s*include\s*"([^"]+)\.hpp"', path.read_text(), re.M):
            if target != stem and target.startswith(layer + "/"):
                arrows[stem].add(target)
def reached(start):
    seen, todo = set(), [start]
    while todo:
        for target in arrows.get(todo.pop(), ()):
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return seen
reach = {stem: reached(stem) for stem in arrows}
print(sum(stem in reach.get(target, ()) for stem in arrows for target in arrows[stem]))
PYTHON
}

# Prints a line per function: its numbers of lines and parameters.
functions() {
  sources | ctags -L - --languages=C++ --map-C++=+.hpp --kinds-C++=f --fields=+neS --output-format=json |
    python3 -c '
import json, sys
for line in sys.stdin:
    tag = json.loads(line)
    depth, parameters = 0, 0
    text = tag.get("signature", "()").strip()[1:-1]
    parameters = 1 if text.strip() not in ("", "void") else 0
    for character in text:
        depth += (character in "(<{[") - (character in ")>}]")
        parameters += character == "," and depth == 0
    print(tag.get("end", tag["line"]) - tag["line"] + 1, parameters)'
}

# Counts the phrases of the table in tests/style/words.sh in code, scripts and documents.
words_left() {
  local patterns
  patterns=$(sed -n "/<<'TABLE'/,/^TABLE/p" "$self/tests/style/words.sh" | sed '1d;$d;/^ *#/d;s/ *=> .*//')
  find "${layers[@]}" tests slurm benchmarks dev ./*.md \( -path tests/golden -o -path tests/fuzz/seeds -o -path benchmarks/results \
    -o -name 'words*.sh' \) -prune -o -type f \( -name '*.[ch]pp' -o -name '*.sh' -o -name '*.md' -o -name '*.sbatch' \
    -o -name '*.cmake' -o -name CMakeLists.txt -o -name '*.py' -o -name dev \) -print0 >"$files"
  {
    xargs -0 grep -ohiE -f <(grep -v '^^' <<<"$patterns") <"$files"
    xargs -0 grep -ohE -f <(grep '^^' <<<"$patterns") <"$files"
  } | wc -l
}

files=$(mktemp)
trap 'rm -f "$files"' EXIT

# count TREE: lines of NAME|VALUE.
count() (
  cd "$1"
  local all sizes
  all=$(folders) sizes=$(functions)
  echo "source files|$(sources | wc -l)"
  echo "folders with sources|$(wc -l <<<"$all")"
  echo "most files in a folder|$(sort -rn <<<"$all" | awk 'NR == 1 { print $1 " (" $2 ")" }')"
  echo "median of files in a folder|$(sort -n <<<"$all" | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }')"
  echo "includes within a layer that are on a cycle of files|$(includes_on_cycles)"
  echo "includes against the order of layers and folders|$(if [[ -d lib/base && -d io/file ]]; then
    { tests/style/layers.sh . || true; } | grep -c '^[a-z].*:[0-9]*: ' || true; else echo "no folders"; fi)"
  echo "functions|$(wc -l <<<"$sizes")"
  echo "functions of more than 60 lines|$(awk '$1 > 60' <<<"$sizes" | wc -l)"
  echo "functions of more than 6 parameters|$(awk '$2 > 6' <<<"$sizes" | wc -l)"
  echo "longest function, lines|$(sort -rn <<<"$sizes" | awk 'NR == 1 { print $1 }')"
  echo "static_cast|$(sources | xargs grep -oh 'static_cast<' | wc -l)"
  echo "static_cast<size_t>|$(sources | xargs grep -ohE 'static_cast<(std::)?size_t>' | wc -l)"
  echo "lines of README.md|$(wc -l <README.md)"
  echo "longest line of README.md, columns|$(LC_ALL=C.UTF-8 wc -L <README.md)"
  echo "longest line of ARCHITECTURE.md, columns|$(LC_ALL=C.UTF-8 wc -L <ARCHITECTURE.md)"
  echo "phrases of tests/style/words.sh|$(words_left)"
  echo "ctest entries|$(if [[ -f build/CTestTestfile.cmake ]]; then ctest --test-dir build -N | sed -n 's/^Total Tests: //p'; else echo -; fi)"
  echo "test programs|$(find tests -name CMakeLists.txt -exec cat {} + | grep -cE '^ *(plumb_test|plumb_program_test|add_executable)\([a-z]')"
)

names='' table=''
for tree in "$@"; do
  counts=$(count "$tree")
  names="$names $(git -C "$tree" rev-parse --short HEAD) |"
  if [[ -z $table ]]; then
    table=$counts
  else
    table=$(paste -d '|' <(echo "$table") <(cut -d '|' -f 2 <<<"$counts"))
  fi
done
echo "| |$names"
echo "|---|$(printf -- '---|%.0s' "$@")"
sed 's/|/ | /g; s/^/| /; s/$/ |/' <<<"$table"
echo
for tree in "$@"; do
  echo "Files per folder, $(git -C "$tree" rev-parse --short HEAD): $(cd "$tree" && folders | awk '{ printf "%s%s %s", (NR > 1 ? ", " : ""), $2, $1 }')."
done
