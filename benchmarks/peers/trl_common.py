"""What trl_sft.py and trl_pairs.py have in common: options, the clock of the steps, the line of JSON.

Apart from common.py: importing transformers' trainer would add to the memory measured of the peers that do without it.
"""

import argparse
import json
import statistics
import time

import torch
from common import memory_mb
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback


def trl_arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16 is autocast")
    parser.add_argument("--steps", type=int, default=6, help="measured steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the measured ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches of a step")
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--shuffle", action="store_true", help="TRL's own random order; the default is the file's")
    return parser


def rows_of(path: str) -> Dataset:
    with open(path, encoding="utf-8") as file:
        return Dataset.from_list([json.loads(line) for line in file if line.strip()])


def trainer_settings(options: argparse.Namespace, directory: str) -> dict:
    """Of the Config of any of TRL's trainers."""
    return {
        "output_dir": directory,
        "use_cpu": True,
        "bf16": options.dtype == "bfloat16",
        "max_steps": options.steps + options.warmup,
        "per_device_train_batch_size": options.batch // options.accumulation,
        "gradient_accumulation_steps": options.accumulation,
        "max_length": options.max_length,
        "learning_rate": options.learning_rate,
        "gradient_checkpointing": options.gradient_checkpointing,
        "train_sampling_strategy": "random" if options.shuffle else "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


class Meter(TrainerCallback):
    """Seconds and memory of every step. `program_begin`: time.perf_counter() before the imports."""

    def __init__(self, program_begin: float) -> None:
        self.program_begin, self.begin, self.cpu_begin, self.first_step = program_begin, 0.0, 0.0, 0.0
        self.seconds, self.cpu_seconds, self.memory = [], [], []

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.begin, self.cpu_begin = time.perf_counter(), time.process_time()
        self.first_step = self.first_step or self.begin - self.program_begin

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.seconds.append(time.perf_counter() - self.begin)
        self.cpu_seconds.append(time.process_time() - self.cpu_begin)
        self.memory.append(memory_mb("Pss"))


def train_and_report(trainer, meter: Meter, options: argparse.Namespace, labels: dict, notes=None) -> None:
    """Trains and prints one line of JSON: `labels`, the measurements, then `notes(tokens of each step)`."""
    trainer.remove_callback(PrinterCallback)  # one line of JSON is all that standard output gets
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    counts = [entry["num_tokens"] for entry in history]
    tokens = [after - before for before, after in zip([0, *counts], counts)]
    measured = list(zip(tokens, meter.seconds))[options.warmup :]
    result = {
        **labels,
        "tokens_per_second": round(statistics.median(t / s for t, s in measured), 1),
        "step_seconds": round(statistics.median(s for _, s in measured), 4),
        # What a step costs when other programs share the machine.
        "cpu_step_seconds": round(statistics.median(meter.cpu_seconds[options.warmup :]), 4),
        "sum_pss_mb": round(meter.memory[-1], 1),
        "peak_sum_pss_mb": round(max(meter.memory), 1),
        "peak_rss_mb": round(memory_mb("VmHWM"), 1),
        "first_loss": history[0]["loss"],
        "last_loss": history[-1]["loss"],
        "losses": [entry["loss"] for entry in history],
        "seconds_to_first_step": round(meter.first_step, 2),
    }
    if notes:
        result.update(notes(tokens))
    print(json.dumps(result), flush=True)
