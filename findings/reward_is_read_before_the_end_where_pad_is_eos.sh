#!/usr/bin/env bash
# transformers 5.23.0: where pad_token_id is eos_token_id, a sequence classifier reads its score
# before the EOS.
# *ForSequenceClassification takes the last token that is not pad_token_id and does not look at the
# attention mask. With one token for both, the EOS that ends a text is taken for padding: a text has
# the same reward with and without its end, and the hidden state that saw the end is never used.
# Seen:
#     pad of its own: [0.187029, -0.042591]  pad is eos: [0.187029, 0.187029]
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch==2.15.0 transformers==5.23.0
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

EOS = 2
torch.manual_seed(0)
def scores(pad_token_id, *texts):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                         num_key_value_heads=2, eos_token_id=EOS, pad_token_id=pad_token_id, num_labels=1)
    model = LlamaForSequenceClassification(config).eval()
    with torch.no_grad():
        return [round(model(input_ids=torch.tensor([ids])).logits.item(), 6) for ids in texts]

text = [1, 7, 9, 4]
apart = scores(3, text, text + [EOS])
shared = scores(EOS, text, text + [EOS])
print("pad of its own:", apart, " pad is eos:", shared)
assert apart[0] != apart[1], "with a pad of its own the score is read at the eos"
assert shared[0] == shared[1], "the eos of a text counts now although it is the pad token"
PYTHON
