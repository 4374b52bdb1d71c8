"""The stacks of `perf script -F ip,sym` as a table of the parts of a training step, and as a flame graph.
    python3 profile.py STACKS [FLAMES.svg]"""
import collections
import html
import re
import sys

STEP = "plumb::Trainer::step"
# the first of these frames, from the innermost outwards, names the part
PARTS = [
    ("sums of gradients over micro-batches", r"push_(summands|rows)"),
    ("loss (cross-entropy)", r"::cross_entropy"),
    ("attention", r"plumb::attention_(forward|backward)"),
    ("products", r"plumb::(product|matmul_into|matmul_accumulate|multiply_\w+)\b|BlockedProduct|multiply_tile"
     r"|::add_head_gradient|at::native::structured_(mm|addmm)"),
    ("norms", r"::(normalize_rows|add_normalize|recompute_norm|norm_backward|rms_norm)"),
    ("rotation", r"::rope"),
    ("activation", r"::feed_forward(_backward)?\b"),
    ("embedding: rows, gradient", r"::(embedding_gradient|gradient_rows|add_rows_by_token)|at::_ops::index_select"),
    ("gather", r"::(start_gather|finish_gather|prefetch|acquire)\b"),
    ("norm of the gradient", r"sum_of_squares"),
    ("update", r"(TrainableModel|ShardMemory)::update"),
]


def read_stacks(path):
    """Yields the frames of each sample, outermost first."""
    for block in open(path).read().split("\n\n"):
        frames = [m.group(1) for m in re.finditer(r"^\s*[0-9a-f]+ (.+)$", block, re.M)]
        if frames:
            yield [re.sub(r"\(anonymous namespace\)::", "", f) for f in reversed(frames)]


def part_of(frames):
    for frame in reversed(frames):
        for name, pattern in PARTS:
            if re.search(pattern, frame):
                return name
    return "other"


def print_table(stacks):
    counts = collections.Counter(part_of(frames) for frames in stacks)
    print("| part of the step | share |\n|---|---|")
    for name, count in counts.most_common():
        print(f"| {name} | {100 * count / len(stacks):.1f} % |")
    print(f"\n{len(stacks)} samples")


def write_flames(stacks, path, width=1200, height=16):
    """Frames of one depth side by side, as wide as their share; those below 0.3 % are left out."""
    root = {"n": 0, "children": {}}
    for frames in stacks:
        node = root
        node["n"] += 1
        for frame in frames:
            node = node["children"].setdefault(frame, {"n": 0, "children": {}})
            node["n"] += 1
    boxes, deepest = [], 0

    def draw(node, x, depth):
        nonlocal deepest
        deepest = max(deepest, depth)
        for name, child in sorted(node["children"].items()):
            w = width * child["n"] / root["n"]
            if w >= width * 0.003:
                short = re.sub(r"<.*|\(.*|plumb::|at::native::", "", name)[: int(w / 6.5)]
                color = f"hsl({sum(map(ord, name)) % 50 + 10},75%,65%)"
                boxes.append(f'<g><title>{html.escape(name[:160])} {100 * child["n"] / root["n"]:.1f} %</title>'
                             f'<rect x="{x:.1f}" y="{depth * height}" width="{w:.1f}" height="{height - 1}" fill="{color}"/>'
                             f'<text x="{x + 2:.1f}" y="{depth * height + 11}">{html.escape(short)}</text></g>')
                draw(child, x, depth + 1)
            x += w

    draw(root, 0, 0)
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {(deepest + 1) * height}" '
                   'font-family="sans-serif" font-size="10">\n' + "\n".join(boxes) + "\n</svg>\n")


def main():
    stacks = []
    for frames in read_stacks(sys.argv[1]):
        begin = next((i for i, frame in enumerate(frames) if frame.startswith(STEP)), None)
        if begin is not None:
            stacks.append(frames[begin:])
    if not stacks:
        sys.exit(f"{sys.argv[1]}: no sample is in {STEP}: expected the stacks of a program with symbols")
    print_table(stacks)
    if len(sys.argv) > 2:
        write_flames(stacks, sys.argv[2])


main()
