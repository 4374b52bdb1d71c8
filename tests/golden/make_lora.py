"""Records of LoRA by TRL and PEFT, as lora.json and the adapters that training starts from, beside this.

    benchmarks/peers/setup.sh && /tmp/peers/bin/python tests/golden/make_lora.py

float32 on the CPU, rows in file order, as make.py does. adapters/NAME are written only where absent: they are the
input of tests, whatever a later torch draws.

The reference of DPO is TRL's for a PeftModel: a frozen copy of the adapter as training starts from it, not the base.
TRL takes the weights of lm_head alone (it refuses a low-rank adapter of it and fails on rows), so that runs with them
have the model's own loss ("loss": "model").
TRL rounds the trained matrices to bfloat16 where the base is quantized; here they are set back to float32.

How far float32 carries (all weights moved by 2e-7 of themselves): losses and metrics 6e-6, gradient norms 1.1e-5.
bitsandbytes rounds 0.2 % of the 8-bit scales on a CPU to a neighbor of the nearest: with the nearest, the NF4 runs
change by 5e-6 (first loss), 1.3e-5 (later losses), 3e-5 (entropy), 1.7e-4 (gradient norm).
Its dequantization on a CPU (0.50.2, AVX-512) is wrong where rows have 32 elements more than whole blocks, as down_proj
of the tiny models has (160): an error of 0.23, not 0.09. Hence no tiny model in NF4 here.
"""

import json
import math
import pathlib

import make  # sets the environment
import peft
import torch
import transformers
import trl
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

HERE = pathlib.Path(__file__).resolve().parent
ADAPTERS = HERE / "adapters"
MODELS = make.REFERENCE / "models"
BATCH, STEPS = 8, 6
PROBE, NUM_LOGITS = list(range(3, 51)), 64
DTYPE_OF_WHOLE_MODULES = torch.bfloat16  # in files; a real one has them in the dtype of the model

# name: base, task, options of LoraConfig
ADAPTER_CONFIGS = {
    "patterns": (
        "tiny-qwen2",
        "CAUSAL_LM",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": "all-linear",
            "rank_pattern": {"q_proj": 8, r"layers\.[12]\.mlp\.down_proj": 2, "model.layers.0.self_attn.v_proj": 6},
            "alpha_pattern": {"k_proj": 4, r"layers\.0\.mlp\..*_proj": 12},
            "use_rslora": True,
        },
    ),
    "dora": (
        "stories260K",
        "CAUSAL_LM",
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "use_dora": True},
    ),
    "head": (
        "tiny-llama3",
        "CAUSAL_LM",
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["lm_head"]},
    ),
    "embedding": (
        "tiny-llama3",
        "CAUSAL_LM",
        {"r": 4, "lora_alpha": 8, "target_modules": ["o_proj"], "modules_to_save": ["embed_tokens"]},
    ),
    "upper_layer": (
        "stories260K",
        "CAUSAL_LM",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "layers_to_transform": [4],
        },
    ),
    "fresh": ("stories260K", "CAUSAL_LM", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    "trained": ("stories260K", "CAUSAL_LM", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    "outer_low_rank": (
        "tiny-llama3",
        "CAUSAL_LM",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "embed_tokens", "lm_head"],
            "rank_pattern": {"lm_head": 6},
        },
    ),
    "tied_rows": (
        "stories260K",
        "CAUSAL_LM",
        {"r": 4, "lora_alpha": 8, "target_modules": ["v_proj"], "trainable_token_indices": [419, 2, 261]},
    ),
    "tied_whole": (
        "stories260K",
        "CAUSAL_LM",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["v_proj"],
            "modules_to_save": ["embed_tokens"],
            "ensure_weight_tying": True,
        },
    ),
    "score": (
        "stories260K-rm",
        "SEQ_CLS",
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["score"]},
    ),
}

# name: stage, adapter, options of the trainer's Config, options of ours
RUNS = {
    "sft_patterns": ("sft", "patterns", {}, {}),
    "sft_dora": ("sft", "dora", {}, {}),
    "sft_head": ("sft", "head", {}, {}),
    "sft_embedding": ("sft", "embedding", {}, {}),
    "sft_outer_low_rank": ("sft", "outer_low_rank", {"weight_decay": 0.1}, {"loss": "model"}),
    "sft_tied_rows": ("sft", "tied_rows", {}, {"loss": "model"}),
    "sft_tied_whole": ("sft", "tied_whole", {}, {}),
    "sft_upper_layer": ("sft", "upper_layer", {}, {}),
    "sft_weight_decay": ("sft", "trained", {"weight_decay": 0.1, "max_grad_norm": 0.5}, {}),
    "sft_nf4": ("sft", "trained", {}, {"quantize": "nf4"}),
    "sft_nf4_dora": ("sft", "dora", {}, {"quantize": "nf4"}),
    "dpo_fresh": ("dpo", "fresh", {"beta": 0.1}, {}),
    "dpo_trained": ("dpo", "trained", {"beta": 0.1}, {}),
    "dpo_trained_base_reference": ("dpo", "trained", {"beta": 0.1}, {"reference": "base"}),
    "dpo_dora": ("dpo", "dora", {"beta": 0.1}, {}),
    "reward_score": ("reward", "score", {}, {}),
}
LEARNING_RATES = {"sft": 1e-3, "dpo": 1e-3, "reward": 1e-3}
DATA = {"sft": "sft_alpaca.jsonl", "dpo": "pref_hh.jsonl", "reward": "pref_hh.jsonl"}
MAX_LENGTHS = {"sft": 256, "dpo": 384, "reward": 384}
NUM_ROWS = {"sft": 48, "dpo": 64, "reward": 128}  # TRL drops pairs that are too long


def base_of(name: str, task: str, quantize: str | None = None):
    settings = {"dtype": torch.float32}
    if quantize:
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantize,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    if task == "SEQ_CLS":
        return AutoModelForSequenceClassification.from_pretrained(MODELS / name, num_labels=1, **settings)
    return AutoModelForCausalLM.from_pretrained(MODELS / name, **settings)


def write_adapter(name: str) -> None:
    base, task, options = ADAPTER_CONFIGS[name]
    model = peft.get_peft_model(base_of(base, task), peft.LoraConfig(task_type=task, lora_dropout=0.0, **options))
    generator = torch.Generator().manual_seed(sum(map(ord, name)))

    def noise(parameter):
        return torch.randn(parameter.shape, generator=generator)

    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if "lora_A" in parameter_name:  # PEFT's own draw hangs on the version of torch
                uniform = 2 * torch.rand(parameter.shape, generator=generator) - 1
                parameter.copy_(uniform / math.sqrt(parameter.shape[1]))
            elif "lora_B" in parameter_name and name != "fresh":  # a fresh one has zeros
                parameter.copy_(0.05 * noise(parameter))
            elif "magnitude" in parameter_name:
                parameter.mul_(1 + 0.1 * noise(parameter))
            elif "lora_embedding_A" in parameter_name:
                parameter.copy_(0.05 * noise(parameter))
            elif "lora_embedding_B" in parameter_name:
                parameter.copy_(0.3 * noise(parameter))
            elif "modules_to_save" in parameter_name or "trainable_tokens" in parameter_name:
                parameter.add_(0.02 * noise(parameter))
    directory = ADAPTERS / name
    model.save_pretrained(directory, save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)
    file = directory / "adapter_model.safetensors"
    tensors = load_file(file)
    whole = options.get("modules_to_save", []) + (["lm_head"] if options.get("ensure_weight_tying") else [])
    for key in tensors:
        if any(f".{module}.weight" in key for module in whole):
            tensors[key] = tensors[key].to(DTYPE_OF_WHOLE_MODULES)
    save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (directory / "adapter_config.json").write_text(text, encoding="utf-8")


def adapted(name: str, quantize: str | None = None):
    base, task, _ = ADAPTER_CONFIGS[name]
    return peft.PeftModel.from_pretrained(base_of(base, task, quantize), ADAPTERS / name, is_trainable=True)


def rows_of(stage: str) -> list[dict]:
    with open(make.REFERENCE / "data" / DATA[stage], encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(NUM_ROWS[stage]))]


def trainer_for(stage: str, adapter: str, options: dict, ours: dict):
    base = ADAPTER_CONFIGS[adapter][0]
    trainer_class, config_class = {
        "sft": (trl.SFTTrainer, trl.SFTConfig),
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "reward": (trl.RewardTrainer, trl.RewardConfig),
    }[stage]
    if ours.get("reference") == "base":
        reference = base_of(base, "CAUSAL_LM")

        class WithReference(trainer_class):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, ref_model=reference, **kwargs)

        trainer_class = WithReference
    model = adapted(adapter, ours.get("quantize"))
    if ours.get("loss") == "model":

        class WithModelLoss(trainer_class):
            compute_loss = transformers.Trainer.compute_loss

        trainer_class = WithModelLoss
        trl.trainer.sft_trainer.BaseTunerLayer = type("Nothing", (), {})  # TRL refuses a head of this class
    settings = {"max_steps": STEPS, "max_length": MAX_LENGTHS[stage], **options}
    trainer = make.trainer_of(
        trainer_class,
        config_class,
        model,
        make.tokenizer_of(MODELS / base),
        rows_of(stage),
        settings,
        BATCH,
        LEARNING_RATES[stage],
    )
    if ours.get("quantize"):
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        peft.set_peft_model_state_dict(trainer.model, load_file(ADAPTERS / adapter / "adapter_model.safetensors"))
    return trainer


def norms_of(model) -> dict:
    """L2 norm of each tensor of the adapter, under the names of the file."""
    state = peft.get_peft_model_state_dict(model, adapter_name="default", save_embedding_layers=False)
    return {name: tensor.double().norm().item() for name, tensor in sorted(state.items())}


def run(name: str) -> dict:
    stage, adapter, options, ours = RUNS[name]
    trainer = trainer_for(stage, adapter, options, ours)
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    steps = make.trained(trainer)
    print(name, trained, [(round(step["loss"], 5), round(step["grad_norm"], 4)) for step in steps], flush=True)
    return {
        "stage": stage,
        "adapter": adapter,
        "model": ADAPTER_CONFIGS[adapter][0],
        "data": DATA[stage],
        "rows": NUM_ROWS[stage],
        "batch": BATCH,
        "lr": LEARNING_RATES[stage],
        "max_length": MAX_LENGTHS[stage],
        "options": options,
        **ours,
        "num_trained": trained,
        "steps": steps,
        "final_norms": norms_of(trainer.model),
    }


def rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.8g}") for value in values[:NUM_LOGITS].tolist()]


def logits_of(name: str) -> dict:
    """The first NUM_LOGITS at the last of PROBE: through the adapter, merged into the base, and the base alone."""
    model = adapted(name).eval()
    tokens = torch.tensor([PROBE])
    with torch.no_grad():
        through = model(input_ids=tokens).logits[0, -1]
        with model.disable_adapter():
            base = model(input_ids=tokens).logits[0, -1]
        merged = model.merge_and_unload()(input_ids=tokens).logits[0, -1]
    print(f"{name}: merged moves a logit by {(merged - through).abs().max().item():.1e}")
    logits = {"logits": rounded(through), "merged": rounded(merged), "base": rounded(base)}
    return {"model": ADAPTER_CONFIGS[name][0], **logits}


def main() -> None:
    torch.set_num_threads(1)
    for name in ADAPTER_CONFIGS:
        if not (ADAPTERS / name).is_dir():
            write_adapter(name)
    record = {
        "versions": {**make.VERSIONS, "peft": peft.__version__},
        "runs": {name: run(name) for name in RUNS},
        "probe": PROBE,
        "forward": {name: logits_of(name) for name in ("dora", "patterns")},
    }
    path = HERE / "lora.json"
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
