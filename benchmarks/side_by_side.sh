#!/usr/bin/env bash
# Runs plumb and its peers alternately for several rounds, so that other load on the machine affects all alike, and prints
# medians and ratios as a Markdown table. Needs benchmarks/peers/setup.sh once.
#     benchmarks/side_by_side.sh [ROUNDS] [DIRECTORY of the peers' environment]
set -euo pipefail
cd "$(dirname "$0")"
rounds=${1:-3}
venv=${2:-/tmp/peers}
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for ((round = 0; round < rounds; round++)); do
  for dtype in float32 bfloat16; do ./plumb_sft.sh "$dtype" 6 | tee -a "$results" >&2; done
  ./peers/run.sh "$venv" --steps 6 --warmup 2 | tee -a "$results" >&2
done
"$venv/bin/python" - "$results" <<'PYTHON'
import collections, json, statistics, sys
runs = collections.defaultdict(list)
for line in open(sys.argv[1]):
    run = json.loads(line)
    runs[run["dtype"], run["peer"]].append(run)
print("| dtype | program | tokens/s (median) | sum PSS, MB | plumb is faster by | plumb's memory / its |")
print("|---|---|---|---|---|---|")
for (dtype, peer), group in sorted(runs.items()):
    speed = [r["tokens_per_second"] for r in group]
    memory = [r["peak_sum_pss_mb"] for r in group]
    ours = runs[dtype, "plumb"]
    ratio = statistics.median(o["tokens_per_second"] / s for o, s in zip(ours, speed))
    share = statistics.median(o["peak_sum_pss_mb"] for o in ours) / statistics.median(memory)
    print(f"| {dtype} | {peer} | {statistics.median(speed):.0f} ({min(speed):.0f}-{max(speed):.0f}) | {statistics.median(memory):.0f} | {ratio:.2f} | {share:.2f} |")
PYTHON
