"""One sparse MLP, forward and backward, beside transformers' MixtralSparseMoeBlock with each of its implementations:
one thread, processor time, in turn, medians.

    experts_rate.py PLUMB_EXPERTS_RATE [PAIRS [TOKENS HIDDEN SIZE]]
"""
import os
import statistics
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import MixtralConfig, __version__
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

EXPERTS, CHOSEN, REPEATS = 8, 2, 3
torch.set_num_threads(1)


def make_step(kind, dtype, tokens, hidden, size):
    config = MixtralConfig(hidden_size=hidden, intermediate_size=size, num_local_experts=EXPERTS,
                           num_experts_per_tok=CHOSEN)
    config._experts_implementation = kind
    block = MixtralSparseMoeBlock(config)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    block.to(dtype)
    x = torch.randn(1, tokens, hidden, dtype=dtype, requires_grad=True)
    dout = torch.randn(1, tokens, hidden, dtype=dtype)

    def step():
        block.zero_grad(set_to_none=True)
        x.grad = None
        (x + block(x)).backward(dout)

    return step


def seconds_of(step):
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds[1:])  # the first is warm-up


def main():
    program = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    tokens, hidden, size = map(int, sys.argv[3:6]) if len(sys.argv) > 3 else (1024, 1024, 2816)
    active = CHOSEN * 3 * hidden * size / 1e6
    print(f"transformers {__version__}, torch {torch.__version__}; {EXPERTS} experts, top {CHOSEN}, {active:.1f} M active "
          f"parameters, {tokens} tokens")
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        steps = {kind: make_step(kind, dtype, tokens, hidden, size) for kind in ("eager", "grouped_mm")}
        own, peers = [], {kind: [] for kind in steps}
        for _ in range(pairs):
            command = [program, name, tokens, hidden, size, EXPERTS, CHOSEN, REPEATS]
            own.append(float(subprocess.run(list(map(str, command)), capture_output=True, check=True, text=True).stdout))
            for kind, step in steps.items():
                peers[kind].append(seconds_of(step))
        for kind, seconds in peers.items():
            ratio = statistics.median(theirs / ours for theirs, ours in zip(seconds, own))
            print(f"{name:8} {kind:10} plumb {statistics.median(own) * 1e3:.0f} ms, transformers "
                  f"{statistics.median(seconds) * 1e3:.0f} ms, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
