"""Writes the reference vectors of the real all-MiniLM-L6-v2: real_model.py MODEL_DIR OUT_DIR.

Needs sentence-transformers; the texts are ours. OUT_DIR gets texts.json and embeddings.npy, f32 [n, 384].
"""
import json, pathlib, sys

import numpy as np
from sentence_transformers import SentenceTransformer

TEXTS = [
    "a cat sat on the mat",
    "ein Hund läuft über die Straße",
    "",
    "   \t\n ",
    "What is the capital of France?",
    "Paris is the capital and most populous city of France.",
    "The mitochondrion is the powerhouse of the cell, and ATP synthase is its turbine.",
    "fn main() { println!(\"{}\", 6 * 7); }",
    "東京は日本の首都です。",
    "مرحبا بالعالم",
    "Ünïcödé, e\u0301 and \u00e9, soft\u00adhyphen, zero\u200bwidth, nul\u0000byte",
    "[CLS] [SEP] [MASK] written in the text",
    "word " * 400,
    "supercalifragilisticexpialidocious" * 8,
    "1234567890 3.14159 -273.15 6.02e23 $1,000.00 50%",
    "\U0001f600\U0001f680 emoji and \ufeff a byte order mark",
]
model_dir, out = sys.argv[1], pathlib.Path(sys.argv[2])
model = SentenceTransformer(model_dir, device="cpu")
model.max_seq_length = 256
rows = np.stack([model.encode(t, normalize_embeddings=True) for t in TEXTS]).astype("<f4")
out.mkdir(parents=True, exist_ok=True)
(out / "texts.json").write_text(json.dumps(TEXTS, indent=0) + "\n")
np.save(out / "embeddings.npy", rows)
print(rows.shape, [len(model.tokenizer(t)["input_ids"]) for t in TEXTS])
