#!/usr/bin/env bash
# transformers 4.57.6 loads Gemma 2 with SDPA attention, which leaves out attn_logit_softcapping: no error, no warning in
# evaluation, and another loss. With attn_implementation="eager", and in 5.23.0, where that is Gemma 2's default, the cap
# is applied. A small cap shows it on random weights; the public models have 50.
# Seen:
#     transformers 4.57.6, sdpa by default: cap 1.5 equals no cap
#     transformers 4.57.6, eager: cap 1.5 differs from no cap
#     transformers 5.23.0, eager by default: cap 1.5 differs from no cap
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, Gemma2Config

directory, expected_default = sys.argv[1:]
torch.manual_seed(0)
config = Gemma2Config(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                      num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=1, attn_logit_softcapping=1.5,
                      initializer_range=0.5)
AutoModelForCausalLM.from_config(config).save_pretrained(directory)
ids = torch.arange(60).view(2, 30)


def loss(cap, **options):
    config.attn_logit_softcapping = cap
    model = AutoModelForCausalLM.from_pretrained(directory, config=config, **options).eval()
    with torch.no_grad():
        return model.config._attn_implementation, model(input_ids=ids, labels=ids).loss.item()


for name, options in (("by default", {}), ("", {"attn_implementation": "eager"})):
    used, capped = loss(1.5, **options)
    _, plain = loss(None, **options)
    is_skipped = abs(capped - plain) < 1e-6
    print(f"transformers {transformers.__version__}, {used} {name}: cap 1.5 "
          f"{'equals' if is_skipped else 'differs from'} no cap")
    assert is_skipped == (used == "sdpa"), "the cap is treated otherwise now"
    assert name == "" or used == expected_default, "another default"
PYTHON
for version in 4.57.6:sdpa 5.23.0:eager; do
  python3 -m venv "$temporary/${version%:*}"
  "$temporary/${version%:*}/bin/pip" install --quiet "transformers==${version%:*}" torch==2.15.0
  HF_HUB_OFFLINE=1 "$temporary/${version%:*}/bin/python" "$temporary/show.py" "$temporary/model-${version%:*}" \
    "${version#*:}"
done
