#!/usr/bin/env bash
# PEFT 0.21.2 with transformers 5.23.0: target_modules q_proj, k_proj, v_proj, o_proj adapt o_proj
# alone on Phi-3.
# Phi-3 holds q, k and v in one module, qkv_proj. PEFT accepts a list of which one name matches, so
# the list that adapts all of attention in Llama, Mistral and Qwen trains a quarter of it here,
# without an error or a warning.
# Seen:
#     adapted: ['o_proj']
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch==2.15.0 transformers==5.23.0 peft==0.21.2
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore - <<'PYTHON'
import warnings
from peft import LoraConfig, get_peft_model
from transformers import Phi3Config, Phi3ForCausalLM

config = Phi3Config(vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = get_peft_model(Phi3ForCausalLM(config), LoraConfig(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
adapted = sorted({name.split(".lora_A")[0].split(".")[-1] for name, _ in model.named_parameters() if "lora_A" in name})
print("adapted:", adapted)
assert adapted == ["o_proj"] and not [w for w in caught if "proj" in str(w.message)], "PEFT now adapts more, or warns"
PYTHON
