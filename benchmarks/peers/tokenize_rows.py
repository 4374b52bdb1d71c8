"""JSON Lines {"text"} on standard input to {"ids"} on standard output with Hugging Face tokenizers, as plumb tokenize.

    TOKENIZERS_PARALLELISM=false python tokenize_rows.py MODEL_DIR < texts.jsonl > ids.jsonl

Texts go to the Rust library 256 at a time. Its processor time, without Python's for JSON and without loading, is the
last line on standard error.
"""
import json
import sys
import time

from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1]).backend_tokenizer
texts = [json.loads(line)["text"] for line in sys.stdin]
seconds = 0.0
for begin in range(0, len(texts), 256):
    before = time.process_time()
    encodings = tokenizer.encode_batch(texts[begin : begin + 256])
    seconds += time.process_time() - before
    for encoding in encodings:
        print('{"ids":%s}' % json.dumps(encoding.ids, separators=(",", ":")))
print(seconds, file=sys.stderr)
