#!/usr/bin/env bash
# PEFT 0.21.2: ensure_weight_tying=True ties the adapters of a tied embedding and head ("will tie the weights"). They are
# parameters of two layers over one memory: training updates that memory twice a step, trainable parameters count it
# twice, and merge_and_unload adds the adapter twice to the one matrix, so the merged model is not the trained one.
# Seen:
#     one adapter of 2 x (64 + 32) on embedding and head; counted as trainable: 384, memory of: 192
#     logits of the merged model differ by 9.4e+00; with an adapter of q_proj by 1.7e-06
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

ids = torch.arange(1, 31).view(2, 15)


def train(targets):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=2, tie_word_embeddings=True, initializer_range=0.2)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=targets, ensure_weight_tying=len(targets) > 1)
    model = get_peft_model(AutoModelForCausalLM.from_config(config).float(), lora)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.2)
    for _ in range(10):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def difference_after_merge(model):
    with torch.no_grad():
        before = model(input_ids=ids).logits
        return (model.merge_and_unload()(input_ids=ids).logits - before).abs().max().item()


both = train(["embed_tokens", "lm_head"])
trainable = [p for p in both.parameters() if p.requires_grad]
counted = sum(p.numel() for p in trainable)
held = sum({p.data_ptr(): p.numel() for p in trainable}.values())
print(f"one adapter of 2 x (64 + 32) on embedding and head; counted as trainable: {counted}, memory of: {held}")
of_both, of_one = difference_after_merge(both), difference_after_merge(train(["q_proj"]))
print(f"logits of the merged model differ by {of_both:.1e}; with an adapter of q_proj by {of_one:.1e}")
assert counted == 384 and held == 192, "the adapter is counted once now"
assert of_both > 1e-2 and of_one < 1e-4, "the adapter is merged once now"
PYTHON
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet peft==0.21.2 transformers==5.23.0 torch==2.15.0
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore "$temporary/show.py"
