#!/usr/bin/env bash
# Preparing the same rows from JSON Lines, gzip, zstd, Parquet and a mix of files, beside tokenizing their texts alone:
# processor seconds and peak memory of a rank.
#     benchmarks/data_files.sh MODEL [MEGABYTES] [PYTHON]
# MODEL: a directory with a tokenizer. PYTHON: one with pyarrow, which writes the Parquet file; without it, none is measured.
set -euo pipefail
cd "$(dirname "$0")/.."
model=$1 megabytes=${2:-1000} python=${3:-}
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d "${TMPDIR:-/tmp}/plumb-data.XXXXXX")
trap 'rm -rf "$work"' EXIT

# texts of words of the documents of this folder, a few hundred to a few thousand bytes each
awk -v bytes=$((megabytes * 1000000)) -v seed=1 '
  { gsub(/["\\\t]/, " "); line[NR] = $0 }
  END {
    srand(seed)
    while (written < bytes) {
      text = ""
      for (i = 0; i < 5 + rand() * 30; ++i) text = text line[1 + int(rand() * NR)] " "
      row = "{\"text\": \"" text "\"}"
      print row
      written += length(row) + 1
    }
  }' ./*.md ./*/README.md lib/*/*.hpp >"$work/rows.jsonl"
gzip -k "$work/rows.jsonl"
zstd -q -k "$work/rows.jsonl"
split -n l/4 --additional-suffix .jsonl "$work/rows.jsonl" "$work/part-"
if [[ -n $python ]]; then
  "$python" - "$work/rows.jsonl" "$work/rows.parquet" <<'END'
import sys
import pyarrow.json
import pyarrow.parquet
table = pyarrow.json.read_json(sys.argv[1])
pyarrow.parquet.write_table(table, sys.argv[2], row_group_size=1000)  # as `datasets` writes them
END
fi

# measure NAME COMMAND...
measure() {
  local name=$1
  shift
  /usr/bin/time -o "$work/time" -f '%U %S %e %M' "$@" >/dev/null 2>"$work/log" || { cat "$work/log" >&2 && exit 1; }
  awk -v name="$name" '{ printf "%-28s %7.1f s of processor, %7.1f s, %4d MiB\n", name, $1 + $2, $3, $4 / 1024 }' "$work/time"
  rm -rf "$work/out"
}
stat -c '%n %s' "$work"/rows.* | awk '{ sub(".*/", ""); printf "%s %.0f MB\n", $1, $2 / 1e6 }'
measure "tokenize, texts alone" bash -c "build/plumb tokenize --model '$model' <'$work/rows.jsonl'"
for file in "$work"/rows.*; do
  measure "prepare ${file##*/}" build/plumb prepare --model "$model" --data "$file" --output_dir "$work/out" --max_length 0
done
measure "prepare 'part-*.jsonl'" build/plumb prepare --model "$model" --data "$work/part-*.jsonl" --output_dir "$work/out" --max_length 0
for file in "$work"/rows.*; do
  measure "prepare ${file##*/}, 2 ranks" mpirun -n 2 --bind-to none build/plumb prepare --model "$model" --data "$file" \
    --output_dir "$work/out" --max_length 0
done
