"""TRL's GRPOTrainer in one process on the CPU: trl_grpo.py MODEL ROWS.jsonl

Rows have a prompt; the reward is less for repeated tokens. Speed is counted in tokens of prompts and
completions, TRL's `num_tokens`, per second of the whole step: generation, by transformers with all rows in one batch,
reward, loss and update. `generation_share` is the part of the step within model.generate().
"""

import time

BEGIN = time.perf_counter()

import os  # noqa: E402: imports are a part of the start-up that is measured
import statistics  # noqa: E402
import tempfile  # noqa: E402

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402
from trl_common import Meter, rows_of, train_and_report, trainer_settings, trl_arguments  # noqa: E402


def repetition(completions, completion_ids, **_):
    """That of plumb with --repetition_ngram 1, which differs between completions of equal length."""
    return [len(set(ids)) / len(ids) - 1 for ids in completion_ids]


def main() -> None:
    parser = trl_arguments(__doc__)
    parser.add_argument("--num_generations", type=int, default=8)
    parser.add_argument("--max_completion_length", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["TQDM_DISABLE"] = "1"

    meter = Meter(BEGIN)
    with tempfile.TemporaryDirectory() as directory:
        settings = trainer_settings(options, directory)
        for name in ("max_length", "train_sampling_strategy"):
            del settings[name]
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32),
            args=GRPOConfig(
                num_generations=options.num_generations,
                max_completion_length=options.max_completion_length,
                shuffle_dataset=options.shuffle,
                **settings,
            ),
            reward_funcs=repetition,
            train_dataset=rows_of(options.rows),
            processing_class=AutoTokenizer.from_pretrained(options.model),
            callbacks=[meter],
        )
        seconds = []
        generate = trainer.model.generate

        def timed(*arguments, **named):
            begin = time.perf_counter()
            result = generate(*arguments, **named)
            seconds.append(time.perf_counter() - begin)
            return result

        trainer.model.generate = timed
        labels = {"peer": "trl", "dtype": options.dtype, "threads": options.threads}
        labels |= {"accumulation": options.accumulation, "gradient_checkpointing": options.gradient_checkpointing}

        def notes(_: list[int]) -> dict:
            pairs = list(zip(seconds, meter.seconds))[options.warmup :]
            return {"generation_share": round(statistics.median(part / whole for part, whole in pairs), 3)}

        train_and_report(trainer, meter, options, labels, notes)


if __name__ == "__main__":
    main()
