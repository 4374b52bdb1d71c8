"""Writes the Parquet files of tests/fuzz/seeds/parquet and the rows of the good ones as JSON Lines in
tests/io/records/parquet, as `datasets` writes them. Run by hand with pyarrow 26 and datasets 5.2:

    python3 tests/io/records/make_parquet.py
"""
import datetime
import decimal
import json
import pathlib
import random
import tempfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parents[3]
SEEDS = ROOT / "tests/fuzz/seeds/parquet"
ROWS = ROOT / "tests/io/records/parquet"

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())]))


def turn(role, content, name=None):
    return {"role": role, "content": content, "name": name}


def write(name, table, **options):
    path = SEEDS / name
    pq.write_table(table, path, **options)
    if not name.startswith("ok_"):
        return
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.Dataset.from_parquet(str(path), cache_dir=cache)
        rows.to_json(str(ROWS / f"{name[3:]}.jsonl"))


def conversations():
    rows = [[turn("user", f"What is {i}?"), turn("assistant", f"{i}, naïvely 🙂" if i % 3 else None)] for i in range(40)]
    rows[7], rows[8] = [], None
    return pa.table({"messages": pa.array(rows, MESSAGES), "id": pa.array(range(40), pa.int32())})


def types():
    return pa.table({
        "flag": pa.array([True, None, False]),
        "i8": pa.array([-128, None, 127], pa.int8()),
        "u16": pa.array([0, 65535, None], pa.uint16()),
        "u64": pa.array([0, 2**64 - 1, None], pa.uint64()),
        "i64": pa.array([-2**63, None, 2**63 - 1], pa.int64()),
        "half": pa.array([0.5, None, 2.0], pa.float16()),
        "single": pa.array([0.5, float("inf"), None], pa.float32()),
        "double": pa.array([0.1, float("nan"), None], pa.float64()),
        "text": pa.array(["a", "", None]),
        "large": pa.array(["\u00e9", "\x00", None], pa.large_string()),
        "words": pa.array([["x", None], [], None], pa.large_list(pa.large_string())),
        "pair": pa.array([[1, 2], [3, 4], None], pa.list_(pa.int64(), 2)),
        "nested": pa.array([{"a": {"b": [[1], []]}}, {"a": None}, None]),
        "label": pa.array(["x", "y", None]).dictionary_encode(),
        "nothing": pa.nulls(3),
        "day": pa.array([datetime.date(2024, 1, 2), datetime.date(1969, 12, 31), None]),
        "seconds": pa.array([1, -1, None], pa.timestamp("s")),
        "micros": pa.array([1_999, -1, None], pa.timestamp("us", tz="UTC")),
        "price": pa.array([decimal.Decimal("1.50"), decimal.Decimal("-0.05"), None]),
    })


def main():
    for folder in (SEEDS, ROWS):
        folder.mkdir(parents=True, exist_ok=True)
    write("ok_conversations", conversations(), row_group_size=7, compression="zstd")
    write("ok_types", types(), compression="snappy")
    random.seed(1)
    pairs = [{"prompt": f"p{i}", "chosen": random.choice("abc"), "rejected": random.choice("xyz")} for i in range(64)]
    write("ok_pairs", pa.Table.from_pylist(pairs), data_page_version="2.0", compression="gzip", data_page_size=64)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"x": [1, "a"]}}}, {"type": "other", "of": None}]
    rows = datasets.Dataset.from_list([{"tools": tools, "prompt": "a"}, {"tools": [], "prompt": "b"}],
                                      on_mixed_types="use_json")
    write("ok_json", rows.data.table)
    write("bad_no_rows", pa.table({"text": pa.array([], pa.string())}))
    write("bad_binary", pa.table({"text": ["a"], "image": pa.array([b"\xff\x00"])}))
    write("bad_same_name", pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]))
    write("bad_time", pa.table({"text": ["a"], "at": pa.array([datetime.time(1, 2, 3)])}))
    not_utf8 = pa.Array.from_buffers(pa.string(), 1, pa.array([b"a\xff"]).buffers())
    write("bad_not_utf8", pa.Table.from_arrays([not_utf8], names=["text"]))
    whole = (SEEDS / "ok_pairs").read_bytes()
    (SEEDS / "bad_page").write_bytes(whole[:60] + bytes(b ^ 0x55 for b in whole[60:100]) + whole[100:])
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    (SEEDS / "bad_footer").write_bytes(whole[:footer] + b"\xff" * 20 + whole[footer + 20:])
    for path in sorted(ROWS.glob("*.jsonl")):
        print(path.name, len(path.read_text().splitlines()), json.loads(path.read_text().splitlines()[0]))


if __name__ == "__main__":
    main()
