#!/usr/bin/env bash
# transformers 5.23.0 reads a chat template from tokenizer_config.json, and further ones from additional_chat_templates/.
# With both in a directory, the one in tokenizer_config.json is gone without a warning: the tokenizer loads, holds only
# the further template, refuses to render by default, and writes the loss into whatever is saved from it.
# Seen:
#     template in tokenizer_config.json: renders 'hello'
#     and additional_chat_templates/rag.jinja: holds ['rag'], ValueError
#     saved again: ['additional_chat_templates'], no template in tokenizer_config.json
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cat >"$temporary/show.py" <<'PYTHON'
import json
import pathlib
import sys

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

directory = pathlib.Path(sys.argv[1])
words = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1, "<|end|>": 2}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
made = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", eos_token="<|end|>")
made.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
made.save_pretrained(directory, save_jinja_files=False)
messages = [{"role": "user", "content": "hello"}]

text = AutoTokenizer.from_pretrained(directory).apply_chat_template(messages, tokenize=False)
print(f"template in tokenizer_config.json: renders {text!r}")
assert text == "hello"

(directory / "additional_chat_templates").mkdir()
(directory / "additional_chat_templates" / "rag.jinja").write_text("{{ documents }}{{ messages[0].content }}")
read = AutoTokenizer.from_pretrained(directory)
assert isinstance(read.chat_template, dict), "the template of tokenizer_config.json is kept now"
try:
    read.apply_chat_template(messages, tokenize=False)
    outcome = "renders"
except ValueError:
    outcome = "ValueError"
print(f"and additional_chat_templates/rag.jinja: holds {sorted(read.chat_template)}, {outcome}")
assert sorted(read.chat_template) == ["rag"] and outcome == "ValueError", "the default is kept now"

again = directory / "again"
read.save_pretrained(again)
templates = sorted(p.name for p in again.iterdir() if "template" in p.name)
config = json.loads((again / "tokenizer_config.json").read_text())
print(f"saved again: {templates}, {'a' if 'chat_template' in config else 'no'} template in tokenizer_config.json")
assert templates == ["additional_chat_templates"] and "chat_template" not in config
PYTHON
venv=${FINDINGS_VENV:-$temporary/venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet transformers==5.23.0 jinja2==3.1.6
HF_HUB_OFFLINE=1 "$venv/bin/python" "$temporary/show.py" "$temporary/model"
