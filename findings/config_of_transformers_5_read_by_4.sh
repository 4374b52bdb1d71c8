#!/usr/bin/env bash
# transformers 4.57.6 reads a config.json of transformers 5.23.0 with the default RoPE, without an error or a warning.
# Version 5 writes rope_theta and the scaling of positions into one object, rope_parameters, and no longer the keys
# rope_theta and rope_scaling. Version 4 does not know the object, takes its defaults (theta 10000, no scaling), and runs a
# Llama 3 with other angles than it was trained with. A file that has both spellings is read alike by both.
# Seen:
#     transformers 5.23.0: theta 500000.0, llama3
#     transformers 4.57.6: theta 10000.0, scaling None
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
for version in 5.23.0 4.57.6; do
  python3 -m venv "$temporary/$version"
  "$temporary/$version/bin/pip" install --quiet "transformers==$version"
done
export HF_HUB_OFFLINE=1
"$temporary/5.23.0/bin/python" - "$temporary/model" <<'PYTHON'
import sys

from transformers import AutoConfig, LlamaConfig

rope = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192)
LlamaConfig(max_position_embeddings=131072, rope_parameters=rope).save_pretrained(sys.argv[1])
read = AutoConfig.from_pretrained(sys.argv[1]).rope_parameters
print(f"transformers 5.23.0: theta {read['rope_theta']}, {read['rope_type']}")
assert read["rope_theta"] == 500000.0 and read["rope_type"] == "llama3"
PYTHON
"$temporary/4.57.6/bin/python" - "$temporary/model" <<'PYTHON'
import sys

from transformers import AutoConfig

config = AutoConfig.from_pretrained(sys.argv[1])
print(f"transformers 4.57.6: theta {config.rope_theta}, scaling {config.rope_scaling}")
assert config.rope_theta == 10000.0 and config.rope_scaling is None, "version 4 reads the file of version 5 now"
PYTHON
