"""Adapters between plumb and PEFT, by hand, in both directions.

peft_round_trip.py write MODEL ADAPTER [--rank 8 --targets q_proj ... --dora --rslora --modules_to_save lm_head ...]
    PEFT writes an adapter whose B is not zero, for plumb to read.
peft_round_trip.py read MODEL ADAPTER ROWS.jsonl [--plumb build/plumb] [--quantize nf4] [--merged DIRECTORY]
    PEFT loads an adapter, plumb's or its own: every tensor must arrive with the bits of the file, and none be missing or
    left over. Prints the mean loss of the rows by PEFT in float32 and, with --plumb, by `plumb evaluate --adapter`;
    fails where the two differ by more than 1e-5 (NF4: 1e-4). --merged: what `plumb merge` wrote must give that loss too.

Rows are {"prompt", "completion"}, of which the completion counts, or {"text"}.
"""

import argparse
import json
import os
import pathlib
import subprocess

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import peft  # noqa: E402: the environment comes first
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig  # noqa: E402


def base_model(directory: str, quantize: str = "none"):
    settings = {"dtype": torch.float32}
    if quantize == "nf4":
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    return AutoModelForCausalLM.from_pretrained(directory, **settings)


def write(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules="all-linear" if options.targets == ["all-linear"] else options.targets,
        modules_to_save=options.modules_to_save or None,
        use_dora=options.dora,
        use_rslora=options.rslora,
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(base_model(options.model), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.05 * torch.randn_like(parameter))
            elif "magnitude" in name or (parameter.requires_grad and "modules_to_save" in name):
                parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
    model.save_pretrained(options.adapter)
    print(json.dumps({"adapter": options.adapter, "num_trained": model.get_nb_trainable_parameters()[0]}))


def without_dropout(model):
    """Not eval(): there bitsandbytes repacks NF4 weights for the CPU, and rounds their scales to bfloat16."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


def check_tensors(model, directory: str) -> int:
    """How many tensors PEFT holds, all with the bits of the file."""
    stored = load_file(pathlib.Path(directory) / "adapter_model.safetensors")
    held = peft.get_peft_model_state_dict(model)
    if stored.keys() != held.keys():
        raise SystemExit(f"{directory}: tensors of the file alone {sorted(stored.keys() - held.keys())},"
                         f" of the model alone {sorted(held.keys() - stored.keys())}")
    for name, tensor in stored.items():
        if tensor.shape != held[name].shape or not torch.equal(tensor.to(held[name].dtype), held[name]):
            raise SystemExit(f"{directory}: {name} is not what the file holds")
    return len(stored)


def ids_and_labels(row: dict, tokenizer) -> tuple[list[int], list[int]]:
    if "text" in row:
        ids = tokenizer(row["text"] + tokenizer.eos_token)["input_ids"]
        return ids, list(ids)
    prompt = tokenizer(row["prompt"])["input_ids"]
    ids = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token)["input_ids"]
    return ids, [-100] * len(prompt) + ids[len(prompt) :]


def loss_of(model, tokenizer, path: str, max_length: int) -> dict:
    """The mean over all rows' targets, one row at a time."""
    total, count = 0.0, 0
    with open(path, encoding="utf-8") as file, torch.no_grad():
        for line in (line for line in file if line.strip()):
            ids, labels = (values[:max_length] for values in ids_and_labels(json.loads(line), tokenizer))
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
            targets = torch.tensor(labels[1:])
            total += F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum").item()
            count += int((targets != -100).sum())
    return {"loss": total / count, "num_targets": count}


def plumb_loss(options: argparse.Namespace, *arguments: str) -> float:
    command = [options.plumb, "evaluate", "--data", options.rows, "--max_length", str(options.max_length), *arguments]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout)["loss"]


def expect_near(what: str, got: float, expected: float, tolerance: float) -> None:
    difference = abs(got / expected - 1)
    print(json.dumps({"by": what, "loss": got, "relative_difference": difference}))
    if not difference <= tolerance:
        raise SystemExit(f"{what}: loss {got}, expected {expected} within {tolerance}")


def read(options: argparse.Namespace) -> None:
    model = peft.PeftModel.from_pretrained(base_model(options.model, options.quantize), options.adapter)
    model = without_dropout(model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    num_tensors = check_tensors(model, options.adapter)
    by_peft = loss_of(model, tokenizer, options.rows, options.max_length)
    with model.disable_adapter():
        of_base = loss_of(model, tokenizer, options.rows, options.max_length)
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    print(json.dumps({"by": "peft", **by_peft, "loss_of_base": of_base["loss"], "num_tensors": num_tensors, **versions}))
    tolerance = 1e-5 if options.quantize == "none" else 1e-4  # bitsandbytes on a CPU does not take the nearest scale
    if options.merged:
        merged = loss_of(base_model(options.merged).eval(), tokenizer, options.rows, options.max_length)
        expect_near("transformers, merged by plumb", merged["loss"], by_peft["loss"], tolerance)
    if options.plumb:
        arguments = ["--model", options.model, "--adapter", options.adapter]
        if options.quantize != "none":
            arguments += ["--quantize", options.quantize]
        expect_near("plumb", plumb_loss(options, *arguments), by_peft["loss"], tolerance)
        if options.merged:
            expect_near("plumb, merged", plumb_loss(options, "--model", options.merged), by_peft["loss"], tolerance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    writer = commands.add_parser("write")
    writer.set_defaults(run=write)
    writer.add_argument("model")
    writer.add_argument("adapter")
    writer.add_argument("--rank", type=int, default=8)
    writer.add_argument("--alpha", type=int, default=16)
    writer.add_argument("--targets", nargs="+", default=["q_proj", "k_proj", "v_proj", "o_proj"])
    writer.add_argument("--modules_to_save", nargs="+", default=[])
    writer.add_argument("--dora", action="store_true")
    writer.add_argument("--rslora", action="store_true")
    writer.add_argument("--seed", type=int, default=0)
    reader = commands.add_parser("read")
    reader.set_defaults(run=read)
    reader.add_argument("model")
    reader.add_argument("adapter")
    reader.add_argument("rows")
    reader.add_argument("--plumb", default="", help="the program; none: PEFT alone")
    reader.add_argument("--merged", default="", help="what plumb merge made of the two")
    reader.add_argument("--quantize", choices=["none", "nf4"], default="none")
    reader.add_argument("--max_length", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(2)
    options.run(options)


if __name__ == "__main__":
    main()
