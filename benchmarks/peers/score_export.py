"""Scores of rows by an exported reward model, as transformers computes them in float32, one row at a time.

score_export.py MODEL_DIRECTORY ROWS.jsonl [--add_eos]   rows {"text": ...}, {"messages": [...]} or {"input_ids": [...]}

--add_eos ends a text that does not end in the tokenizer's EOS with it, as TRL does with the pairs it trains on. Prints
a line per row: {"row", "score", "num_tokens"}. A directory that would give fresh weights or more than one score fails.
"""

import argparse
import json

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def ids_of(row: dict, tokenizer, add_eos: bool) -> list[int]:
    if "input_ids" in row:
        return row["input_ids"]
    if "messages" in row:
        return tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=True)["input_ids"]
    text = row["text"]
    if add_eos and not text.endswith(tokenizer.eos_token):
        text += tokenizer.eos_token
    return tokenizer(text)["input_ids"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--add_eos", action="store_true")
    options = parser.parse_args()
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        options.model, dtype=torch.float32, output_loading_info=True
    )
    strange = {name: keys for name, keys in loading.items() if keys}
    if strange or model.config.num_labels != 1:
        raise SystemExit(f"{options.model}: num_labels {model.config.num_labels}, expected 1; tensors {strange}")
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    with open(options.rows, encoding="utf-8") as file, torch.no_grad():
        for index, line in enumerate(line for line in file if line.strip()):
            ids = ids_of(json.loads(line), tokenizer, options.add_eos)
            score = model(input_ids=torch.tensor([ids])).logits.item()
            print(json.dumps({"row": index, "score": score, "num_tokens": len(ids)}))


if __name__ == "__main__":
    main()
