"""Writes crates/formats/tests/gguf/blocks.gguf: random blocks of every format that is read, and beside each, as NAME.decoded, what
the `gguf` package makes of them.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

ROOT = Path(__file__).resolve().parents[2] / "crates" / "formats" / "tests" / "gguf"
BLOCKS = 3
# Where the f16 factors of a block stand, so that they can be numbers of an ordinary size.
FACTORS = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}


def make(root=ROOT):
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    writer = gguf.GGUFWriter(root / "blocks.gguf", "test")
    writer.add_string("test.text", "naïve")
    writer.add_bool("test.flag", True)
    writer.add_int8("test.integer", -3)
    writer.add_uint64("test.large", 2**63)
    writer.add_float32("test.float", 1.5)
    writer.add_array("test.texts", ["a", "ß", ""])
    writer.add_array("test.integers", [1, -2])
    writer.add_array("test.floats", [0.5, -0.25])
    writer.add_array("test.flags", [True, False])
    values = rng.standard_normal((2, 5)).astype(np.float32)
    writer.add_tensor("f32", values)
    writer.add_tensor("f16", values.astype(np.float16))
    writer.add_tensor("bf16", gguf.quants.quantize(values, Type.BF16), raw_dtype=Type.BF16)
    for kind, places in FACTORS.items():
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (2, BLOCKS, size), dtype=np.uint8)
        for place in places:
            factor = (rng.standard_normal((2, BLOCKS, 1)) * 0.05).astype(np.float16)
            blocks[..., place : place + 2] = factor.view(np.uint8)
        rows = blocks.reshape(2, BLOCKS * size)
        writer.add_tensor(kind.name, rows, raw_dtype=kind)
        writer.add_tensor(f"{kind.name}.decoded", dequantize(rows, kind).astype(np.float32))
    # A format that is not read.
    writer.add_tensor("unread", np.zeros((1, 18), dtype=np.uint8), raw_dtype=Type.IQ4_NL)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

