#!/usr/bin/env bash
# Rendering 3000 conversations through chat templates beside transformers' apply_chat_template: one core, processor
# time, pairs in turn. PYTHON has transformers and trl, whose templates are rendered.
#     PYTHON=python3 benchmarks/template_speed.sh [PAIRS]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-/tmp/peers/bin/python}
templates=$("$python" -c 'import os, trl; print(os.path.dirname(trl.__file__) + "/chat_templates")')
taskset -c 0 "$python" benchmarks/peers/template_rate.py build/plumb_template_rate "$templates" "${1:-7}"
