"""What the peers have in common: the model, the rows, the measurements. Run under torchrun (RANK, WORLD_SIZE)."""

import argparse
import json
import os
import re
import statistics
import time

import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM

ROW_TOKENS = 256
VOCABULARY = 32000


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=6, help="measured steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the measured ones")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def build_model() -> LlamaForCausalLM:
    """24.4 M parameters with random weights, the same on every rank."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=288,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        intermediate_size=768,
        vocab_size=VOCABULARY,
        max_position_embeddings=ROW_TOKENS,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def row_of(rank: int) -> dict[str, torch.Tensor]:
    """One fixed row per rank; every token is trained."""
    generator = torch.Generator().manual_seed(1000 + rank)
    tokens = torch.randint(0, VOCABULARY, (1, ROW_TOKENS), generator=generator)
    return {"input_ids": tokens, "labels": tokens.clone()}


def memory_mb(key: str) -> float:
    """Of this process: VmHWM, the most ever resident, or Pss, where a page that n processes map counts 1/n."""
    path = "/proc/self/status" if key == "VmHWM" else "/proc/self/smaps_rollup"
    with open(path, encoding="ascii") as file:
        return int(re.search(rf"^{key}:\s+(\d+) kB", file.read(), re.MULTILINE).group(1)) / 1024


def sum_over_ranks(value: float) -> float:
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return total.item()


def measure(peer: str, options: argparse.Namespace, step) -> None:
    """Runs `step()` (which returns the loss of this rank) and prints one line of JSON on rank 0."""
    world = dist.get_world_size()
    seconds, cpu_seconds, losses, memory = [], [], [], []
    for index in range(options.warmup + options.steps):
        dist.barrier()
        begin, cpu_begin = time.perf_counter(), time.process_time()
        loss = step()
        dist.barrier()
        elapsed, cpu_elapsed = time.perf_counter() - begin, sum_over_ranks(time.process_time() - cpu_begin)
        losses.append(sum_over_ranks(float(loss)) / world)
        memory.append(sum_over_ranks(memory_mb("Pss")))
        if index >= options.warmup:
            seconds.append(elapsed)
            cpu_seconds.append(cpu_elapsed)
    if dist.get_rank() == 0:
        tokens = world * ROW_TOKENS
        result = {
            "peer": peer,
            "dtype": options.dtype,
            "ranks": world,
            "gradient_checkpointing": options.gradient_checkpointing,
            "tokens_per_second": round(statistics.median(tokens / s for s in seconds), 1),
            "step_seconds": round(statistics.median(seconds), 4),
            # Of all ranks together: what a step costs when other programs share the machine.
            "cpu_step_seconds": round(statistics.median(cpu_seconds), 4),
            "sum_pss_mb": round(memory[-1], 1),
            "peak_sum_pss_mb": round(max(memory), 1),
            "first_loss": losses[0],
            "last_loss": losses[-1],
        }
        result.update(getattr(options, "notes", {}))
        print(json.dumps(result), flush=True)


def single_thread() -> None:
    torch.set_num_threads(1)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("start with OMP_NUM_THREADS=1")
