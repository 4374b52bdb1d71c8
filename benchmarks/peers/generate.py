"""Prints a line of JSON: tokens per second of transformers' generate, greedy, for rows of equal length.

    generate.py MODEL ROWS --dtype bfloat16 --threads 2 --batch 16 --new_tokens 64
"""

import argparse
import json
import resource
import time

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("rows")
parser.add_argument("--dtype", default="float32")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--new_tokens", type=int, default=64)
args = parser.parse_args()
torch.set_num_threads(args.threads)
tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval()
prompts = [json.loads(line)["prompt"] for line in open(args.rows)]
ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
assert len({len(row) for row in ids}) == 1, "prompts of one length need no padding"


def generate(rows, new_tokens):
    batch = torch.tensor(rows)
    model.generate(
        batch, attention_mask=torch.ones_like(batch), max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, pad_token_id=0
    )


with torch.inference_mode():
    generate(ids[: args.batch], 4)
    begin = time.perf_counter()
    for first in range(0, len(ids), args.batch):
        generate(ids[first : first + args.batch], args.new_tokens)
    seconds = time.perf_counter() - begin
print(json.dumps({
    "peer": "transformers", "version": transformers.__version__, "dtype": args.dtype, "batch": args.batch,
    "tokens_per_second": len(ids) * args.new_tokens / seconds,
    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
