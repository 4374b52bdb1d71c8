#!/usr/bin/env bash
# TRL's GRPOTrainer hands every column of the data but the prompt to the reward functions, except one that is called
# "completion": it is dropped without a word. So a table of prompt and completion, the shape that SFT reads, has its gold
# answers in a column that no reward sees; the same answers under any other name arrive.
# Seen (trl 1.16.0, transformers 5.23.0):
#     columns of the data: answer, completion, prompt
#     columns that the reward function gets: answer
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import sys

import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = {word: i for i, word in enumerate(["<pad>", "<eos>"] + [chr(97 + i) for i in range(26)])}
raw = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
config = LlamaConfig(vocab_size=28, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                     max_position_embeddings=64, eos_token_id=1, pad_token_id=0)
row = {"prompt": "abc", "completion": "gold", "answer": "gold"}
got = set()


def reward(prompts, completions, **columns):
    got.update(name for name in row if name in columns)
    return [0.0] * len(completions)


arguments = trl.GRPOConfig(sys.argv[1], per_device_train_batch_size=4, num_generations=4, max_completion_length=4,
                           max_steps=1, report_to="none", use_cpu=True, save_strategy="no")
trl.GRPOTrainer(LlamaForCausalLM(config), reward, args=arguments, processing_class=tokenizer,
                train_dataset=Dataset.from_list([row] * 8)).train()
print("columns of the data:", ", ".join(sorted(row)))
print("columns that the reward function gets:", ", ".join(sorted(got)), flush=True)
assert got == {"answer"}, "the columns are treated otherwise now"
PYTHON
python3 -m venv "$temporary/env"
"$temporary/env/bin/pip" install --quiet trl==1.16.0 transformers==5.23.0 torch==2.15.0
HF_HUB_OFFLINE=1 "$temporary/env/bin/python" "$temporary/show.py" "$temporary/run" 2>"$temporary/log" | grep '^columns' ||
  { tail -n 3 "$temporary/log" >&2; exit 1; }
