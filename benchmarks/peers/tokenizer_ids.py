"""Ids of plumb tokenize beside those of AutoTokenizer, for texts on which tokenizers differ.

    HF_HUB_OFFLINE=1 python tokenizer_ids.py PLUMB MODEL_DIR...

Texts hold the special tokens of each directory at both ends, in a row, and within words and spaces.
"""
import json
import subprocess
import sys

from transformers import AutoTokenizer

TEXTS = [
    *("", " ", "  ", "\n", "\t", "a", " a", "a ", "  a  ", " Hello  world ", "Hello   world\n\n\nBye", "\n\nHello\n"),
    *("\tdef f(x):\n\t\treturn x+1\n", "for(int i=0;i<10;++i){a[i]=i*i;}", '{"key": [1, {"n": null}]}\r\n\r\nCRLF\r'),
    *("1234567890", "3.14159 and 1,000,000", "2024-11-30T12:00:00Z", "x=1;y=22;z=333;w=4444", "①②③ ½ ⅷ", "٣٤٥ १२३"),
    *("漢字かな交じり文です。", "你好，世界！", "안녕하세요 세계", "Привет, мир! Ёлка", "مرحبا بالعالم", "สวัสดีชาวโลก", "हिन्दी में"),
    *("é vs e\u0301", "\u1e9b\u0323 ﬁ Å Å", "a\u0301\u0302b", "👍🏽👨‍👩‍👧‍👦 🏳️‍🌈", "\u200bzero\u200dwidth\ufeff", "\u00a0nbsp\u3000wide"),
    *("it's I'll you've we'd they're I'm can't", "IT'S I'LL", "don’t “quote” — dash…", "a@b.com; C:\\path\\f.txt"),
    *("http://example.com/a?b=c&d=e#f", "a" * 64, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamter"),
    *("MixedCase camelCaseWord snake_case HTTPServer", "Zürich naïve œuvre ŁÓDŹ", "▁a ▁▁b", "<0x0A><0x41>", "\0\1\x7f c"),
    *("<s>Hello</s>", "Hello <s> world </s> again", "<unk> a <pad>b", "[INST] Hi [/INST] there", "<|endoftext|>Hi"),
    *(" <|im_start|>user\nHi<|im_end|>\n", "<bos><start_of_turn>user\nHi<end_of_turn>\n"),
    *("{0} x{1} y {2}z", "{0}{1}{0}", "{0} ", " {0}", "a{0}b{1} c\n{2}\nd", "{0}\n{1}", "x {2}"),
]
program, *directories = sys.argv[1:]
num_equal = 0
for directory in directories:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    special = (tokenizer.all_special_tokens or ["<s>"]) * 3
    texts = [text.replace("{0}", special[0]).replace("{1}", special[1]).replace("{2}", special[2]) for text in TEXTS]
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    run = subprocess.run([program, "tokenize", "--model", directory], input=rows, capture_output=True, text=True)
    ours = [json.loads(line)["ids"] for line in run.stdout.splitlines()]
    theirs = [tokenizer(text)["input_ids"] for text in texts]
    different = [text for text, a, b in zip(texts, ours, theirs) if a != b]
    is_equal = ours == theirs
    num_equal += is_equal
    note = "" if is_equal else f": {different[:3]} {run.stderr.strip()[:200]}"
    print(f"{'equal' if is_equal else 'DIFFERENT'} {directory} ({type(tokenizer).__name__}){note}", flush=True)
print(f"{num_equal} of {len(directories)} directories, {len(TEXTS)} texts each")
sys.exit(num_equal != len(directories))
