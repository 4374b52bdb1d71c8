"""A real model in transformers and in llama.cpp, for ../real_model.sh.

real_model.py make GGUF_FILE DIRECTORY          a Hugging Face directory of the model in the GGUF file
real_model.py transformers DIRECTORY ROWS N     greedy answers of at most N tokens to the first turn of each row
real_model.py llama.cpp GGUF_FILE ROWS N        the same by llama.cpp (xllamacpp), with its own tokenizer and template

Answers are JSON, one to a line.
"""

import json
import os
import sys


def make(gguf_file: str, directory: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = os.path.split(gguf_file)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False  # its weights are float32 now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(directory)
    # transformers leaves out the digits of the pre-tokenizer "smollm": each is a word
    path = os.path.join(directory, "tokenizer.json")
    with open(path, encoding="utf-8") as file:
        tokenizer = json.load(file)
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, tokenizer["pre_tokenizer"]]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(tokenizer, file, ensure_ascii=False)


def first_turns(path: str) -> list:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line)["messages"][:1] for line in file if line.strip()]


def transformers_answers(directory: str, rows: str, count: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    for messages in first_turns(rows):
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            out = model.generate(**ids, max_new_tokens=count, do_sample=False)
        print(json.dumps(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)))


def llama_cpp_answers(gguf_file: str, rows: str, count: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf_file
    params.n_ctx = 2048
    params.n_parallel = 1
    params.verbosity = -1
    server = xllamacpp.Server(params)
    for messages in first_turns(rows):
        answer = server.handle_chat_completions(
            {"messages": messages, "max_tokens": count, "temperature": 0, "cache_prompt": False}
        )
        print(json.dumps(answer["choices"][0]["message"]["content"]))
    sys.stdout.flush()
    os._exit(0)  # the server's threads are waiting for more


def main() -> None:
    actions = {"make": make, "transformers": transformers_answers, "llama.cpp": llama_cpp_answers}
    if len(sys.argv) < 4 or sys.argv[1] not in actions:
        raise SystemExit(__doc__)
    arguments = sys.argv[2:]
    actions[sys.argv[1]](*arguments[:2], *map(int, arguments[2:]))


if __name__ == "__main__":
    main()
