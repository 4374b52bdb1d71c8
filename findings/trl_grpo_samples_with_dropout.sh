#!/usr/bin/env bash
# TRL's GRPOTrainer samples completions while the model is in training mode, so LoRA's dropout is active: each completion
# comes from another random part of the adapter, which is neither the policy that is trained nor the one that is saved.
# With top_k 1, where four completions of one prompt must be equal, dropout makes them differ.
# Seen (trl 1.16.0, transformers 5.23.0, peft 0.21.2):
#     top_k 1, lora_dropout 0.0: 1 different completions of 4
#     top_k 1, lora_dropout 0.5: 4 different completions of 4
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import sys

import peft
import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = {word: i for i, word in enumerate(["<pad>", "<eos>"] + [chr(97 + i) for i in range(26)])}
raw = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")
config = LlamaConfig(vocab_size=28, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                     max_position_embeddings=64, initializer_range=0.5, eos_token_id=1, pad_token_id=0)


def num_different(dropout):
    sampled = []

    def reward(prompts, completions, **columns):
        sampled.extend(completions)
        return [0.0] * len(completions)

    arguments = trl.GRPOConfig(sys.argv[1], per_device_train_batch_size=4, num_generations=4, max_completion_length=8,
                               max_steps=1, top_k=1, report_to="none", use_cpu=True, save_strategy="no")
    lora = peft.LoraConfig(r=4, lora_alpha=64, lora_dropout=dropout, target_modules=["q_proj", "v_proj"],
                           init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(0)
    trl.GRPOTrainer(LlamaForCausalLM(config), reward, args=arguments, processing_class=tokenizer, peft_config=lora,
                    train_dataset=Dataset.from_list([{"prompt": "abc"}] * 8)).train()
    assert len(sampled) == 4
    return len(set(sampled))


for dropout, is_one in ((0.0, True), (0.5, False)):
    count = num_different(dropout)
    print(f"top_k 1, lora_dropout {dropout}: {count} different completions of 4", flush=True)
    assert (count == 1) == is_one, "dropout is treated otherwise now"
PYTHON
python3 -m venv "$temporary/env"
"$temporary/env/bin/pip" install --quiet trl==1.16.0 transformers==5.23.0 peft==0.21.2 torch==2.15.0
HF_HUB_OFFLINE=1 "$temporary/env/bin/python" "$temporary/show.py" "$temporary/run" 2>"$temporary/log" | grep '^top_k' ||
  { tail -n 3 "$temporary/log" >&2; exit 1; }
