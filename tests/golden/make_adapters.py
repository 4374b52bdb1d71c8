"""Losses of adapters of embedding and head in PEFT, as adapters.json beside this.

    benchmarks/peers/setup.sh && /tmp/peers/bin/python tests/golden/make_adapters.py

The values of a tensor are sines, which the test makes as well; only their shapes and seeds are in the record.
"""

import json
import pathlib
import tempfile

import make  # sets the environment
import peft
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
BASE = "stories260K"  # embedding and head are tied, 512 tokens of 64
TEXTS = [[1, 403, 407, 261, 378, 432, 265], [1, 426, 261, 428, 267, 419, 2, 268, 266], [1, 269, 286, 265, 428, 426]]
BLOCKS = [f"base_model.model.model.layers.{layer}.self_attn" for layer in range(5)]
EMBEDDING, HEAD = "base_model.model.model.embed_tokens", "base_model.model.lm_head"


def blocks(rank: int = 2) -> dict:
    """A and B of all query matrices."""
    tensors = {}
    for layer, name in enumerate(BLOCKS):
        tensors[f"{name}.q_proj.lora_A.weight"] = ([rank, 64], 2 * layer)
        tensors[f"{name}.q_proj.lora_B.weight"] = ([64, rank], 2 * layer + 1)
    return tensors


ROWS = "token_adapter.trainable_tokens_delta"
WHOLE = {f"{EMBEDDING}.weight": ([512, 64], 20)}
HEAD_WHOLE = {f"{HEAD}.weight": ([512, 64], 21)}
RESIZED = {f"{EMBEDDING}.weight": ([520, 64], 22), f"{HEAD}.weight": ([520, 64], 22)}
EMBEDDING_LORA = {f"{EMBEDDING}.lora_embedding_A": ([2, 512], 30), f"{EMBEDDING}.lora_embedding_B": ([64, 2], 31)}
HEAD_LORA = {f"{HEAD}.lora_A.weight": ([3, 64], 32), f"{HEAD}.lora_B.weight": ([512, 3], 33)}
NORM = {"base_model.model.model.layers.1.input_layernorm.weight": ([64], 40)}

# name: options of LoraConfig, tensors beside those of the blocks
ADAPTERS = {
    "whole": ({"modules_to_save": ["embed_tokens", "lm_head"]}, WHOLE | HEAD_WHOLE),
    "whole_embedding": ({"modules_to_save": ["embed_tokens"]}, WHOLE),
    "whole_head": ({"modules_to_save": ["lm_head"]}, HEAD_WHOLE),
    "whole_tied": (
        {"modules_to_save": ["lm_head"], "ensure_weight_tying": True},
        WHOLE | {f"{HEAD}.weight": ([512, 64], 20)},
    ),
    "flag_alone": ({"ensure_weight_tying": True}, {}),
    "rows": ({"trainable_token_indices": [428, 261]}, {f"{EMBEDDING}.{ROWS}": ([2, 64], 50)}),
    "rows_of_head": ({"trainable_token_indices": {"lm_head": [428, 261]}}, {f"{HEAD}.{ROWS}": ([2, 64], 50)}),
    "rows_of_both": (
        {"trainable_token_indices": {"embed_tokens": [428, 261], "lm_head": [261, 419, 2]}},
        {f"{EMBEDDING}.{ROWS}": ([2, 64], 50), f"{HEAD}.{ROWS}": ([3, 64], 51)},
    ),
    "lora_of_embedding": ({"target_modules": ["q_proj", "embed_tokens"]}, EMBEDDING_LORA),
    "lora_of_head": (
        {"target_modules": ["q_proj", "lm_head"], "rank_pattern": {"lm_head": 3}, "alpha_pattern": {"lm_head": 5}},
        HEAD_LORA,
    ),
    "dora_of_head": (
        {"target_modules": ["q_proj", "lm_head"], "rank_pattern": {"lm_head": 3}, "use_dora": True},
        HEAD_LORA
        | {f"{HEAD}.lora_magnitude_vector": ([512], 34)}
        | {f"{name}.q_proj.lora_magnitude_vector": ([64], 35 + i) for i, name in enumerate(BLOCKS)},
    ),
    "lora_and_whole": (
        {"target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["lm_head"], "use_rslora": True},
        EMBEDDING_LORA | HEAD_WHOLE,
    ),
    "resized": ({}, RESIZED),
    "resized_rows": (
        {"trainable_token_indices": [515, 428]},
        {
            f"{EMBEDDING}.token_adapter.base_layer.weight": ([520, 64], 22),
            f"{HEAD}.token_adapter.base_layer.weight": ([520, 64], 22),
            f"{EMBEDDING}.{ROWS}": ([2, 64], 50),
            f"{HEAD}.{ROWS}": ([2, 64], 50),
        },
    ),
    "whole_norm": ({"modules_to_save": ["layers.1.input_layernorm"]}, NORM),
    "foreign_names": ({"target_modules": ["q_proj", "w1", "c_attn"]}, {}),
    "rank_above_the_side": ({"r": 80}, {}),
}


def values(shape: list[int], seed: int) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return (0.3 * torch.sin(0.7 * torch.arange(1, count + 1, dtype=torch.float64) + seed)).float().reshape(shape)


def loss_of(config: dict, tensors: dict) -> float:
    base = AutoModelForCausalLM.from_pretrained(make.REFERENCE / "models" / BASE, dtype=torch.float32)
    sizes = {shape[0] for name, (shape, _) in tensors.items() if shape[-1] == 64 and len(shape) == 2 and shape[0] > 512}
    if sizes:
        base.resize_token_embeddings(sizes.pop(), mean_resizing=False)
    with tempfile.TemporaryDirectory() as directory:
        save_file({name: values(*entry) for name, entry in tensors.items()}, f"{directory}/adapter_model.safetensors")
        pathlib.Path(directory, "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        model = peft.PeftModel.from_pretrained(base, directory).eval()
    losses = []
    with torch.no_grad():
        for text in TEXTS:
            ids = torch.tensor([text])
            log_probs = torch.log_softmax(model(input_ids=ids).logits[0, :-1].double(), -1)
            losses.append(-log_probs.gather(1, ids[0, 1:, None]))
    return torch.cat(losses).mean().item()


def main() -> None:
    torch.set_num_threads(1)
    adapters = {}
    for name, (options, more) in ADAPTERS.items():
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
        config |= options
        tensors = blocks(config["r"]) | more
        adapters[name] = {"config": config, "tensors": tensors, "loss": loss_of(config, tensors)}
        print(name, adapters[name]["loss"], flush=True)
    versions = {**make.VERSIONS, "peft": peft.__version__}
    record = {"versions": versions, "base": BASE, "texts": TEXTS, "adapters": adapters}
    path = HERE / "adapters.json"
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
