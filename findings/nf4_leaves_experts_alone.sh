#!/usr/bin/env bash
# transformers 5.23.0 with bitsandbytes 0.50.2: load_in_4bit leaves the experts of a Mixtral in 16
# bits.
# Only torch.nn.Linear is quantized, and transformers 5 holds the experts of a layer as two
# parameters without Linear modules. Nearly all weights of a mixture of experts are experts, so the
# model needs about four times the memory that 4 bits suggest; nothing is raised.
# Seen:
#     self_attn.q_proj.weight Params4bit torch.uint8
#     mlp.experts.gate_up_proj Parameter torch.bfloat16
#     mlp.experts.down_proj Parameter torch.bfloat16
#     weights of experts left in bfloat16: 98304 of 98304
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch==2.15.0 transformers==5.23.0 accelerate==1.15.0 bitsandbytes==0.50.2
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore - <<'PYTHON'
import tempfile
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MixtralConfig, MixtralForCausalLM

torch.manual_seed(0)
config = MixtralConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
                       num_key_value_heads=2, num_local_experts=4)
with tempfile.TemporaryDirectory() as directory:
    MixtralForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4"))
    layer = model.model.layers[0]
    kinds = {name: (type(p).__name__, str(p.dtype)) for name, p in layer.named_parameters() if "norm" not in name}
for name, kind in kinds.items():
    print(name, *kind)
share = sum(p.numel() for n, p in layer.named_parameters() if "experts" in n and p.dtype == torch.bfloat16)
print("weights of experts left in bfloat16:", share, "of", 4 * 3 * 64 * 128)
assert kinds["self_attn.q_proj.weight"] == ("Params4bit", "torch.uint8")
assert kinds["mlp.experts.gate_up_proj"][1] == kinds["mlp.experts.down_proj"][1] == "torch.bfloat16", "experts are quantized now"
assert share == 4 * 3 * 64 * 128
PYTHON
