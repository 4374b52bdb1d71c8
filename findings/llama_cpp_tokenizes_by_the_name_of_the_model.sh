#!/usr/bin/env bash
# llama.cpp decides by general.name of a GGUF file how its control tokens are read: a name that contains "phi3" or "phi-3"
# makes them drop the white space that follows, whatever the architecture. So two files of a Llama that differ in nothing
# but the name have other tokens for one text, and a vocabulary that lacks one of Phi-3's tokens is refused under that
# name, with an error about a map.
# Seen (xllamacpp 2026.10.11549):
#     general.name my-model: "</s>  a" is 3 tokens
#     general.name my-phi3-tuned: "</s>  a" is 2 tokens
#     general.name my-phi3-tuned, no <|endoftext|> in the vocabulary: does not load
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/make.py" <<'PYTHON'
import sys

import gguf
import numpy

path, name, last = sys.argv[1:]
size, hidden, heads, inner = 300, 32, 2, 64
tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
tokens += ["\u2581", "a", "\u2581a", last]
types = [2, 3, 3] + [6] * 256 + [1, 1, 1, 3]
scores = [0.0] * 259 + [-1.0, -2.0, -3.0, 0.0]
while len(tokens) < size:
    tokens.append(f"<unused{len(tokens)}>")
    types.append(5)
    scores.append(0.0)
writer = gguf.GGUFWriter(path, "llama")
writer.add_name(name)
writer.add_context_length(64)
writer.add_embedding_length(hidden)
writer.add_block_count(1)
writer.add_feed_forward_length(inner)
writer.add_head_count(heads)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(hidden // heads)
writer.add_tokenizer_model("llama")
writer.add_token_list(tokens)
writer.add_token_scores(scores)
writer.add_token_types(types)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_add_bos_token(False)
writer.add_add_space_prefix(False)
random = numpy.random.default_rng(0)
shapes = {"token_embd": (size, hidden), "output": (size, hidden), "output_norm": (hidden,), "blk.0.attn_norm": (hidden,),
          "blk.0.ffn_norm": (hidden,), "blk.0.ffn_gate": (inner, hidden), "blk.0.ffn_up": (inner, hidden),
          "blk.0.ffn_down": (hidden, inner)}
shapes |= {f"blk.0.attn_{x}": (hidden, hidden) for x in ("q", "k", "v", "output")}
for tensor, shape in shapes.items():
    writer.add_tensor(f"{tensor}.weight", random.standard_normal(shape).astype(numpy.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
PYTHON
cat >"$temporary/count.py" <<'PYTHON'
import os
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 64
params.n_parallel = 1
params.verbosity = -1
try:
    server = xllamacpp.Server(params)
except RuntimeError:
    print("does not load", flush=True)
    os._exit(0)
answer = server.handle_completions({"prompt": "</s>  a", "n_predict": 1})
print(f'"</s>  a" is {answer["usage"]["prompt_tokens"]} tokens', flush=True)
os._exit(0)  # the server's threads are waiting for more
PYTHON
python3 -m venv "$temporary/env"
"$temporary/env/bin/pip" install --quiet xllamacpp==2026.10.11549 gguf==0.19.0
show() {  # NAME LAST_TOKEN
  "$temporary/env/bin/python" "$temporary/make.py" "$temporary/model.gguf" "$1" "$2"
  "$temporary/env/bin/python" "$temporary/count.py" "$temporary/model.gguf" 2>"$temporary/log" || cat "$temporary/log"
}
expect() {  # WHAT GOT EXPECTED
  echo "$1: $2"
  [[ $2 == "$3" ]] || { echo "changed: expected $3" >&2; exit 1; }
}
expect "general.name my-model" "$(show my-model '<|endoftext|>')" '"</s>  a" is 3 tokens'
expect "general.name my-phi3-tuned" "$(show my-phi3-tuned '<|endoftext|>')" '"</s>  a" is 2 tokens'
expect "general.name my-phi3-tuned, no <|endoftext|> in the vocabulary" "$(show my-phi3-tuned '<|other|>')" "does not load"
