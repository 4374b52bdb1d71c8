#!/usr/bin/env bash
# transformers 5.23.0: a Phi-3 whose rope_parameters say original_max_position_embeddings, where version 5 documents it,
# does not get it. Phi3Config has a field of that name with the default 4096, and a field outside replaces the number
# inside, also where the file does not have it. So long texts are scaled from another length: here all positions take the
# short factors, as 300 tokens are fewer than 4096, and cosines are scaled by 1 instead of 1.118. Qwen2Config, which has
# no such field, keeps what the file says.
# Seen:
#     Qwen2Config: 256 in rope_parameters, 256 used; 300 tokens take the long factors; cosines times 1.118
#     Phi3Config: 256 in rope_parameters, 4096 used; 300 tokens take the short factors; cosines times 1.000
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import torch
from transformers import AutoModelForCausalLM, Phi3Config, Qwen2Config

ROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256,
        "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
SIZES = dict(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=1024, pad_token_id=0, bos_token_id=1, eos_token_id=2)

for config_class in (Qwen2Config, Phi3Config):
    config = config_class(**SIZES, rope_parameters=dict(ROPE))
    rotary = AutoModelForCausalLM.from_config(config).model.rotary_emb
    cosines, _ = rotary(torch.zeros(1, 300, 64), torch.arange(300)[None])
    angle = torch.acos(cosines[0, 1, 0] / rotary.attention_scaling).item()  # of the fastest pair, which turns by 1 a token
    used = config.rope_parameters["original_max_position_embeddings"]
    print(f"{config_class.__name__}: 256 in rope_parameters, {used} used; 300 tokens take the "
          f"{'long' if angle < 0.5 else 'short'} factors; cosines times {rotary.attention_scaling:.3f}")
    assert (used == 4096) == (config_class is Phi3Config) == (angle > 0.5), "the length of rope_parameters is used now"
PYTHON
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet transformers==5.23.0 torch==2.15.0
HF_HUB_OFFLINE=1 "$venv/bin/python" "$temporary/show.py" 2>"$temporary/log" || { cat "$temporary/log" && exit 1; }
