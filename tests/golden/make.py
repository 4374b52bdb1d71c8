"""Records of TRL for settings and rows that ../shared/reference/golden does not cover, as the JSON files beside this.

    benchmarks/peers/setup.sh && /tmp/peers/bin/python tests/golden/make.py [NAME...]

float32 on the CPU, rows in file order, as reference/make/train.py does. Rows of the shared data are not kept, only what
TRL made of them; the conversations below are our own and are kept with the token ids.

How far float32 carries (weights moved by 2e-7 of themselves, relative change of steps 2 and 3): losses 4e-6 but 2e-4
for forward_kl and 7e-5 for alpha_divergence, which exponentiate log ratios; gradient norms 2e-4 for those two, 5e-5 for
alpha_divergence_2, 2e-6 for the others; rewards/margins up to 4e-4 where a mean is near zero; logps 3e-7.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", DS_ACCELERATOR="cpu", TQDM_DISABLE="1")

import torch  # noqa: E402: the environment comes first
import transformers  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from torch.utils.data import SequentialSampler  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
REFERENCE = pathlib.Path(os.environ.get("PLUMB_REFERENCE", HERE.parents[2] / "shared" / "reference"))
MODEL, REWARD_MODEL = REFERENCE / "models" / "stories260K", REFERENCE / "models" / "stories260K-rm"
VERSIONS = {module.__name__: module.__version__ for module in (torch, transformers, trl)}
STEPS, BATCH, MAX_LENGTH, SHARED_ROWS = 3, 8, 384, 64

# Of stories260K, which has none of its own; the id of the space after "assistant:" must not depend on the answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)

# DPO beyond the plain losses: name, then options of DPOConfig.
DPO_VARIANTS = {
    "sigmoid_norm": {"loss_type": ["sigmoid_norm"]},
    "ld_alpha": {"loss_type": ["sigmoid"], "ld_alpha": 0.5},
    "ld_alpha_ipo": {"loss_type": ["ipo"], "ld_alpha": 0.5},
    "forward_kl": {"loss_type": ["sigmoid"], "f_divergence_type": "forward_kl"},
    "js_divergence": {"loss_type": ["sigmoid"], "f_divergence_type": "js_divergence"},
    "alpha_divergence": {"loss_type": ["sigmoid"], "f_divergence_type": "alpha_divergence"},
    "alpha_divergence_2": {
        "loss_type": ["sigmoid"],
        "f_divergence_type": "alpha_divergence",
        "f_alpha_divergence_coef": 2.0,
    },
    "js_divergence_hinge": {"loss_type": ["hinge"], "f_divergence_type": "js_divergence"},
    "mix": {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
    "aot_label_smoothing": {"loss_type": ["aot"], "label_smoothing": 0.1},
    "use_weighting": {"loss_type": ["sigmoid"], "use_weighting": True},
    "keep_end": {"loss_type": ["sigmoid"], "truncation_mode": "keep_end", "max_length": 192},
    "keep_start": {"loss_type": ["sigmoid"], "truncation_mode": "keep_start", "max_length": 192},
}


def turn(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def user(content: str) -> dict:
    return turn("user", content)


def assistant(content: str) -> dict:
    return turn("assistant", content)


# (shared turns, turns of chosen, turns of rejected)
CONVERSATIONS = [
    ([user("Hi there")], [assistant("Hello! How can I help?")], [assistant("What?")]),
    ([turn("system", "Be brief."), user("2+2?")], [assistant("4")], [assistant("The answer is 4, of course.")]),
    ([user("2+2?"), assistant("4"), user("times 3?")], [assistant("12")], [assistant("43")]),
    ([user("  padded  ")], [assistant("\n\nanswer\n")], [assistant(" answer ")]),
    ([user("na\u00efve \u6771\u4eac \U0001f642")], [assistant("\u6771\u4eac is Tokyo.")], [assistant("\u4eac\u90fd")]),
    ([user("Tell me of the sun.")], [assistant("The sun is warm.")], [assistant("The sun is warm and round.")]),
    ([user("Name a fruit")], [assistant("Apple")], [assistant("Apples")]),
    ([user("")], [assistant("You said nothing.")], [assistant("")]),
    ([user("count")], [assistant("1 2 3")], [assistant("1 2 3\n4 5 6\n\n7")]),
    ([turn("system", ""), user("x")], [assistant("y")], [assistant("z")]),
    (
        [user("Once upon a time")],
        [assistant("there was a cat."), user("And?"), assistant("It slept.")],
        [assistant("no")],
    ),
    ([user("q" * 60)], [assistant("<|im_end|> </s> [INST]")], [assistant("line1\nline2\n\nline3")]),
]
# (text the two share, rest of chosen, rest of rejected): the cut is at characters, a space moves to the answers
TEXTS = [
    ("Once upon a time", " there was a cat.", " there was a dog."),
    ("\n\nHuman: Hi\n\nAssistant:", " Hello.", " Hello there."),
    ("The answer is", " 12", " 13"),
    ("", "left", "right"),
    ("same start ", "same", "different"),
    ("a b c ", "d", "e f"),
    ("na\u00efve caf\u00e9 ", "\u6771\u4eac", "\u6771\u90fd"),
    ("prefix", "", " and more"),
    ("two\n\n", "\nlines", " lines"),
    ("tab\t", "x", "y"),
    ("The little girl was happ", "y", "ier"),
    ("It rained", ".", "!"),
]


def tokenizer_of(directory: pathlib.Path, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    if chat_template:
        tokenizer.chat_template = chat_template
    return tokenizer


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    with open(REFERENCE / "chat" / "qwen2.5.json", encoding="utf-8") as file:
        chat_template = json.load(file)["chat_template"]
    return tokenizer_of(REFERENCE / "tokenizers" / "qwen2.5", chat_template)


def shared_rows() -> list[dict]:
    with open(REFERENCE / "data" / "pref_hh.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(SHARED_ROWS))]


def joined(row: dict) -> dict:
    return {"chosen": row["prompt"] + row["chosen"], "rejected": row["prompt"] + row["rejected"]}


def trainer_of(trainer_class, config_class, model, tokenizer, rows, options, batch=BATCH, learning_rate=1e-4):
    class InFileOrder(trainer_class):
        def _get_train_sampler(self, *args, **kwargs):
            return SequentialSampler(self.train_dataset)

    torch.manual_seed(0)
    settings = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": batch,
        "max_steps": STEPS,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "linear",
        "max_length": MAX_LENGTH,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "seed": 0,
        "optim": "adamw_torch",
        "dataloader_drop_last": True,
    }
    settings.update(options)
    return InFileOrder(
        model=model,
        args=config_class(**settings),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def dpo_trainer(rows, tokenizer=None, **options):
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    return trainer_of(trl.DPOTrainer, trl.DPOConfig, model, tokenizer or tokenizer_of(MODEL), rows, options)


def reward_trainer(rows, tokenizer=None, batch=BATCH, **options):
    model = AutoModelForSequenceClassification.from_pretrained(REWARD_MODEL, num_labels=1, dtype=torch.float32)
    tokenizer = tokenizer or tokenizer_of(REWARD_MODEL)
    return trainer_of(trl.RewardTrainer, trl.RewardConfig, model, tokenizer, rows, options, batch, 1e-3)


def trained(trainer) -> list[dict]:
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def ids_of(trainer) -> list[dict]:
    columns = trainer.train_dataset.column_names
    names = [name for name in ("prompt_ids", "chosen_ids", "rejected_ids") if name in columns]
    return [{name: row[name] for name in names} for row in trainer.train_dataset]


def lengths_of(trainer) -> list[list[int]]:
    return [[len(ids) for ids in row.values()] for row in ids_of(trainer)]


def common_arguments(stage: str) -> dict:
    return {
        "stage": stage,
        "steps": STEPS,
        "batch": BATCH,
        "lr": 1e-3 if stage == "reward" else 1e-4,
        "scheduler": "linear",
        "max_length": MAX_LENGTH,
        "beta": 0.1,
        "rows": SHARED_ROWS,
        "model": (REWARD_MODEL if stage == "reward" else MODEL).name,
        "data": "pref_hh.jsonl",
    }


def dpo_variants() -> dict:
    rows = shared_rows()
    runs = {
        name: {"options": options, "steps": trained(dpo_trainer(rows, **options))}
        for name, options in DPO_VARIANTS.items()
    }
    return {"args": common_arguments("dpo"), "runs": runs}


def dpo_reference_logps() -> dict:
    """Sums over the completion's tokens, of the first 8 pairs TRL keeps, as precompute_ref_log_probs makes them."""
    result = {"args": common_arguments("dpo"), "runs": {}}
    for name, options in {"plain": {}, "ld_alpha": {"ld_alpha": 0.5}, "short": {"max_length": 192}}.items():
        trainer = dpo_trainer(shared_rows(), precompute_ref_log_probs=True, **options)
        kept = trainer.train_dataset.select(range(8))
        result["runs"][name] = {
            "options": options,
            "num_pairs_kept": len(trainer.train_dataset),
            "lengths": lengths_of(trainer)[:8],
            "chosen": [float(value) for value in kept["ref_chosen_logps"]],
            "rejected": [float(value) for value in kept["ref_rejected_logps"]],
        }
    return result


def split_of(parts, tokenizer_name: str, tokenizer) -> dict:
    """Rows without a prompt, where TRL cuts them, and the ids it makes of that."""
    rows = [{"chosen": shared + chosen, "rejected": shared + rejected} for shared, chosen, rejected in parts]
    split = [trl.extract_prompt(row) for row in rows]
    return {"tokenizer": tokenizer_name, "rows": rows, "split": split, "ids": ids_of(dpo_trainer(rows, tokenizer))}


def dpo_implicit_prompt() -> dict:
    """hh-rlhf style rows: the prompt is what chosen and rejected begin with alike."""
    trainer = dpo_trainer([joined(row) for row in shared_rows()])
    record = {
        "args": {**common_arguments("dpo"), "rows_are": "{chosen: prompt + chosen, rejected: prompt + rejected}"},
        "lengths": lengths_of(trainer),
        "steps": trained(trainer),
    }
    record["own"] = [
        split_of(TEXTS, "models/stories260K", tokenizer_of(MODEL)),
        split_of(TEXTS, "tokenizers/qwen2.5", qwen_tokenizer()),
        {**split_of(CONVERSATIONS, "tokenizers/qwen2.5", qwen_tokenizer()), "template": "chat/qwen2.5.json"},
    ]
    return record


def conversational() -> dict:
    """Pairs of messages through a chat template: ids of both stages with Qwen2.5's, and steps with a plain one."""
    rows = [{"prompt": shared, "chosen": chosen, "rejected": rejected} for shared, chosen, rejected in CONVERSATIONS]
    margins = [round(0.25 * (index % 5), 2) for index in range(len(rows))]
    with_margins = [{**row, "margin": margin} for row, margin in zip(rows, margins)]
    plain = {"tokenizer": "models/stories260K", "template": PLAIN_TEMPLATE}
    dpo = dpo_trainer(rows, tokenizer_of(MODEL, PLAIN_TEMPLATE), per_device_train_batch_size=4)
    reward = reward_trainer(with_margins, tokenizer_of(REWARD_MODEL, PLAIN_TEMPLATE), batch=4)
    return {
        "rows": rows,
        "margins": margins,
        "qwen2.5": {
            "tokenizer": "tokenizers/qwen2.5",
            "template": "chat/qwen2.5.json",
            "dpo": ids_of(dpo_trainer(rows, qwen_tokenizer())),
            "reward": ids_of(reward_trainer(rows, qwen_tokenizer())),
        },
        "plain_dpo": {
            **plain,
            "args": {**common_arguments("dpo"), "batch": 4},
            "ids": ids_of(dpo),
            "steps": trained(dpo),
        },
        "plain_reward": {
            **plain,
            "args": {**common_arguments("reward"), "batch": 4},
            "ids": ids_of(reward),
            "steps": trained(reward),
        },
    }


def reward_margin() -> dict:
    """The margin of row i of the file is 0.25 (i mod 5); pairs that are too long are dropped with theirs."""
    rows = [{**row, "margin": 0.25 * (index % 5)} for index, row in enumerate(shared_rows())]
    trainer = reward_trainer(rows)
    arguments = {**common_arguments("reward"), "margin": "0.25 * (row index mod 5)"}
    record = {"args": arguments, "lengths": lengths_of(trainer), "margins": list(trainer.train_dataset["margin"])}
    return {**record, "steps": trained(trainer)}


MAKERS = [dpo_variants, dpo_reference_logps, dpo_implicit_prompt, conversational, reward_margin]


def main() -> None:
    torch.set_num_threads(1)
    for maker in MAKERS:
        if len(sys.argv) > 1 and maker.__name__ not in sys.argv[1:]:
            continue
        record = {"versions": VERSIONS, **maker()}
        path = HERE / f"{maker.__name__}.json"
        path.write_text(json.dumps(record, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
