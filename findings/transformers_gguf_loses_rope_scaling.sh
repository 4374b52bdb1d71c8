#!/usr/bin/env bash
# transformers 5.23.0 loads a GGUF file without its RoPE scaling: GGUF names it in <architecture>.rope.scaling.type and
# .factor, which only the gpt-oss reader looks at. A Llama, Qwen2 or Mistral with linear or YaRN scaling loads without a
# warning as a model with plain RoPE, and has other losses. Without scaling the loss is the same to the bit.
# Seen:
#     RoPE unscaled: loss 5.1782, from its GGUF 5.1782, read as default
#     RoPE linear: loss 5.2666, from its GGUF 5.1782, read as default
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import pathlib
import sys

import gguf
import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen2Config

directory = pathlib.Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
transformers.logging.set_verbosity_warning()
NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
       "lm_head.weight": "output.weight"}


def write(model, path, scaling):
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if scaling:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    for name, tensor in model.state_dict().items():
        if name not in TOP:
            _, _, layer, rest = name.split(".", 3)
            module, kind = rest.rsplit(".", 1)
            TOP[name] = f"blk.{layer}.{NAMES[module]}.{kind}"
        writer.add_tensor(TOP[name], tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


ids = torch.arange(60).view(2, 30) % 64
for scaling in (None, {"rope_type": "linear", "factor": 4.0}):
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=False,
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0, **(scaling or {})},
                         initializer_range=0.2)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    path = directory / f"model-{bool(scaling)}.gguf"
    write(model, path, scaling)
    read = AutoModelForCausalLM.from_pretrained(directory, gguf_file=path.name, dtype=torch.float32).eval()
    with torch.no_grad():
        before, after = (m(input_ids=ids, labels=ids).loss.item() for m in (model, read))
    print(f"RoPE {scaling['rope_type'] if scaling else 'unscaled'}: loss {before:.4f}, from its GGUF {after:.4f}, "
          f"read as {read.config.rope_parameters['rope_type']}")
    assert (abs(before - after) < 1e-4) == (scaling is None), "the scaling is read now"
PYTHON
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet transformers==5.23.0 torch==2.15.0 gguf==0.19.0 accelerate==1.15.0
HF_HUB_OFFLINE=1 "$venv/bin/python" "$temporary/show.py" "$temporary/model" 2>"$temporary/log" ||
  { cat "$temporary/log" && exit 1; }
