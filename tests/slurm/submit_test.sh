#!/usr/bin/env bash
# submit_test.sh ROOT PROGRAM: tests slurm/submit with a stub of sbatch that records its arguments and gives job ids.
# run.sh tests it on a real Slurm.
set -euo pipefail
root=$(realpath "${1:?usage: submit_test.sh ROOT PROGRAM}")
PLUMB_PROGRAM=$(realpath "${2:?usage: submit_test.sh ROOT PROGRAM}")
export PLUMB_PROGRAM PLUMB_SITE=/dev/null
world=$(mktemp -d)
trap 'rm -rf "$world"' EXIT
cd "$world"
num_failed=0

# expect WHAT GOT WANTED
expect() {
  [[ $2 == "$3" ]] || { echo "FAILED: $1: expected \"$3\", got \"$2\"" >&2 && num_failed=$((num_failed + 1)); }
}

mkdir bin base
cat >bin/sbatch <<'END'
#!/usr/bin/env bash
if [[ -n ${REFUSES:-} && -s calls ]]; then echo "sbatch: error: no" >&2 && exit 1; fi
echo "$PLUMB_PROGRAM $*" >>calls
echo "$((100 + $(wc -l <calls)));cluster"
END
chmod +x bin/sbatch
export PATH=$world/bin:$PATH
echo '{}' >base/config.json
printf 'prompt,completion\na,b\n' >rows.csv
echo '{"prompt": "a", "chosen": "b", "rejected": "c"}' >pairs.jsonl
printf '%s\n' 'model = base' 'output_dir = out' '[sft]' 'data = rows.csv' '[reward]' 'data = pairs.jsonl' >align.ini
submit() { "$root/slurm/submit" "$@" >log 2>&1; }

# a dry run prints what --submit does, and does nothing
submit align.ini --nodes 2 --time 1:00:00 --array seed=1..2 --per-stage
expect "calls of a dry run" "$(ls calls out 2>/dev/null || true)" ""
printed=$(sed -n "s/^job.=\$(sbatch //p" log | sed 's/)$//')
submit align.ini --nodes 2 --time 1:00:00 --array seed=1..2 --per-stage --submit
expect "jobs" "$(grep -c '^submitted job' log)" 2
# shellcheck disable=SC2016 # as printed
expect "the same commands" "$(sed "s|^$PLUMB_PROGRAM ||; s/aftercorr:101/aftercorr:\$job1/" calls)" "$printed"
expect "files" "$(cd out/submit && echo *)" "1-1-sft.ini 1-2-reward.ini 2-1-sft.ini 2-2-reward.ini"
expect "results" "$(grep -o 'plumb compare .*' log)" "plumb compare out/seed-1 out/seed-2"

# a second job that is refused names the first
rm -rf calls out
code=0
REFUSES=1 submit align.ini --per-stage --submit || code=$?
expect "exit code of a refusal" "$code $(grep -c 'already submitted: 101' log)" "74 1"

# what can never run is refused before anything is submitted
while IFS='|' read -r words wanted; do
  rm -f calls
  code=0
  # shellcheck disable=SC2086 # words
  submit $words --submit || code=$?
  expect "$words" "$([[ -e calls ]] || echo none) $((code == 2 || code == 74)) $(grep -c -- "$wanted" log)" "none 1 1"
done <<'END'
none.ini|none.ini: cannot be read
align.ini --nodes none|--nodes none
align.ini --node 2|did you mean
align.ini --stage sft|has sections
align.ini --array model=base,gone|gone
align.ini --array sft.data=rows.csv,gone.csv|gone.csv
END

if ((num_failed > 0)); then exit 1; fi
