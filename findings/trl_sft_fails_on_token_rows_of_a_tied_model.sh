#!/usr/bin/env bash
# TRL 1.16.0's SFTTrainer fails in its first step where PEFT 0.21.2's trainable_token_indices meet a model whose head is its
# embedding: PEFT then wraps the head, too, which TRL reads the weight and the bias of, and the wrapper has no bias. A model
# whose head is its own trains, and so does the tied one with labels in transformers' own forward. Small models are tied,
# and rows of new chat tokens are what they need.
# Seen:
#     own head: trained, by transformers' forward trained
#     tied head: 'TrainableTokensWrapper' object has no attribute 'bias', by transformers' forward trained
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import sys

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>"] + [f"w{i}" for i in range(61)])}
words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
rows = Dataset.from_list([{"text": " ".join(f"w{i * j % 61}" for j in range(10))} for i in range(1, 9)])
adapter = LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[5, 6])


def make_model(is_tied):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                        num_attention_heads=2, tie_word_embeddings=is_tied, pad_token_id=0,
                                        bos_token_id=None, eos_token_id=1))


for is_tied in (False, True):
    settings = SFTConfig(output_dir=sys.argv[1], max_steps=1, use_cpu=True, bf16=False, report_to=[],
                         per_device_train_batch_size=2, disable_tqdm=True)
    trainer = SFTTrainer(make_model(is_tied), args=settings, train_dataset=rows, processing_class=tokenizer,
                         peft_config=adapter)
    try:
        trainer.train()
        outcome = "trained"
    except AttributeError as error:
        outcome = str(error)
    by_hand = get_peft_model(make_model(is_tied), adapter)
    ids = torch.arange(20).view(2, 10)
    by_hand(input_ids=ids, labels=ids).loss.backward()
    has_gradient = any(p.grad is not None and bool(p.grad.any()) for n, p in by_hand.named_parameters() if "token_adapter" in n)
    print(f"{'tied' if is_tied else 'own'} head: {outcome}, by transformers' forward "
          f"{'trained' if has_gradient else 'not trained'}")
    assert (outcome == "trained") != is_tied and has_gradient, "token rows of a tied model are trained now"
PYTHON
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet trl==1.16.0 transformers==5.23.0 peft==0.21.2 torch==2.15.0 datasets==5.2.0
HF_HUB_OFFLINE=1 "$venv/bin/python" "$temporary/show.py" "$temporary/run" 2>"$temporary/log" |
  grep head: || { cat "$temporary/log" && exit 1; }
