"""NF4 checkpoints between plumb and transformers with bitsandbytes, in both directions, on the CPU.

nf4_round_trip.py PLUMB WORK_DIRECTORY [MODEL_DIR...]

For each MODEL_DIR (by default a random Llama) in float32 and in bfloat16, with and without quantized scales:
  theirs -> plumb   what transformers writes has, dequantized by plumb, the bits that bitsandbytes gives it
  plumb -> theirs   what `plumb quantize` writes has, loaded by transformers, the bits that plumb gives it
  codes             how many 4-bit codes and 8-bit scales of the two differ
plumb's own dequantized weights are those that a step of learning rate 0 exports. Prints one line per case and direction.
"""

import copy
import json
import pathlib
import shutil
import subprocess
import sys

import bitsandbytes
import torch
import transformers
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

ROWS = "".join(json.dumps({"text": f"row {i} says {i * i}"}) + "\n" for i in range(8))


def run(*arguments: object) -> None:
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{arguments}: {result.stderr}")


def exported_by_plumb(plumb: pathlib.Path, model: pathlib.Path, work: pathlib.Path) -> dict[str, torch.Tensor]:
    """The float32 weights that plumb reads from a directory."""
    (work / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    out = work / "exported"
    shutil.rmtree(out, ignore_errors=True)
    run(plumb, "sft", "--model", model, "--data", work / "rows.jsonl", "--output_dir", out, "--max_steps", 1,
        "--learning_rate", 0, "--lora_r", 1, "--threads", 1)
    run(plumb, "merge", "--model", model, "--adapter", out / "adapter", "--output_dir", out / "numbers",
        "--dtype", "float32", "--threads", 1)
    model = AutoModelForCausalLM.from_pretrained(out / "numbers", dtype=torch.float32)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def dequantized(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights as bitsandbytes has them, in float32, without any of its inference-only repacking."""
    values = {}
    for name, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = copy.copy(module.weight.quant_state)
            shape, state.shape = state.shape, torch.Size([1, state.shape.numel()])  # rows of 96 are misread on the CPU
            values[name + ".weight"] = dequantize_4bit(module.weight.data, state).float().reshape(shape)
    for name, parameter in model.named_parameters():
        values.setdefault(name, parameter.detach().float())
    return values


def count_different(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> tuple[int, int]:
    if a.keys() != b.keys():
        raise SystemExit(f"other tensors: {sorted(a.keys() ^ b.keys())}")
    different = sum(int((a[name] != b[name]).sum()) for name in a)
    return different, sum(t.numel() for t in a.values())


def nibbles(codes: torch.Tensor) -> torch.Tensor:
    return torch.stack([codes.flatten() >> 4, codes.flatten() & 15], 1).flatten()


def compare_parts(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> str:
    if ours.keys() != theirs.keys():
        raise SystemExit(f"other tensors: {sorted(ours.keys() ^ theirs.keys())}")
    codes = codes_off = scales = scales_off = scale_steps = 0
    mean_off = scale_bits_off = 0.0
    for name, tensor in ours.items():
        other = theirs[name]
        if "quant_state" in name:
            a, b = (json.loads(bytes(t.numpy())) for t in (tensor, other))
            means = [d.pop("nested_offset", 1.0) for d in (a, b)]
            mean_off = max(mean_off, abs(means[0] / means[1] - 1))
            if a != b:
                raise SystemExit(f"{name}: {a} and {b}")
        elif tensor.shape != other.shape or tensor.dtype != other.dtype:
            raise SystemExit(f"{name}: {tensor.dtype} of {tensor.shape}, theirs {other.dtype} of {other.shape}")
        elif name + ".absmax" in ours:
            codes += 2 * tensor.numel()
            codes_off += int((nibbles(tensor) != nibbles(other)).sum())
        elif name.endswith("weight.absmax"):
            scales += tensor.numel()
            difference = (tensor.double() - other.double()).abs()
            scales_off += int((difference != 0).sum())
            if tensor.dtype == torch.uint8:
                scale_steps = max(scale_steps, int(difference.max()))
        elif "nested_absmax" in name:
            scale_bits_off = max(scale_bits_off, float((tensor / other - 1).abs().max()))
        elif not torch.equal(tensor, other):
            raise SystemExit(f"{name} differs")
    return (f"codes {codes_off} of {codes} differ; scales {scales_off} of {scales}, by at most {scale_steps} steps; "
            f"nested scales by {scale_bits_off:.1e}, mean by {mean_off:.1e} (relative)")


def random_llama(plumb: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    """Matrices have several groups of scales and end in partial blocks."""
    source = work / "llama"
    run(plumb, "init", "--output_dir", source, "--overwrite_output_dir", "true", "--hidden_size", 192,
        "--intermediate_size", 520, "--num_layers", 3, "--num_heads", 6, "--num_kv_heads", 2)
    return source


def as_type(model_directory: pathlib.Path, source: pathlib.Path, dtype: str) -> None:
    """The model as transformers writes it, which may be under other names than those of its files."""
    shutil.rmtree(source, ignore_errors=True)
    AutoModelForCausalLM.from_pretrained(model_directory, dtype=getattr(torch, dtype)).save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_directory / name, source / name)


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    plumb, work, *directories = (pathlib.Path(a).resolve() for a in sys.argv[1:])
    work.mkdir(parents=True, exist_ok=True)
    transformers.utils.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, bitsandbytes {bitsandbytes.__version__}")
    for directory in directories or [random_llama(plumb, work)]:
        compare_model(plumb, work, directory)


def compare_model(plumb: pathlib.Path, work: pathlib.Path, directory: pathlib.Path) -> None:
    for dtype in ("float32", "bfloat16"):
        source = work / f"source-{dtype}"
        as_type(directory, source, dtype)
        for is_nested in (True, False):
            case = f"{directory.name}, {dtype}, {'8-bit' if is_nested else 'float32'} scales"
            theirs, ours = work / "theirs", work / "ours"
            config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                        bnb_4bit_use_double_quant=is_nested,
                                        bnb_4bit_compute_dtype=getattr(torch, dtype))
            model = AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype=getattr(torch, dtype))
            model.save_pretrained(theirs)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(source / name, theirs / name)
            different, total = count_different(exported_by_plumb(plumb, theirs, work), dequantized(model))
            print(f"{case}: theirs -> plumb: {different} of {total} values differ")
            if any(".experts." in name for name, _ in model.named_parameters()):
                continue  # which bitsandbytes leaves alone and plumb quantizes

            run(plumb, "quantize", "--model", source, "--output_dir", ours, "--overwrite_output_dir", "true",
                "--double_quant", str(is_nested).lower())
            loaded = AutoModelForCausalLM.from_pretrained(ours, dtype=getattr(torch, dtype))
            kinds = {type(m).__name__ for m in loaded.modules()}
            if "Linear4bit" not in kinds:
                raise SystemExit("transformers did not load the quantized model as such")
            different, total = count_different(exported_by_plumb(plumb, ours, work), dequantized(loaded))
            print(f"{case}: plumb -> theirs: {different} of {total} values differ")
            print(f"{case}: {compare_parts(load_file(ours / 'model.safetensors'), load_file(theirs / 'model.safetensors'))}")
            configs = [json.loads((d / "config.json").read_text())["quantization_config"] for d in (ours, theirs)]
            print(f"{case}: quantization_config {'is the same' if configs[0] == configs[1] else configs}")
            numbers = AutoModelForCausalLM.from_pretrained(work / "exported" / "numbers", dtype=getattr(torch, dtype))
            tokens = torch.arange(16)[None]
            with torch.no_grad():  # in training mode, as bitsandbytes' inference on the CPU rounds scales to bfloat16
                logits = [m.train()(input_ids=tokens).logits.float() for m in (loaded, numbers)]
            print(f"{case}: logits in transformers, plumb's NF4 against plumb's export of it: at most "
                  f"{float((logits[0] - logits[1]).abs().max()):.1e} apart, of {float(logits[1].abs().max()):.2f}")


if __name__ == "__main__":
    main()
