"""Data and tables of known_optima.sh, in whose working directory it runs."""
import json, math, pathlib, random, sys


def lines_of(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def write(path, rows):
    pathlib.Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def bandit(run, beta, seed):
    """The probability of the rewarded token is that of a rollout of it, where the last round has one."""
    first = last = None
    for path in sorted(pathlib.Path(run, "rollouts").iterdir()):
        for rollout in lines_of(path):
            if rollout["rewards"][0] == 1:
                first, last = math.exp(rollout["reference_logp"]), math.exp(rollout["old_logp"])
                break
    tilt = math.exp(1 / float(beta))
    best = first * tilt / (1 - first + first * tilt)
    print(f"| {beta} | {seed} | {first:.4f} | {best:.4f} | {last:.4f} | {abs(last - best):.4f} |")


def short_prompts(source, to):
    """The prompts of TRL's curve: the first eight of at most 128 tokens, of which a word is several."""
    from tokenizers import Tokenizer
    model = pathlib.Path(source).parent.parent / "models/stories260K/tokenizer.json"
    tokenizer = Tokenizer.from_file(str(model))
    rows = [{"prompt": row["prompt"]} for row in lines_of(source) if len(tokenizer.encode(row["prompt"]).ids) <= 128]
    write(to, rows[:8])


def letter(run, record, seed):
    peer = [step["reward"] for step in json.load(open(record))["steps"]]
    ours = [line["reward"] for line in lines_of(f"{run}/metrics.jsonl") if "reward" in line]
    assert len(ours) == len(peer), "as many steps"
    shown = [0, 6, 12, 59]
    ratio = lambda step: (ours[step] - ours[0]) / (peer[step] - peer[0])
    texts = [", ".join(f"{rewards[i]:.2f}" for i in shown) for rewards in (peer, ours)]
    print(f"| {seed} | {texts[0]} | {texts[1]} | {ratio(12):.2f} | {ratio(59):.2f} |")


def split(source):
    """Pairs that fit the model's 512 positions; 128 of the shorter ones are held out."""
    fits = lambda row, limit: len(row["prompt"]) + max(len(row["chosen"]), len(row["rejected"])) <= limit
    rows = [row for row in lines_of(source) if fits(row, 800) and row["chosen"].strip() and row["rejected"].strip()]
    random.Random(1).shuffle(rows)
    short = lambda row: len(row["prompt"]) <= 300
    held_out = [row for row in rows if short(row)][:128]
    names = {row["prompt"] for row in held_out}
    rest = [row for row in rows if row["prompt"] not in names]
    write("hh_held_out.jsonl", [{"prompt": row["prompt"]} for row in held_out])
    write("hh_held_out_pairs.jsonl", held_out)
    write("hh_first.jsonl", rest[::2])
    write("hh_second.jsonl", rest[1::2])
    write("hh_sft.jsonl", [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rest if short(row)])
    write("hh_prompts.jsonl", [{"prompt": row["prompt"]} for row in rest if short(row)])


def hh(half):
    pairs = lines_of(f"hh_pairs.{half}.jsonl")
    accuracy = sum(row["chosen_reward"] > row["rejected_reward"] for row in pairs) / len(pairs)
    before, after = (lines_of(f"{policy}.{half}.jsonl") for policy in ("hh_sft", "hh_grpo"))
    assert [row["prompt"] for row in before] == [row["prompt"] for row in after], "the same prompts"
    wins = [(b["reward"] > a["reward"]) + (b["reward"] == a["reward"]) / 2 for a, b in zip(before, after)]
    kl = [line["kl"] for line in lines_of("hh_grpo/metrics.jsonl") if "kl" in line][-10:]
    print(f"| {half} | {accuracy:.3f} | {sum(wins) / len(wins):.3f} | {sum(kl) / len(kl):.3f} |")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
