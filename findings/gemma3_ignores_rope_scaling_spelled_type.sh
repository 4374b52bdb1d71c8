#!/usr/bin/env bash
# transformers 5.23.0 ignores, without a word, the RoPE scaling of a Gemma 3 or OLMo 3 whose config.json has the older
# spelling, rope_scaling {"type": ...}: these two classes put rope_type "default" into the numbers of full attention first
# and the file's keys over it, and rope_type wins over type. All other classes read both spellings alike, so that the same
# config.json is scaled as Qwen2 and not as Gemma 3. The factor stays in the config, where nothing uses it.
# Seen:
#     Qwen2Config: type -> linear, rope_type -> linear; the longest wave becomes 8.0 and 8.0 times as long
#     Gemma3TextConfig: type -> default, rope_type -> linear; the longest wave becomes 1.0 and 8.0 times as long
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
from transformers import AutoModelForCausalLM, Gemma3TextConfig, Qwen2Config

SIZES = dict(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=256)


def full_attention(config):
    return config.rope_parameters.get("full_attention", config.rope_parameters)


def longest_wave(config):
    rotary = AutoModelForCausalLM.from_config(config).model.rotary_emb
    frequencies = getattr(rotary, "full_attention_inv_freq", None)
    return 1 / (rotary.inv_freq if frequencies is None else frequencies).min().item()


for config_class in (Qwen2Config, Gemma3TextConfig):
    plain = longest_wave(config_class(**SIZES))
    kinds, ratios = [], []
    for key in ("type", "rope_type"):
        config = config_class(**SIZES, rope_scaling={key: "linear", "factor": 8.0})
        kinds.append(full_attention(config)["rope_type"])
        ratios.append(longest_wave(config) / plain)
    print(f"{config_class.__name__}: type -> {kinds[0]}, rope_type -> {kinds[1]}; the longest wave becomes "
          f"{ratios[0]:.1f} and {ratios[1]:.1f} times as long")
    is_ignored = config_class is Gemma3TextConfig
    assert kinds == (["default", "linear"] if is_ignored else ["linear", "linear"]), "type is read now"
    assert abs(ratios[0] - (1 if is_ignored else 8)) < 0.1 and abs(ratios[1] - 8) < 0.1, "type is read now"
PYTHON
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet transformers==5.23.0 torch==2.15.0
HF_HUB_OFFLINE=1 "$venv/bin/python" "$temporary/show.py" 2>"$temporary/log" || { cat "$temporary/log" && exit 1; }
