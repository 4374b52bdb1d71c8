#!/usr/bin/env bash
# transformers 5.23.0: a byte-level tokenizer that splits numbers into digits does so no more where its class is
# GPT2Tokenizer, as that of SmolLM2 and StarCoder2 is.
# tokenizer.json says Sequence [Digits, ByteLevel]. Version 5 rebuilds the pre-tokenizer from the class, which knows
# ByteLevel alone: numbers get the merges of several digits, which no text had while the model was trained. Version 4
# takes tokenizer.json as it is written, and so does the tokenizers library.
# Seen:
#     tokenizers 0.23.3:    ['1', '2', '3', '4']
#     transformers 5.23.0:  ['1234']
#     pre-tokenizer then:   ByteLevel
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
HF_HUB_OFFLINE=1 "$venv/bin/python" -W ignore - <<'PYTHON'
import json, tempfile
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

# merges of digits are in the vocabulary: learned from texts without the split, as a larger vocabulary may have them
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.train_from_iterator(["1234 1234 1234"] * 100, trainers.BpeTrainer(
    vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
with tempfile.TemporaryDirectory() as directory:
    tokenizer.save(directory + "/tokenizer.json")
    with open(directory + "/tokenizer_config.json", "w") as file:
        json.dump({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}, file)
    written = Tokenizer.from_file(directory + "/tokenizer.json").encode("1234").tokens
    loaded = AutoTokenizer.from_pretrained(directory)
    read = loaded.tokenize("1234")
    step = json.loads(loaded.backend_tokenizer.to_str())["pre_tokenizer"]["type"]
print("tokenizers 0.23.3:   ", written)
print("transformers 5.23.0: ", read)
print("pre-tokenizer then:  ", step)
assert written == ["1", "2", "3", "4"]
assert read == ["1234"] and step == "ByteLevel", "the split of tokenizer.json is kept now"
PYTHON
