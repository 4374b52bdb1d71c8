#!/usr/bin/env bash
# transformers 5.23.0: with RoPE of the kinds longrope and dynamic, the loss of a text depends on
# other texts.
# longrope chooses its list of factors by the longest text of the padded batch, so a short text gets
# the long factors beside a long one. dynamic keeps the frequencies of the longest batch so far
# until a batch fits into the original length, so evaluation in eval mode depends on the order of
# batches.
# Seen:
#     longrope: 20 tokens alone 8.2597, the same beside 60 tokens 8.5498
#     dynamic: 40 tokens first 7.4975, after a batch of 60 7.6915, after one of 20 7.4975
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch==2.15.0 transformers==5.23.0
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore - <<'PYTHON'
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
torch.manual_seed(0)
long, short = torch.randint(3, 64, (1, 60)), torch.randint(3, 64, (1, 20))

@torch.no_grad()
def loss_of_first(model, *texts):
    """The mean loss of texts[0], padded on the right beside the others."""
    longest = max(text.shape[1] for text in texts)
    ids, mask = torch.zeros(len(texts), longest, dtype=torch.long), torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : text.shape[1]], mask[row, : text.shape[1]] = text[0], 1
    count = texts[0].shape[1]
    logits = model(input_ids=ids, attention_mask=mask).logits[0, : count - 1]
    return torch.nn.functional.cross_entropy(logits, texts[0][0, 1:]).item()

# longrope: which list of factors a text gets is decided by the longest text of its batch
factors = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0] * 8, long_factor=[8.0] * 8, factor=4.0,
               original_max_position_embeddings=32)
phi3 = Phi3ForCausalLM(Phi3Config(max_position_embeddings=128, original_max_position_embeddings=32, initializer_range=0.5,
                                  rope_parameters=factors, **sizes)).eval()
alone, beside = loss_of_first(phi3, short), loss_of_first(phi3, short, long)
print(f"longrope: 20 tokens alone {alone:.4f}, the same beside 60 tokens {beside:.4f}")
assert abs(alone - beside) > 1e-3, "a text no longer depends on its batch"

# dynamic: the frequencies of the longest batch so far stay until a batch fits the original length
medium = long[:, :40]
dynamic = LlamaForCausalLM(LlamaConfig(max_position_embeddings=32, initializer_range=0.5, rope_parameters=dict(
    rope_type="dynamic", rope_theta=10000.0, factor=4.0), **sizes)).eval()
first = loss_of_first(dynamic, medium)
loss_of_first(dynamic, long)
after_long = loss_of_first(dynamic, medium)
loss_of_first(dynamic, short)
after_short = loss_of_first(dynamic, medium)
print(f"dynamic: 40 tokens first {first:.4f}, after a batch of 60 {after_long:.4f}, after one of 20 {after_short:.4f}")
assert abs(first - after_long) > 1e-3 and first == after_short, "the batch before no longer matters"
PYTHON
