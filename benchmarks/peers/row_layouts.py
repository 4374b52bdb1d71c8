"""Compares the rows that TRL's own trainers prepare with those of `plumb inspect --ids`, for the layouts of
tests/lib/text/layouts_test.cpp: sft with and without assistant_only_loss, reward and dpo. Prints what is not equal.

usage: python row_layouts.py PLUMB TOKENIZER_DIR      a directory with a chat template; needs transformers and trl
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, Qwen2Config
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

PLUMB, TOKENIZER_DIR = sys.argv[1:3]
KINDS = ("sft", "assistant", "reward", "dpo")
work = tempfile.mkdtemp()
tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_DIR)
config = Qwen2Config(vocab_size=len(tokenizer) + 64, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                     num_attention_heads=1, num_key_value_heads=1, pad_token_id=tokenizer.pad_token_id)
AutoModelForCausalLM.from_config(config).save_pretrained(work + "/model")  # trainers read reference models from disk
tokenizer.save_pretrained(work + "/model")
language_model = AutoModelForCausalLM.from_pretrained(work + "/model")
reward_model = AutoModelForSequenceClassification.from_pretrained(work + "/model", num_labels=1)


def rows_of_trl(kind, row):
    options = dict(output_dir=work + "/out", report_to="none", max_length=1024, use_cpu=True, bf16=False)
    data = dict(train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    if kind in ("sft", "assistant"):
        trainer = SFTTrainer(language_model, SFTConfig(assistant_only_loss=kind == "assistant", **options), **data)
        batch = trainer.data_collator([trainer.train_dataset[0]])
        return [batch["input_ids"][0].tolist(), batch["labels"][0].tolist()]
    if kind == "dpo":
        pair = DPOTrainer(language_model, args=DPOConfig(**options), **data).train_dataset[0]
        prompt = pair["prompt_ids"]
        return [prompt + pair["chosen_ids"], prompt + pair["rejected_ids"], len(prompt)]
    pair = RewardTrainer(reward_model, args=RewardConfig(**options), **data).train_dataset[0]
    return [pair["chosen_ids"], pair["rejected_ids"]]


def rows_of_plumb(kind, row, columns):
    path = work + "/row.jsonl"
    with open(path, "w") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    command = [PLUMB, "inspect", "--model", TOKENIZER_DIR, "--data", path, "--ids"]
    command += ["--columns", columns] if columns else []
    command += ["--assistant_only_loss"] if kind == "assistant" else []
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr.strip().splitlines()[-1])
    ids = json.loads(result.stdout)
    if kind in ("sft", "assistant"):
        return [ids["input_ids"], ids["labels"]]
    prompt = ids["prompt_ids"]
    whole = [prompt + ids["chosen_ids"], prompt + ids["rejected_ids"]]
    return whole + [len(prompt)] if kind == "dpo" else whole


def outcome(function, *arguments):
    try:
        return "read", function(*arguments)
    except Exception as error:  # whatever a trainer raises is a refusal
        return "refused", f"{type(error).__name__}: {error}"[:160].replace("\n", " ")


def layouts():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/lib/text/layouts_test.cpp")
    with open(path) as file:
        for name, row, columns in re.findall(r'\{"([^"]+)",\s*R"\((.*?)\)",\s*"([^"]*)"', file.read(), re.S):
            yield name, json.loads(row), columns


tally = Counter()
for name, row, columns in layouts():
    for kind in KINDS:
        plumb, trl = outcome(rows_of_plumb, kind, row, columns), outcome(rows_of_trl, kind, row)
        if plumb[0] == trl[0] == "read":
            verdict = "equal" if plumb[1] == trl[1] else "differ"
        elif plumb[0] == trl[0]:
            verdict = "both refuse"
        else:
            verdict = "plumb alone reads" if plumb[0] == "read" else "TRL alone reads"
        tally[verdict] += 1
        if verdict not in ("equal", "both refuse"):
            print(f"{kind:9} {verdict:18} {name}\n    plumb: {plumb[1]}\n    TRL:   {trl[1]}")
print(dict(tally))
