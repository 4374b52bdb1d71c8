"""TRL's SFTTrainer in one process on the CPU: trl_sft.py MODEL_DIRECTORY ROWS.jsonl

Rows are prompt+completion, messages or text, as TRL takes them. Speed is counted in tokens of the batch (no padding),
which is also what TRL's `num_tokens` counts.
"""

import time

BEGIN = time.perf_counter()

import tempfile  # noqa: E402: imports are a part of the start-up that is measured

import torch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402
from trl_common import Meter, rows_of, train_and_report, trainer_settings, trl_arguments  # noqa: E402


def lora(options):
    from peft import LoraConfig

    targets = options.targets[0] if options.targets == ["all-linear"] else options.targets
    return LoraConfig(
        r=options.lora_r, lora_alpha=2 * options.lora_r, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"
    )


def main() -> None:
    parser = trl_arguments(__doc__)
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--lora_r", type=int, default=0, help="0: the whole model")
    parser.add_argument("--targets", nargs="+", default=["q_proj", "k_proj", "v_proj", "o_proj"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    meter = Meter(BEGIN)
    with tempfile.TemporaryDirectory() as directory:
        trainer = SFTTrainer(
            model=options.model,
            args=SFTConfig(packing=options.packing, **trainer_settings(options, directory)),
            train_dataset=rows_of(options.rows),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            callbacks=[meter],
            peft_config=lora(options) if options.lora_r else None,
        )
        labels = {
            "peer": "trl_sft",
            "dtype": options.dtype,
            "ranks": 1,
            "threads": options.threads,
            "accumulation": options.accumulation,
            "packing": options.packing,
            "gradient_checkpointing": options.gradient_checkpointing,
        }
        train_and_report(trainer, meter, options, labels)


if __name__ == "__main__":
    main()
