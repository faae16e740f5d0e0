"""Writes reference vectors of a model, as sentence-transformers computes them, for `embral models verify --reference`.

    pip install sentence-transformers
    python docs/make_reference.py sentence-transformers/all-MiniLM-L6-v2 -o reference.json

MODEL is a folder or a name of the hub. The format is described in docs/verify.md.
"""

import argparse
import base64
import json

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer

TEXTS = [
    "photosynthesis",
    "how do I reset my password",
    "A cat sat on the mat and watched the rain.",
    "The committee postponed its vote on the new budget until the auditors have delivered their report.",
    "def add(a, b): return a + b  # sums two numbers",
    "Der Zug nach Zürich fährt um 8:15 Uhr von Gleis 7.",
    "El Niño años después: ¿qué pasó? 日本語のテキスト, naïve café №5 😀",
    "long " * 40 + "text of more words than most models were trained to read at once. " * 60,
]


def ids_of(model, text):
    features = model.preprocess([text]) if hasattr(model, "preprocess") else model.tokenize([text])
    ids = features.get("input_ids")
    return None if ids is None else [int(i) for i in torch.as_tensor(ids).reshape(-1)]


def one_set(model, texts, readable, **prompt):
    """One text at a time: what a padded batch gives differs in the last bits."""
    rows = [model.encode([text], convert_to_numpy=True, **prompt)[0].astype("<f4") for text in texts]
    kept = [[float(f"{x:.9g}") for x in row] if readable else base64.b64encode(row.tobytes()).decode() for row in rows]
    return {"texts": texts, "embeddings": kept}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="a folder or a name of the hub")
    parser.add_argument("-o", "--out", default="reference.json", help="the file that is written [default: %(default)s]")
    parser.add_argument("--texts", metavar="FILE", help="texts, one a line [default: eight of this script]")
    parser.add_argument("--readable", action="store_true", help="write numbers in the place of base64")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code of the model's repository")
    flags = parser.parse_args()
    texts = TEXTS
    if flags.texts:
        with open(flags.texts, encoding="utf-8") as file:
            texts = [line.rstrip("\n") for line in file if line.strip()]
    model = SentenceTransformer(flags.model, device="cpu", trust_remote_code=flags.trust_remote_code).float()
    plain = one_set(model, texts, flags.readable, prompt="")
    ids = [ids_of(model, text) for text in texts]
    if all(row is not None for row in ids):
        plain["ids"] = ids
    sets = [{"prompt_text": "", **plain}]
    for name, text in sorted(model.prompts.items()):
        if text:
            sets.append({"prompt": name, "prompt_text": text, **one_set(model, texts, flags.readable, prompt_name=name)})
    reference = {
        "version": 1,
        "model": flags.model,
        "made_with": f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}, float32",
        "sets": sets,
    }
    with open(flags.out, "w", encoding="utf-8") as file:
        json.dump(reference, file, indent=1, ensure_ascii=False)
        file.write("\n")
    print(f"{flags.out}: {len(sets)} x {len(texts)} vectors")


if __name__ == "__main__":
    main()
