#!/usr/bin/env bash
# A model with LongRoPE (Phi-3, Phi-4-mini) has two tables of factors. transformers takes the long ones where the text is
# longer than the original context. llama.cpp takes them where the context that it was started with is, so one GGUF file
# gives one short text other probabilities with another -c, and those of transformers only with a small one.
# Seen (xllamacpp 2026.10.11549):
#     original context 512, a text of 20 tokens: context 512 and 1024 give other probabilities
#     the same without factors: context 512 and 1024 give the same
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/make.py" <<'PYTHON'
import sys

import gguf
import numpy

path, has_factors = sys.argv[1], sys.argv[2] == "factors"
size, hidden, heads, inner = 300, 32, 2, 64
tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["\u2581", "<|endoftext|>"]
types = [2, 3, 3] + [6] * 256 + [1, 3]
while len(tokens) < size:
    tokens.append(f"word{len(tokens)}")
    types.append(1)
writer = gguf.GGUFWriter(path, "phi3")
writer.add_name("small")
writer.add_context_length(2048)
writer.add_embedding_length(hidden)
writer.add_block_count(1)
writer.add_feed_forward_length(inner)
writer.add_head_count(heads)
writer.add_head_count_kv(heads)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(hidden // heads)
if has_factors:
    writer.add_rope_scaling_orig_ctx_len(512)
writer.add_tokenizer_model("llama")
writer.add_token_list(tokens)
writer.add_token_scores([0.0] * size)
writer.add_token_types(types)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
random = numpy.random.default_rng(0)
shapes = {"token_embd": (size, hidden), "output": (size, hidden), "output_norm": (hidden,), "blk.0.attn_norm": (hidden,),
          "blk.0.ffn_norm": (hidden,), "blk.0.attn_qkv": (3 * hidden, hidden), "blk.0.attn_output": (hidden, hidden),
          "blk.0.ffn_up": (2 * inner, hidden), "blk.0.ffn_down": (hidden, inner)}
for tensor, shape in shapes.items():
    values = numpy.ones(shape) if "norm" in tensor else random.standard_normal(shape) / 4
    writer.add_tensor(f"{tensor}.weight", values.astype(numpy.float32))
if has_factors:
    writer.add_tensor("rope_factors_long.weight", numpy.linspace(1, 8, 8, dtype=numpy.float32))
    writer.add_tensor("rope_factors_short.weight", numpy.ones(8, dtype=numpy.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
PYTHON
cat >"$temporary/probabilities.py" <<'PYTHON'
import os
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = int(sys.argv[2])
params.n_parallel = 1
params.verbosity = -1
server = xllamacpp.Server(params)
answer = server.handle_completions({"prompt": list(range(262, 282)), "n_predict": 1, "n_probs": 5,
                                    "temperature": -1, "logit_bias": [[270, 1000.0]]})  # a word with all of its letters
chosen = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
print([f"{token['id']}: {token['logprob']:.3f}" for token in chosen], flush=True)
os._exit(0)  # the server's threads are waiting for more
PYTHON
python3 -m venv "$temporary/env"
"$temporary/env/bin/pip" install --quiet xllamacpp==2026.10.11549 gguf==0.19.0
compare() {  # factors|none
  "$temporary/env/bin/python" "$temporary/make.py" "$temporary/model.gguf" "$1"
  for context in 512 1024; do
    "$temporary/env/bin/python" "$temporary/probabilities.py" "$temporary/model.gguf" "$context" 2>"$temporary/log" \
      >"$temporary/$context" || { cat "$temporary/log" >&2; exit 1; }
    echo "$1, context $context: $(<"$temporary/$context")"
  done
  cmp -s "$temporary/512" "$temporary/1024" && echo same >"$temporary/result" || echo other >"$temporary/result"
}
compare factors
[[ $(<"$temporary/result") == other ]] || { echo "changed: the context no longer selects the factors" >&2; exit 1; }
compare none
[[ $(<"$temporary/result") == same ]] || { echo "changed: the context matters without factors" >&2; exit 1; }
