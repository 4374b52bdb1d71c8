"""plumb_template_rate beside apply_chat_template of transformers, in turn: one core, processor time, medians.

    template_rate.py PLUMB_TEMPLATE_RATE DIRECTORY_OF_TEMPLATES [PAIRS]
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, __version__

TEMPLATES = ["qwen2_5", "llama3", "qwen3"]
WORDS = "a model reads rows and writes text that people trust, byte by byte, naïve or not, as its author meant it 🙂".split()


def conversations(count):
    chance = random.Random(1)
    text = lambda least, most: " ".join(chance.choice(WORDS) for _ in range(chance.randint(least, most)))
    for index in range(count):
        messages = [{"role": "system", "content": text(10, 30)}] if index % 3 == 0 else []
        for _ in range(chance.choice([1, 1, 2, 3])):
            messages.append({"role": "user", "content": text(5, 60)})
            messages.append({"role": "assistant", "content": text(20, 200)})
        yield messages


def main():
    program, folder = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    rows = list(conversations(3000))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")), eos_token="</s>",
                                        bos_token="<s>")
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in rows)
        file.flush()
        plumb = subprocess.Popen([program, file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(f"transformers {__version__}, {len(rows)} conversations, {pairs} pairs")
        for name in TEMPLATES:
            path = f"{folder}/{name}.jinja"
            source = open(path).read()
            times = []
            for _ in range(pairs):
                start = time.process_time()
                size = sum(len(tokenizer.apply_chat_template(row, chat_template=source, tokenize=False).encode())
                           for row in rows)
                theirs = (time.process_time() - start) / len(rows) * 1e6
                plumb.stdin.write(path + "\n")
                plumb.stdin.flush()
                ours, our_size = plumb.stdout.readline().split()
                assert int(our_size) == size, f"{name}: {our_size} bytes and {size}"
                times.append((theirs, float(ours), theirs / float(ours)))
            median = [sorted(column)[pairs // 2] for column in zip(*times)]
            ratios = sorted(ratio for _, _, ratio in times)
            print(f"{name}: transformers {median[0]:.1f} us, plumb {median[1]:.2f} us, ratio {median[2]:.1f} "
                  f"({ratios[0]:.1f} to {ratios[-1]:.1f})", flush=True)


main()
