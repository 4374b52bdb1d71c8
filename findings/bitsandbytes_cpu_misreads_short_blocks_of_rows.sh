#!/usr/bin/env bash
# bitsandbytes 0.50.2 on a processor with AVX-512 dequantizes 4-bit matrices wrongly whose rows are a multiple of 16 but
# not of the block size: blocks of 64 run on from row to row, as quantize_4bit makes them and as the other paths read them,
# but the path of vectors takes the scale of the wrong block, without a warning. Errors are several times those of
# quantization; the same bytes with the shape of one row are read rightly. So does an NF4 checkpoint, whose state keeps the
# shape: every layer with such a number of inputs is another one. Rows of 64, 576 or 520 numbers are read rightly.
# Seen:
#     rows of 64: largest error 0.39, as one row 0.39
#     rows of 96: largest error 1.70, as one row 0.45
#     rows of 520: largest error 0.50, as one row 0.50
#     rows of 1376: largest error 2.62, as one row 0.53
set -euo pipefail
grep -q avx512f /proc/cpuinfo || { echo "needs a processor with AVX-512" && exit 2; }
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

torch.manual_seed(0)
for columns in (64, 96, 520, 1376):
    weight = torch.randn(64, columns)
    codes, state = quantize_4bit(weight, quant_type="nf4", blocksize=64)
    error = (dequantize_4bit(codes, state) - weight).abs().max().item()
    state.shape = torch.Size([1, weight.numel()])
    error_as_one_row = (dequantize_4bit(codes, state).reshape(weight.shape) - weight).abs().max().item()
    print(f"rows of {columns}: largest error {error:.2f}, as one row {error_as_one_row:.2f}")
    is_misread = columns % 16 == 0 and columns % 64 != 0
    assert (error > 2 * error_as_one_row) == is_misread, "the rows are read rightly now"
PYTHON
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch==2.15.0 bitsandbytes==0.50.2
"$venv/bin/python" "$temporary/show.py" 2>"$temporary/log" || { cat "$temporary/log" && exit 1; }
