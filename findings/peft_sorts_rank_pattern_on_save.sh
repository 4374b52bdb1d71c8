#!/usr/bin/env bash
# PEFT 0.21.2: an adapter whose rank_pattern has an exception before a rule does not load after it
# was saved.
# The first key of rank_pattern that matches a module decides its rank, so order has a meaning.
# save_pretrained writes adapter_config.json with sorted keys: the rule can move before the
# exception, the module then gets another rank, and the tensors no longer fit. alpha_pattern is
# sorted as well, where nothing fails and only the scale changes.
# Seen:
#     trained: {'z.proj': 2, 'a.proj': 8}
#     rank_pattern in the file: {'.*proj': 8, 'z.proj': 2}
#     loading it: size mismatch for base_model.model.z.proj.lora_A.default.weight: copying a param with shape torch.Size([2, 16]) ...
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch==2.15.0 transformers==5.23.0 peft==0.21.2
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore - <<'PYTHON'
import tempfile
import torch
from peft import LoraConfig, PeftModel, get_peft_model

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.z = torch.nn.ModuleDict({"proj": torch.nn.Linear(16, 16)})
        self.a = torch.nn.ModuleDict({"proj": torch.nn.Linear(16, 16)})
    def forward(self, x):
        return self.a["proj"](self.z["proj"](x))

def ranks(model):
    return {name[: -len(".lora_A.default.weight")].split("model.")[-1]: p.shape[0]
            for name, p in model.named_parameters() if name.endswith("lora_A.default.weight")}

# the exception for one layer first, the rule for the others after it: PEFT takes the first key that matches
config = LoraConfig(r=4, target_modules=["proj"], rank_pattern={"z.proj": 2, ".*proj": 8})
trained = get_peft_model(Net(), config)
print("trained:", ranks(trained))
assert ranks(trained) == {"z.proj": 2, "a.proj": 8}
with tempfile.TemporaryDirectory() as directory:
    trained.save_pretrained(directory)
    saved = LoraConfig.from_pretrained(directory).rank_pattern
    print("rank_pattern in the file:", saved)
    assert list(saved) == [".*proj", "z.proj"], "the file keeps the order now"
    try:
        PeftModel.from_pretrained(Net(), directory)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        print("loading it:", lines[0][:150])
        assert lines and "z.proj" in lines[0]
    else:
        raise AssertionError("the adapter that was just saved loads now")
PYTHON
