#!/usr/bin/env bash
# Installs the programs plumb is compared with (PyTorch FSDP2, DeepSpeed, TRL, PEFT, bitsandbytes) into a virtual environment of their own.
#     benchmarks/peers/setup.sh [DIRECTORY]        the default is /tmp/peers
set -euo pipefail
venv=${1:-/tmp/peers}
python=${PYTHON:-python3}

[[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet)

"${pip[@]}" "setuptools>=77.0.3,<82" wheel ninja numpy
# `import torch` loads libtorch_cuda, which names nearly all of CUDA's libraries: the full dependencies are wanted even on a CPU.
"${pip[@]}" torch==2.15.0
"${pip[@]}" transformers==5.23.0 tokenizers==0.23.3 safetensors==0.8.0 accelerate==1.15.0 datasets==5.2.0 peft==0.21.2 trl==1.16.0 \
  bitsandbytes==0.50.2
# Only a source package: it imports torch while it builds, so it has to see the one above. Its C++ ops compile on first use.
DS_ACCELERATOR=cpu DS_BUILD_OPS=0 "${pip[@]}" --no-build-isolation deepspeed==0.19.8

DS_ACCELERATOR=cpu "$venv/bin/python" - <<'PYTHON'
import importlib.metadata as metadata
for name in "torch transformers tokenizers safetensors accelerate datasets peft trl bitsandbytes deepspeed".split():
    print(f"{name}=={metadata.version(name)}")
import deepspeed, torch, trl  # noqa: F401,E401: they must at least load
PYTHON
