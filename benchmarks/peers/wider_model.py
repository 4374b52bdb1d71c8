"""Makes a model of about 15 M parameters with random weights and the settings of a small directory of its family.

wider_model.py SMALL_DIR OUTPUT_DIR

Layers and kinds of layers stay; windows and original lengths are at least 4096, so that attention is that of Llama.
OUTPUT_DIR/flop_per_token has the useful floating-point operations of a trained token in rows of 256: six for each weight of
a matrix that the token meets (its experts, not all) and those of causal attention.
"""

import json
import pathlib
import shutil
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

source, output = map(pathlib.Path, sys.argv[1:3])
config = json.loads((source / "config.json").read_text())
config.update(hidden_size=512, intermediate_size=1408, num_attention_heads=8, num_key_value_heads=4, head_dim=64,
              vocab_size=8192, max_position_embeddings=4096)
if "moe_intermediate_size" in config:
    config["moe_intermediate_size"] = 704
if "shared_expert_intermediate_size" in config:
    config["shared_expert_intermediate_size"] = 1408
if config.get("sliding_window"):
    config["sliding_window"] = 4096
if "query_pre_attn_scalar" in config:
    config["query_pre_attn_scalar"] = 64
for rope in (config.get("rope_parameters"), config.get("rope_scaling")):
    for name in ("short_factor", "long_factor"):
        if rope and name in rope:
            rope[name] = [1.0] * int(32 * rope.get("partial_rotary_factor", 1.0))
    if rope and "original_max_position_embeddings" in rope:
        rope["original_max_position_embeddings"] = 4096
shutil.rmtree(output, ignore_errors=True)
shutil.copytree(source, output, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
(output / "config.json").write_text(json.dumps(config))
read = AutoConfig.from_pretrained(output)
model = AutoModelForCausalLM.from_config(read, dtype=torch.float32)
model.save_pretrained(output)

flop = 0
num_experts = getattr(read, "num_local_experts", None) or getattr(read, "num_experts", None)
for name, weight in model.named_parameters():
    if weight.dim() < 2 or "embed_tokens" in name or name.endswith("bias"):
        continue
    share = read.num_experts_per_tok / num_experts if ".experts." in name else 1
    flop += 6 * weight.numel() * share
if read.tie_word_embeddings:
    flop += 6 * model.get_input_embeddings().weight.numel()
flop += 6 * 256 * 512 * read.num_hidden_layers
(output / "flop_per_token").write_text(str(flop))
print(output.name, f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {flop / 1e6:.0f} MFLOP a token",
      file=sys.stderr)
