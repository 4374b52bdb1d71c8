"""Median processor seconds of forward and backward of a causal language model on 1024 tokens, one thread; the first is warm-up.

    experts_model.py MODEL DTYPE EXPERTS_IMPLEMENTATION
"""
import os
import statistics
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
directory, dtype, kind = sys.argv[1:4]
model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype), experts_implementation=kind)
model.train()
ids = torch.randint(0, 256, (1, 1024), generator=torch.Generator().manual_seed(0))
seconds = []
for _ in range(4):
    model.zero_grad(set_to_none=True)
    start = time.process_time()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    seconds.append(time.process_time() - start)
print(statistics.median(seconds[1:]))
