#!/usr/bin/env bash
# transformers 5.23.0: the embedding row of pad_token_id gets no gradient, also where that token is
# part of the text.
# The models give pad_token_id to the embedding as padding_idx, so its row stays as it was, whatever
# the attention mask and the labels say. Where one token is both EOS (or another token of the text)
# and padding, its input embedding is never trained, and the gradient norm lacks its part.
# Seen:
#     {1: 1.5774, 3: 1.5883, 7: 0.8171, 5: 0.0}
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch==2.15.0 transformers==5.23.0
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM

PAD = 5  # also an ordinary token of the text, as where pad is eos
torch.manual_seed(0)
config = LlamaConfig(vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=2, pad_token_id=PAD)
model = LlamaForCausalLM(config)
text = torch.tensor([[1, PAD, 3, PAD, 7, 2]])
model(input_ids=text, attention_mask=torch.ones_like(text), labels=text).loss.backward()
norms = model.model.embed_tokens.weight.grad.norm(dim=1)
print({token: round(norms[token].item(), 4) for token in (1, 3, 7, PAD)})
assert all(norms[token] > 0 for token in (1, 3, 7)), "the other tokens of the text have gradients"
assert norms[PAD] == 0, "the pad row has a gradient now"
PYTHON
