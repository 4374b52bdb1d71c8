"""TRL's SFTTrainer in one process on the CPU: trl_sft.py MODEL_DIRECTORY ROWS.jsonl

Rows are prompt+completion, messages or text, as TRL takes them. Speed is counted in tokens of the batch (no padding),
which is also what TRL's `num_tokens` counts.
"""

import time

BEGIN = time.perf_counter()

import argparse  # noqa: E402: imports are a part of the start-up that is measured
import json  # noqa: E402
import re  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoTokenizer, PrinterCallback, TrainerCallback  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402


def memory_mb(key: str) -> float:
    path = "/proc/self/status" if key == "VmHWM" else "/proc/self/smaps_rollup"
    with open(path, encoding="ascii") as file:
        return int(re.search(rf"^{key}:\s+(\d+) kB", file.read(), re.MULTILINE).group(1)) / 1024


class Meter(TrainerCallback):
    def __init__(self) -> None:
        self.begin, self.seconds, self.memory, self.first_step = 0.0, [], [], 0.0

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.begin = time.perf_counter()
        self.first_step = self.first_step or self.begin - BEGIN

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.seconds.append(time.perf_counter() - self.begin)
        self.memory.append(memory_mb("Pss"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16 is autocast")
    parser.add_argument("--steps", type=int, default=6, help="measured steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the measured ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--shuffle", action="store_true", help="TRL's own random order; the default is the file's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    with open(options.rows, encoding="utf-8") as file:
        rows = Dataset.from_list([json.loads(line) for line in file if line.strip()])
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    meter = Meter()
    with tempfile.TemporaryDirectory() as directory:
        config = SFTConfig(
            output_dir=directory,
            use_cpu=True,
            bf16=options.dtype == "bfloat16",
            max_steps=options.steps + options.warmup,
            per_device_train_batch_size=options.batch,
            max_length=options.max_length,
            packing=options.packing,
            learning_rate=options.learning_rate,
            gradient_checkpointing=options.gradient_checkpointing,
            train_sampling_strategy="random" if options.shuffle else "sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=options.model, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[meter]
        )
        trainer.remove_callback(PrinterCallback)  # one line of JSON is all that standard output gets
        trainer.train()

    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    counts = [entry["num_tokens"] for entry in history]
    tokens = [after - before for before, after in zip([0, *counts], counts)]
    measured = list(zip(tokens, meter.seconds))[options.warmup :]
    result = {
        "peer": "trl_sft",
        "dtype": options.dtype,
        "ranks": 1,
        "threads": options.threads,
        "packing": options.packing,
        "gradient_checkpointing": options.gradient_checkpointing,
        "tokens_per_second": round(statistics.median(t / s for t, s in measured), 1),
        "step_seconds": round(statistics.median(s for _, s in measured), 4),
        "sum_pss_mb": round(meter.memory[-1], 1),
        "peak_sum_pss_mb": round(max(meter.memory), 1),
        "peak_rss_mb": round(memory_mb("VmHWM"), 1),
        "first_loss": history[0]["loss"],
        "last_loss": history[-1]["loss"],
        "seconds_to_first_step": round(meter.first_step, 2),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
