"""TRL's RewardTrainer or DPOTrainer in one process on the CPU: trl_pairs.py --stage reward|dpo MODEL ROWS.jsonl

Rows are prompt+chosen+rejected. Speed is counted in tokens of the batch without padding, both sides of a pair, once:
TRL's `num_tokens`. A DPO step holds the reference forward as well, unless it was made in advance
(--precompute_ref_log_probs); its time is then `precompute_seconds`, of the pairs trained on alone, and
`tokens_per_second_all_in` shares it out.
"""

# TRL's best settings here: --threads 2 --accumulation 8 (of --batch 8), for DPO --precompute_ref_log_probs, and glibc
# told to keep what is freed (as ../pairs_side_by_side.sh does, "keeping" below). CPU seconds of a step and peak RSS in
# float32, on a machine with other work, the Llama of 24.4 M parameters, 512 tokens:
#   reward, 8 pairs   at once 6.2 s, 2.8 GB; keeping 5.6 s, 2.9 GB; a pair at a time 4.4 s, 1.5 GB; both 4.2 s, 1.4 GB
#   DPO, 4 pairs      keeping 8.7 s, 7.3 GB; keeping and a pair at a time 6.3 s, 2.7 GB
#   DPO, 2 pairs      at once 5.1 s, 3.4 GB; keeping 3.2 s, 3.4 GB; a pair at a time 4.7 s, 2.3 GB; gradient
#                     checkpointing 5.6 s, 3.3 GB; huge pages (THP_MEM_ALLOC_ENABLE=1) 5.6 s, 3.5 GB
# torch_compile had no reward step done after four minutes. On a CPU TRL's head scores every position, prompt and padding
# too, against the whole vocabulary in one tile of up to 4096 rows: hence the memory, and the gain of small micro-batches.

import time

BEGIN = time.perf_counter()

import os  # noqa: E402: imports are a part of the start-up that is measured
import tempfile  # noqa: E402

import torch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer  # noqa: E402
from trl_common import Meter, rows_of, train_and_report, trainer_settings, trl_arguments  # noqa: E402


class TimedDPOTrainer(DPOTrainer):
    """Keeps the time of the reference's log-probabilities, and makes no more of them than the steps will read."""

    num_pairs, precompute_seconds = 0, 0.0

    def _precompute_ref_logps(self, dataset, *args, **kwargs):
        begin = time.perf_counter()
        dataset = dataset.select(range(min(self.num_pairs, len(dataset))))
        dataset = super()._precompute_ref_logps(dataset, *args, **kwargs)
        self.precompute_seconds = time.perf_counter() - begin
        return dataset


def main() -> None:
    parser = trl_arguments(__doc__)
    parser.add_argument("--stage", choices=["reward", "dpo"], required=True)
    parser.add_argument("--precompute_ref_log_probs", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["TQDM_DISABLE"] = "1"

    meter = Meter(BEGIN)
    with tempfile.TemporaryDirectory() as directory:
        settings = trainer_settings(options, directory)
        if options.stage == "reward":
            trainer_class, config = RewardTrainer, RewardConfig(**settings)
        else:
            trainer_class = TimedDPOTrainer
            trainer_class.num_pairs = (options.steps + options.warmup) * options.batch
            config = DPOConfig(precompute_ref_log_probs=options.precompute_ref_log_probs, **settings)
        trainer = trainer_class(
            model=options.model,
            args=config,
            train_dataset=rows_of(options.rows),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            callbacks=[meter],
        )
        labels = {
            "peer": "trl",
            "stage": options.stage,
            "dtype": options.dtype,
            "ranks": 1,
            "threads": options.threads,
            "accumulation": options.accumulation,
            "gradient_checkpointing": options.gradient_checkpointing,
        }

        def notes(tokens: list[int]) -> dict:
            if options.stage != "dpo":
                return {}
            precompute_seconds = trainer.precompute_seconds
            return {
                "precompute_ref_log_probs": options.precompute_ref_log_probs,
                "precompute_seconds": round(precompute_seconds, 3),
                "tokens_per_second_all_in": round(sum(tokens) / (sum(meter.seconds) + precompute_seconds), 1),
            }

        train_and_report(trainer, meter, options, labels, notes)


if __name__ == "__main__":
    main()
