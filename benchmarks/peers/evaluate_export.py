"""Mean negative log-likelihood of an exported checkpoint, as transformers computes it in float32.

evaluate_export.py MODEL_DIRECTORY ROWS.jsonl      with rows {"input_ids": [...], "labels": [...]}

Labels are those of the tokens themselves (not shifted yet); -100 is left out. Prints one number.
"""

import json
import sys

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    total, count = 0.0, 0
    with open(sys.argv[2], encoding="utf-8") as file, torch.no_grad():
        for line in file:
            if not line.strip():
                continue
            row = json.loads(line)
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            labels = torch.tensor(row["labels"])[1:]
            # Each token's loss is a float32, as in training; only their sum is wider.
            losses = F.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="none")
            total += losses.double().sum().item()
            count += int((labels != -100).sum())
    if count == 0:
        raise SystemExit(f"{sys.argv[2]}: no label is trained")
    print(f"{total / count:.9f}")


if __name__ == "__main__":
    main()
