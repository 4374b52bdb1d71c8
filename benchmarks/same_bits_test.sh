#!/usr/bin/env bash
# Shows that same_bits.sh can fail: it must detect a program whose output differs in one number, one byte or one file.
#     benchmarks/same_bits_test.sh PLUMB
set -euo pipefail
here=$(dirname "$(realpath "$0")")
plumb=$(realpath "${1:?usage: same_bits_test.sh PLUMB}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
num_failed=0

# expect NAME PATTERN CODE SCRIPT [CASE]: for a program that does SCRIPT around PLUMB, same_bits.sh ends with this code
# and prints a line that matches PATTERN.
expect() {
  local name=$1 pattern=$2 code=$3 script=$4 cases=${5:-^sft.float32.np3$} got=0
  printf '#!/usr/bin/env bash\nplumb=%q\n%s\n' "$plumb" "$script" >"$work/altered"
  chmod +x "$work/altered"
  "$here/same_bits.sh" --only "$cases" "$plumb" "$work/altered" "$work/$name" >"$work/$name.out" 2>&1 || got=$?
  if [[ $got == "$code" ]] && grep -qE "$pattern" "$work/$name.out"; then
    printf '%-24s as expected: %s\n' "$name" "$(grep -m 1 -E "$pattern" "$work/$name.out" | tr -s ' ')"
  else
    printf '%-24s NOT as expected (exit code %s):\n' "$name" "$got"
    cat "$work/$name.out"
    num_failed=$((num_failed + 1))
  fi
}

# shellcheck disable=SC2016  # the scripts are expanded where they run
{
  on_rank_0='"$plumb" "$@" || exit; [[ ${OMPI_COMM_WORLD_RANK:-0} == 0 ]] || exit 0;'
  expect unaltered ' same$' 0 'exec "$plumb" "$@"'
  expect another_seed 'DIFFERS: .*metrics.jsonl.*model/model.safetensors' 1 'exec "$plumb" "$@" --seed 43'
  expect another_rate 'DIFFERS: .*metrics.jsonl' 1 'exec "$plumb" "${@/#0.001/0.00100001}"'
  expect last_digit_of_a_metric 'DIFFERS: out/metrics.jsonl$' 1 \
    "$on_rank_0"' sed -i -E "2s/(\"loss\":[0-9.]*)[0-9],/\1x,/" out/metrics.jsonl'
  expect measured_numbers ' same$' 0 \
    "$on_rank_0"' sed -i -E "s/(\"(step_seconds|tokens_per_second|memory_bytes)\":)[0-9.e-]+/\17/g" out/metrics.jsonl'
  expect one_exported_bit 'DIFFERS: out/model/model.safetensors$' 1 "$on_rank_0"'
    file=out/model/model.safetensors byte=$(tail -c 1 "$file" | od -An -tu1)
    truncate -s -1 "$file" && printf "\\x$(printf %x $((byte ^ 1)))" >>"$file"'
  expect exported_config 'DIFFERS: out/model/config.json$' 1 "$on_rank_0"' echo >>out/model/config.json'
  expect missing_file 'DIFFERS: out/model/tokenizer.json$' 1 "$on_rank_0"' rm out/model/tokenizer.json'
  expect additional_file 'DIFFERS: out/model/x$' 1 "$on_rank_0"' touch out/model/x'
  expect exit_code 'FAILED: exit codes 0 3 ' 1 "$on_rank_0"' exit 3'
  expect standard_output 'DIFFERS: stdout$' 1 "$on_rank_0"' echo' '^score.float32.np3$'
  expect another_adapter 'DIFFERS: .*out/adapter/adapter_model.safetensors' 1 'exec "$plumb" "$@" --seed 43' '^sft.lora.np3$'
  expect not_resumed 'FAILED: .*did not resume' 1 'exec "$plumb" "$@" --resume never --overwrite_output_dir true' \
    '^resume.old_run.step.np3$'
  expect no_such_case 'no case matches' 1 'exec "$plumb" "$@"' '^nothing$'
}

[[ $num_failed -eq 0 ]] || { echo "same_bits.sh misses $num_failed" && exit 1; }
echo "same_bits.sh finds all of them"
