"""LoRA by transformers and PEFT in one process on the CPU, QLoRA with bitsandbytes: peft_lora.py MODEL ROWS.jsonl

Rows are {"text"}; every token counts, as in plumb sft. Speed is in tokens of the batch without padding. --loop trl is
TRL's SFTTrainer, --loop plain a loop of our own around the model, which does only what a step needs.
"""

# Its best settings here: the plain loop, rows one by one (no padding, and logits of one row at a time), in bfloat16 with
# bfloat16 adapters. CPU seconds of a step of four rows of 256 to 511 tokens and peak RSS, on a machine with other work,
# the Llama of 99.5 M parameters of ../lora_side_by_side.sh, q,k,v,o:
#   float32    at once 9.4 s, 3.5 GB; padding-free 10.2 s, 3.3 GB; one by one 7.6 s, 1.7 GB; TRL at once 12.1 s, 5.2 GB
#   bfloat16   at once 5.0 s, 3.1 GB; one by one 4.8 s, 1.8 GB, with float32 adapters 5.0 s, as autocast 4.7 s, 2.1 GB

import time

BEGIN = time.perf_counter()

import argparse  # noqa: E402: imports are a part of the start-up that is measured
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")

import peft  # noqa: E402
import torch  # noqa: E402
from common import memory_mb  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig  # noqa: E402

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--loop", choices=["plain", "trl"], default="plain")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32", help="of the base and of the products")
    parser.add_argument("--adapter_dtype", choices=list(DTYPES), default="float32", help="plain loop only")
    parser.add_argument("--autocast", action="store_true", help="bfloat16 as autocast over a float32 model")
    parser.add_argument("--quantize", choices=["none", "nf4"], default="none", help="nf4: with double quantization")
    parser.add_argument("--targets", nargs="+", default=["q_proj", "k_proj", "v_proj", "o_proj"])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batching", choices=["padded", "padding_free", "one_by_one"], default="padded")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step")
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--steps", type=int, default=6, help="measured steps")
    parser.add_argument("--warmup", type=int, default=2, help="steps before the measured ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def base_model(options: argparse.Namespace):
    dtype = torch.float32 if options.autocast else DTYPES[options.dtype]
    settings = {"dtype": dtype, "attn_implementation": "sdpa"}
    if options.quantize == "nf4":
        settings["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[options.dtype],
        )
    return AutoModelForCausalLM.from_pretrained(options.model, **settings)


def lora_config(options: argparse.Namespace) -> peft.LoraConfig:
    targets = "all-linear" if options.targets == ["all-linear"] else options.targets
    return peft.LoraConfig(
        r=options.rank, lora_alpha=2 * options.rank, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"
    )


def batches_of(rows: list[list[int]], batching: str) -> list[dict]:
    """The micro-batches of one step."""
    if batching == "one_by_one":
        return [{"input_ids": torch.tensor([ids]), "labels": torch.tensor([ids])} for ids in rows]
    if batching == "padding_free":
        # transformers finds where rows begin in the positions; the first label of a row is nobody's target
        ids = [token for row in rows for token in row]
        labels = [label for row in rows for label in [-100, *row[1:]]]
        positions = [position for row in rows for position in range(len(row))]
        columns = {"input_ids": ids, "labels": labels, "position_ids": positions}
        return [{name: torch.tensor([values]) for name, values in columns.items()}]
    length = max(map(len, rows))
    padded = {
        "input_ids": [row + [0] * (length - len(row)) for row in rows],
        "labels": [row + [-100] * (length - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (length - len(row)) for row in rows],
    }
    return [{name: torch.tensor(values) for name, values in padded.items()}]


def tokenized(options: argparse.Namespace, tokenizer) -> list[list[int]]:
    with open(options.rows, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file if line.strip()]
    return [tokenizer(text + tokenizer.eos_token)["input_ids"][: options.max_length] for text in texts]


def train_plain(options: argparse.Namespace) -> dict:
    model = peft.get_peft_model(
        base_model(options), lora_config(options), autocast_adapter_dtype=options.adapter_dtype == "float32"
    )
    model.train()
    model.config.use_cache = False
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=0.0, fused=True)
    rows = tokenized(options, AutoTokenizer.from_pretrained(options.model))
    seconds, cpu_seconds, counts, losses, memory = [], [], [], [], []
    to_first_step = time.perf_counter() - BEGIN
    for index in range(options.steps + options.warmup):
        of_step = [rows[(index * options.batch + i) % len(rows)] for i in range(options.batch)]
        begin, cpu_begin = time.perf_counter(), time.process_time()
        targets = sum(len(row) - 1 for row in of_step)
        loss = 0.0
        for batch in batches_of(of_step, options.batching):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.autocast):
                # the number of targets makes it a sum over this micro-batch divided by those of the step
                of_batch = model(**batch, use_cache=False, num_items_in_batch=targets).loss
            of_batch.backward()
            loss += of_batch.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
        counts.append(sum(map(len, of_step)))
        losses.append(loss)
        memory.append(memory_mb("Pss"))
    return report(options, seconds, cpu_seconds, counts, losses, memory, to_first_step, trained)


def train_trl(options: argparse.Namespace) -> dict:
    from trl import SFTConfig, SFTTrainer
    from trl_common import Meter, rows_of
    from transformers import PrinterCallback

    meter = Meter(BEGIN)
    accumulation = options.batch if options.batching == "one_by_one" else 1
    with tempfile.TemporaryDirectory() as directory:
        config = SFTConfig(
            output_dir=directory,
            use_cpu=True,
            bf16=options.autocast,
            max_steps=options.steps + options.warmup,
            per_device_train_batch_size=options.batch // accumulation,
            gradient_accumulation_steps=accumulation,
            max_length=options.max_length,
            padding_free=options.batching == "padding_free",
            learning_rate=options.learning_rate,
            lr_scheduler_type="constant",
            gradient_checkpointing=False,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=base_model(options),
            args=config,
            train_dataset=rows_of(options.rows),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            peft_config=lora_config(options),
            callbacks=[meter],
        )
        trainer.remove_callback(PrinterCallback)
        trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
        trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    totals = [entry["num_tokens"] for entry in history]
    counts = [after - before for before, after in zip([0, *totals], totals)]
    losses = [entry["loss"] for entry in history]
    return report(options, meter.seconds, meter.cpu_seconds, counts, losses, meter.memory, meter.first_step, trained)


def report(options, seconds, cpu_seconds, counts, losses, memory, to_first_step, trained) -> dict:
    measured = list(zip(counts, seconds))[options.warmup :]
    return {
        "peer": "peft" if options.loop == "plain" else "trl",
        "dtype": options.dtype,
        "adapter_dtype": str(trained[0].dtype).removeprefix("torch."),
        "autocast": options.autocast,
        "quantize": options.quantize,
        "targets": " ".join(options.targets),
        "batching": options.batching,
        "threads": options.threads,
        "num_trained": sum(parameter.numel() for parameter in trained),
        "tokens_per_second": round(statistics.median(count / s for count, s in measured), 1),
        "step_seconds": round(statistics.median(s for _, s in measured), 4),
        # What a step costs when other programs share the machine.
        "cpu_step_seconds": round(statistics.median(cpu_seconds[options.warmup :]), 4),
        "sum_pss_mb": round(memory[-1], 1),
        "peak_sum_pss_mb": round(max(memory), 1),
        "peak_rss_mb": round(memory_mb("VmHWM"), 1),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "seconds_to_first_step": round(to_first_step, 2),
    }


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(json.dumps(train_plain(options) if options.loop == "plain" else train_trl(options)), flush=True)


if __name__ == "__main__":
    main()
