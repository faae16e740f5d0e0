"""Writes the seeds of the fuzz targets: small well-formed files, and hostile ones by name.

Standard library only, but for the Parquet files, which need `pip install pyarrow` and are left as they are without it. Cases that a fuzzer found are kept beside them as `found-*`; this script leaves those alone.
"""

import csv
import io
import json
import pathlib
import struct
import tarfile
import zipfile

SEEDS = pathlib.Path(__file__).parent / "seeds"
GOLDENS = pathlib.Path(__file__).parent.parent / "crates" / "engine" / "tests" / "golden"


def write(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def safetensors(header, values):
    text = header if isinstance(header, bytes) else compact(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    two = {
        "__metadata__": {"format": "pt"},
        "a": entry("F32", [2, 2], 0, 16),
        "b": entry("BF16", [3], 16, 22),
        "c": entry("I8", [2, 1], 22, 24),
        "e": entry("F16", [0], 24, 24),
    }
    values = struct.pack("<4f", 1, -2, 0.5, 3) + bytes([0x80, 0x3F] * 3) + bytes([1, 255])
    write("safetensors", "four", safetensors(two, values))
    write("safetensors", "empty", safetensors({}, b""))
    write("safetensors", "not-finite", safetensors({"a": entry("F32", [2], 0, 8)}, struct.pack("<2f", float("nan"), float("inf"))))
    write("safetensors", "cut-off", safetensors(two, values)[:-1])
    write("safetensors", "header-too-long", struct.pack("<Q", 2**63) + b"{}")
    write("safetensors", "overlap", safetensors({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, bytes(3)))
    write("safetensors", "absurd-shape", safetensors({"a": entry("F32", [2**62, 2**62], 0, 4)}, bytes(4)))
    write("safetensors", "offsets-past-2-64", safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551616]}}', bytes(4)))
    write("safetensors", "one-name-twice", safetensors(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', bytes(2)))


def gguf(values, tensors, data, version=3):
    def text(x):
        return struct.pack("<Q", len(x)) + x.encode()

    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    for key, kind, value in values:
        out += text(key) + struct.pack("<I", kind) + (text(value) if kind == 8 else value)
    for name, axes, kind, offset in tensors:
        out += text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, kind, offset)
    return out + bytes(-len(out) % 32) + data


def gguf_seeds():
    values = [
        ("general.architecture", 8, "bert"),
        ("bert.block_count", 4, struct.pack("<I", 2)),
        ("eps", 6, struct.pack("<f", 1e-12)),
        ("tokens", 9, struct.pack("<IQ", 8, 2) + struct.pack("<Q", 1) + b"a" + struct.pack("<Q", 0)),
        ("scores", 9, struct.pack("<IQ2f", 6, 2, 0.5, -1)),
    ]
    blocks = [(2, 18, 32), (3, 20, 32), (6, 22, 32), (7, 24, 32), (8, 34, 32), (10, 84, 256), (11, 110, 256), (12, 144, 256), (13, 176, 256), (14, 210, 256)]
    tensors, data = [], b""
    for kind, size, count in blocks:
        tensors.append((f"t{kind}", [count], kind, len(data)))
        data += bytes(range(size)) + bytes(-size % 32)
    write("gguf", "every-block", gguf(values, tensors, data))
    write("gguf", "empty", gguf([], [], b"", version=2))
    one = [("t", [2, 2], 0, 0)]
    write("gguf", "one", gguf([], one, struct.pack("<4f", 1, -2, 0.5, 3)))
    write("gguf", "cut-off", gguf([], one, bytes(15)))
    write("gguf", "overlap", gguf([], [("a", [8], 0, 0), ("b", [4], 0, 0)], bytes(32)))
    write("gguf", "absurd-shape", gguf([], [("a", [2**62, 2**62], 0, 0)], bytes(4)))
    write("gguf", "axis-of-0", gguf([], [("a", [0, 2**62], 0, 0)], bytes(4)))
    write("gguf", "list-past-the-end", gguf([("k", 9, struct.pack("<IQ", 10, 2**60))], [], b""))
    write("gguf", "list-of-lists", gguf([("k", 9, struct.pack("<IQ", 9, 1))], [], b""))
    write("gguf", "unread-format", gguf([], [("a", [32], 20, 0)], bytes(18)))


def shard_index_seeds():
    good = {"metadata": {"total_size": 8}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    write("shard_index", "two", compact(good))
    for name, file in [("above", "../model.safetensors"), ("root", "/etc/passwd"), ("here", "."), ("nothing", "")]:
        write("shard_index", name, compact({"weight_map": {"a": file}}))


def state_dict(tensors):
    """The pickle of protocol 2 that torch.save writes for a state dict of F32 tensors, each with a storage of its own."""
    text = lambda s: b"X" + struct.pack("<I", len(s)) + s.encode()
    number = lambda n: b"J" + struct.pack("<i", min(n, 2**31 - 1))
    out = b"\x80\x02ccollections\nOrderedDict\nq\x00)R("
    for key, (name, shape, offset) in enumerate(tensors):
        values = 1
        strides = []
        for size in reversed(shape):
            strides.insert(0, values)
            values *= size
        out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
        out += text(str(key)) + text("cpu") + number(values) + b"tQ" + number(offset)
        out += b"(" + b"".join(map(number, shape)) + b"t(" + b"".join(map(number, strides)) + b"t\x89"
        out += b"ccollections\nOrderedDict\n)RtR"
    return out + b"u."


def torch_seeds():
    layer = [("weight", [1, 4], 0), ("bias", [1], 0)]
    storages = {"layer/data/0": struct.pack("<4f", 1, -2, 3, 0.5), "layer/data/1": struct.pack("<f", 0.25)}
    good = {"layer/data.pkl": state_dict(layer), "layer/version": b"3\n", **storages}
    write("torch", "layer", stored(good))
    write("torch", "cut-off", stored(good)[:-40])
    write("torch", "past-its-storage", stored({**good, "layer/data.pkl": state_dict([("weight", [1, 4], 1)])}))
    write("torch", "absurd-shape", stored({**good, "layer/data.pkl": state_dict([("weight", [2**31 - 1, 2**31 - 1], 0)])}))
    write("torch", "a-call", stored({**good, "layer/data.pkl": b"cos\nsystem\n(X\x04\x00\x00\x00truetR."}))
    write("torch", "without-end", stored({**good, "layer/data.pkl": state_dict(layer)[:-1]}))
    nested = b"\x80\x02)" + b"\x85" * 5000 + b"."
    write("torch", "nested", stored({**good, "layer/data.pkl": nested}))
    write("torch", "no-pickle", stored(storages))
    write("torch", "compressed", zipped(good))
    write("torch", "big-endian", stored({**good, "layer/byteorder": b"big"}))
    write("torch", "little-endian", stored({**good, "layer/byteorder": b"little"}))
    write("torch", "before-zips", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + state_dict(layer))
    twice = [("weight", [1, 4], 0), ("weight", [1], 0)]
    write("torch", "twice", stored({**good, "layer/data.pkl": state_dict(twice)}))
    # What a module puts beside its tensors: `_metadata`, a dictionary of dictionaries, as an attribute.
    beside = b"}X\x09\x00\x00\x00_metadataccollections\nOrderedDict\n)RX\x00\x00\x00\x00}X\x07\x00\x00\x00versionK\x01sssb."
    write("torch", "metadata", stored({**good, "layer/data.pkl": state_dict(layer)[:-1] + beside}))
    # A dictionary that is put into itself, and one that is not of tensors.
    write("torch", "within-itself", stored({**good, "layer/data.pkl": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."}))
    far = b"\x80\x02}r\xff\xff\x00\x00."
    write("torch", "far-memo", stored({**good, "layer/data.pkl": far}))


def stored(files):
    """A zip of files as they are, dated as the format begins, so that it is the same on every run."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def npy(header, values, version=1):
    text = header.encode()
    length = struct.pack("<H", len(text)) if version == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + values


def npy_seeds():
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"
    write("npy", "two-by-three", npy(header, struct.pack("<6f", *range(6))))
    write("npy", "version-2", npy(header, struct.pack("<6f", *range(6)), version=2))
    write("npy", "cut-off", npy(header, bytes(23)))
    write("npy", "absurd-shape", npy(header.replace("2, 3", "9223372036854775807, 9223372036854775807"), b""))
    write("npy", "no-width", npy(header.replace("2, 3", "0, 0"), b""))


def packed(rows, data, version=1, count=None):
    """The checksum of the table is left 0: the case sets it right. That of an empty run is the hash of nothing."""
    table = b"".join(struct.pack("<QQQQQ", key, 0, offset, length, 0x2D06800538D394C2) for key, offset, length in rows)
    header = b"EMBRALPK" + struct.pack("<II", version, len(rows) if count is None else count) + bytes(48)
    return header + table + bytes(-(64 + len(table)) % 64) + data


def packed_seeds():
    write("packed", "two", packed([(1, 192, 0), (2, 192, 8)], bytes(8)))
    write("packed", "empty", packed([], b""))
    write("packed", "version-2", packed([], b"", version=2))
    write("packed", "cut-off", packed([(1, 128, 8)], bytes(7)))
    write("packed", "run-in-the-table", packed([(1, 64, 8)], bytes(8)))
    write("packed", "not-on-a-line", packed([(1, 130, 4)], bytes(8)))
    write("packed", "past-2-64", packed([(1, 128, 2**64 - 1)], bytes(8)))
    write("packed", "one-key-twice", packed([(1, 192, 0), (1, 192, 0)], b""))
    write("packed", "absurd-count", packed([], b"", count=2**32 - 1))


BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}
QWEN3 = {
    "model_type": "qwen3",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "attention_bias": False,
}


def config_seeds():
    write("config", "bert", compact(BERT))
    write("config", "qwen3", compact(QWEN3))
    write("config", "absurd-sizes", compact(BERT | {"hidden_size": 2**40, "vocab_size": 2**63}))
    write("config", "no-heads", compact(BERT | {"num_attention_heads": 0}))
    write("config", "heads-do-not-divide", compact(QWEN3 | {"num_key_value_heads": 3}))
    write("config", "deep", "[" * 5000)
    # One of each architecture.
    for file in sorted(GOLDENS.glob("tiny_*/config.json")):
        write("config", file.parent.name, compact(json.loads(file.read_text(encoding="utf-8"))))


def modules_seeds():
    kinds = ["sentence_transformers.models.Transformer", "sentence_transformers.sentence_transformer.modules.pooling.Pooling", "x.Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    write("modules", "three", compact([{"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(zip(paths, kinds))]))
    write("modules", "above", compact([{"type": kinds[0], "path": "../../etc"}]))
    write("modules", "pooling-switches", compact({"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}))
    write("modules", "pooling-name", compact({"embedding_dimension": 32, "pooling_mode": "lasttoken", "include_prompt": False}))
    write("modules", "dense", compact({"in_features": 32, "out_features": 16, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}))
    write("modules", "dense-absurd", compact({"in_features": 2**63, "out_features": -1}))
    write("modules", "prompts", compact({"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query", "similarity_fn_name": "cosine"}))
    write("modules", "prompt-is-missing", compact({"prompts": {}, "default_prompt_name": "query"}))


def tokenizer_seeds():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s", "sat", "e", ",", "query", ":"]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    special = [
        {"id": vocab[p], "content": p, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for p in pieces[:5]
    ]
    bert = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
    }
    write("tokenizer_json", "bert", compact(bert))
    bpe = {
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "unk_token": None, "vocab": {"a": 0, "c": 1, "t": 2, "\u0120": 3, "at": 4, "cat": 5}, "merges": [["a", "t"], ["c", "at"]]},
    }
    write("tokenizer_json", "bpe", compact(bpe))
    unigram = {
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFKC"}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [["<unk>", 0.0], ["\u2581", -1.0], ["a", -2.0], ["cat", -3.5]]},
    }
    write("tokenizer_json", "unigram", compact(unigram))
    words = {"added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "cat": 1}}}
    write("tokenizer_json", "word-level", compact(words))
    write("tokenizer_json", "ids-far-apart", compact(bert | {"model": bert["model"] | {"vocab": vocab | {"far": 2**32 - 1}}}))
    write("tokenizer_json", "unknown-is-missing", compact(words | {"model": words["model"] | {"unk_token": "<none>"}}))
    write("tokenizer_vocab", "bert", "\n".join(pieces) + "\n")
    write("tokenizer_vocab", "one-piece-twice", "[UNK]\n[CLS]\n[SEP]\na\na\n\n")


def text_seeds():
    lines = [{"text": "a cat", "id": 1}, {"text": "", "id": "x"}, {"id": [1], "text": "\u00e9\U0001f680"}]
    write("jsonl", "three", "\n".join(compact(line) for line in lines))
    write("jsonl", "lone-surrogate", '{"text":"\\ud83d","id":2}\n{"text":"a\\u0000b"}\n')
    write("jsonl", "text-is-no-string", '{"text":3}\n{"txt":"a"}\n[1]\nnull\n\n{"text":"a"')
    write("jsonl", "byte-order-mark", b'\xef\xbb\xbf{"text":"a"}\r\n\xff\xfe\n')
    write("jsonl", "deep", '{"id":' + "[" * 3000 + "\n" + '{"text":"after"}')
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerows([["id", "text"], [1, "a cat, sat"], [2, 'quoted "twice"\nand on'], [3, ""]])
    write("csv", "three", table.getvalue())
    write("csv", "uneven", "id,text\n1\n1,2,3\n4,a\n")
    write("csv", "quote-left-open", 'text\n"a\nb\n')
    write("csv", "no-text", "id,words\n1,a\n")


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tarred(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=9) as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.linkname = data
                archive.addfile(info)
    data = bytearray(buffer.getvalue())
    # The time of writing, in bytes 4 to 8 of a gzip file, would change the seed at every run.
    data[4:8] = bytes(4)
    return bytes(data)


def archive_seeds():
    model = {
        "pkg/model/config.json": compact(BERT).encode(),
        "pkg/model/model.safetensors": safetensors({"a": entry("F32", [1], 0, 4)}, bytes(4)),
        "pkg/model/tokenizer.json": b"{}",
    }
    write("archive", "model.zip", zipped(model))
    write("archive", "model.tar.gz", tarred([(name, tarfile.REGTYPE, data) for name, data in model.items()]))
    write("archive", "above.zip", zipped(model | {"../../above": b"x", "/root": b"y", "a\\..\\b": b"z"}))
    write("archive", "bomb.zip", zipped(model | {"pkg/model/zeros.json": bytes(1 << 20)}))
    files = [(name, tarfile.REGTYPE, data) for name, data in model.items()]
    links = [("pkg/model/link", tarfile.SYMTYPE, "/etc"), ("pkg/model/link/x", tarfile.REGTYPE, b"x"), ("../y", tarfile.REGTYPE, b"y")]
    write("archive", "links.tar.gz", tarred(files + links))
    write("archive", "cut-off.zip", zipped(model)[:-30])


def answer_seeds():
    """The first byte is the kind: OpenAI, TEI, Ollama, Cohere."""
    items = [{"index": 1, "embedding": [0.5, -1e-3]}, {"index": 0, "embedding": "AACAPwAAAEA="}]
    write("answer", "openai", "\0" + compact({"data": items, "usage": {"prompt_tokens": 5}}))
    write("answer", "openai-one-index-twice", "\0" + compact({"data": [items[0], items[0]]}))
    write("answer", "openai-no-base64", "\0" + compact({"data": [{"embedding": "AAA"}]}))
    write("answer", "openai-error", "\0" + compact({"error": {"message": "no", "code": None}}))
    write("answer", "tei", "\1" + compact([[1, 2.5], [3, None]]))
    write("answer", "tei-nan", "\1[[NaN,1e999]]")
    write("answer", "tei-deep", "\1" + "[" * 3000)
    write("answer", "ollama", "\2" + compact({"model": "m", "embeddings": [[1, 2]], "prompt_eval_count": 3}))
    write("answer", "cohere", "\3" + compact({"embeddings": {"float": [[1]]}, "meta": {"billed_units": {"input_tokens": 3.0}}}))
    write("answer", "cohere-cut-off", "\3" + compact({"embeddings": {"float": [[1, 2]]}})[:-7])


def message(*fields):
    """Fields of a protobuf message, each a number and its bytes."""

    def varint(n):
        return bytes([n & 127 | 128]) + varint(n >> 7) if n > 127 else bytes([n])

    return b"".join(varint(number << 3 | 2) + varint(len(data)) + data for number, data in fields)


def onnx_seeds():
    graphs = GOLDENS.parents[2] / "onnx" / "tests" / "graphs"
    for name in ("both", "cache", "dynamic", "external", "logits", "one_row", "unsigned_by_column"):
        write("onnx", name, (graphs / f"{name}.onnx").read_bytes())
    write("onnx", "cut-off", (graphs / "both.onnx").read_bytes()[:-40])
    deep = b""
    for _ in range(2000):
        deep = message((1, message((5, message((6, deep))))))
    write("onnx", "deep", message((7, deep)))
    write("onnx", "no-graph", message((2, b"nobody")))
    absurd = message((8, b"w")) + bytes([1 << 3]) + b"\xff" * 8 + b"\x7f"
    write("onnx", "absurd-shape", message((7, message((5, absurd)))))
    write("onnx", "endless-integer", message((7, message((5, message((7, b"\xff" * 12)))))))


def parquet_seeds():
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        print("no pyarrow: the seeds of parquet are left as they are")
        return
    texts = ["a cat", None, "", "\u00e9\U0001f680"]
    columns = {
        "plain": {"text": pa.array(texts)},
        "dictionary-and-id": {"text": pa.array(texts).dictionary_encode(), "id": pa.array([1, 2, None, 4], pa.int64())},
        "bytes": {"text": pa.array([b"a", b"\xff", None], pa.binary())},
        "numbers": {"text": pa.array([1, 2, 3], pa.int32())},
        "no-text": {"words": pa.array(["a"])},
        "no-row": {"text": pa.array([], pa.string())},
    }
    for name, table in columns.items():
        for compression in ["none", "zstd"] if name == "plain" else ["none"]:
            buffer = io.BytesIO()
            pq.write_table(pa.table(table), buffer, compression=compression, store_schema=False)
            write("parquet", name if compression == "none" else f"{name}-{compression}", buffer.getvalue())
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns["plain"]), buffer, compression="none")
    write("parquet", "cut-off", buffer.getvalue()[:-20])


def reference_seeds():
    """Files of reference vectors, and what is almost one."""
    texts = {"texts": ["a", "b"], "embeddings": [[1, -0.5], "AACAPwAAAL8="]}
    files = {
        "plain": {"version": 1, "made_with": "x", "sets": [texts]},
        "prompt-and-ids": {"version": 1, "sets": [{**texts, "prompt": "query", "prompt_text": "q: ", "ids": [[1], []]}]},
        "other-version": {"version": 2, "sets": [texts]},
        "widths": {"version": 1, "sets": [{**texts, "embeddings": [[1], [1, 2]]}]},
        "infinite": {"version": 1, "sets": [{**texts, "embeddings": [[1e39], "AACAfw=="]}]},
        "no-text": {"version": 1, "sets": [{"texts": [], "embeddings": []}]},
    }
    for name, value in files.items():
        write("reference", name, json.dumps(value).encode())


def request_seeds():
    """Bodies of requests to a server, behind the number of their path in cases/request.rs."""
    bodies = {
        "openai": (0, {"input": ["a", [1, 2]], "encoding_format": "base64", "dimensions": 2}),
        "openai-ids": (1, {"input": [101, 7592, 102], "model": "", "user": None}),
        "embed": (2, {"input": "a", "outputs": ["dense"], "encodings": ["float", "f16", "binary"], "prompt": "q: "}),
        "embed-chunks": (2, {"input": "One. Two. Three.", "chunking": {"by": "tokens", "size": 2, "late": True}, "aggregate": "mean"}),
        "embed-deep": (2, None),
        "rerank": (3, {"query": "a", "documents": ["b"], "top_n": 1}),
        "classify": (4, {"input": [["a", "b"], "c"]}),
        "similarity": (5, {"a": ["a", "b"], "b": ["c"], "input_type": "query"}),
        "tokenize": (6, {"input": ["a b"]}),
        "stream": (7, {"chunking": {"size": 4}}),
        "tei-embed": (8, {"inputs": ["a", [1, 2]], "truncate": True, "truncation_direction": "left", "normalize": False}),
        "tei-all": (9, {"inputs": "a"}),
        "tei-rerank": (11, {"query": "a", "texts": ["b"], "raw_scores": True}),
        "jina-rerank": (11, {"query": "a", "documents": [{"text": "b"}], "return_documents": True}),
        "tei-predict": (12, {"inputs": [["a"], ["a", "b"]]}),
        "tei-similarity": (13, {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {}}),
        "tei-tokenize": (14, {"inputs": "a b", "add_special_tokens": False}),
        "tei-decode": (15, {"ids": [[1, 2], [3]], "skip_special_tokens": False}),
        "tei-root": (16, {"inputs": "a", "parameters": {}}),
        "vertex": (17, {"instances": [{"inputs": "a"}]}),
        "ollama-embed": (19, {"model": "tiny_bert", "input": ["a"], "keep_alive": "5m", "options": {"num_ctx": None}}),
        "ollama-old": (20, {"model": "tiny_bert", "prompt": "a"}),
        "ollama-show": (21, {"name": "tiny_bert"}),
        "ollama-pull": (22, {"name": "../x", "stream": True}),
        "ollama-delete": (23, {"model": "/etc/passwd"}),
        "cohere-1": (24, {"texts": ["a"], "input_type": "search_query"}),
        "cohere-2": (25, {"texts": ["a"], "embedding_types": ["float", "ubinary"], "truncate": "END", "output_dimension": 4}),
        "cohere-inputs": (25, {"inputs": [{"content": [{"type": "text", "text": "a"}]}], "input_type": "classification"}),
        "cohere-rerank": (27, {"query": "a", "documents": ["b", {"text": "c"}], "top_n": 9}),
        "score": (30, {"text_1": "a", "text_2": ["b"]}),
    }
    for name, (path, body) in bodies.items():
        data = b'{"input":' + b"[" * 3000 if body is None else json.dumps(body).encode()
        write("request", name, bytes([path]) + data)
    write("request", "numbers", bytes([2]) + b'{"input":"a","dimensions":1e400,"timeout_ms":-0}')
    write("request", "bytes", bytes([0]) + b'{"input":"\xff\xfe"}')
    write("request", "half-a-pair", bytes([8]) + b'{"inputs":"\\ud800"}')


if __name__ == "__main__":
    safetensors_seeds()
    gguf_seeds()
    torch_seeds()
    shard_index_seeds()
    npy_seeds()
    packed_seeds()
    config_seeds()
    modules_seeds()
    tokenizer_seeds()
    text_seeds()
    archive_seeds()
    answer_seeds()
    reference_seeds()
    request_seeds()
    onnx_seeds()
    parquet_seeds()
