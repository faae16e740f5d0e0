"""Writes the reference vectors that are kept with the library, to crates/engine/assets/references.

    python xtask/golden/references.py FOLDER_OF_ALL_MINILM_L6_V2

Those of the default model are computed here in float64 by the definition of model2vec; those of all-MiniLM-L6-v2 by sentence-transformers,
with docs/make_reference.py.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

sys.dont_write_bytecode = True

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "crates" / "engine" / "assets"


sys.path.insert(0, str(ROOT / "docs"))
import make_reference  # noqa: E402
from tiny_static import embed  # noqa: E402


def default_model():
    tensors = load_file(ASSETS / "default" / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(ASSETS / "default" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pieces = list(tokenizer.get_vocab())
    table = tensors["embeddings"]
    mapping = tensors.get("mapping", np.arange(len(table)))
    rows = [embed(tokenizer, pieces, text, table, tensors["weights"], mapping) for text in make_reference.TEXTS]
    return {
        "version": 1,
        "model": "embral-static-256",
        "made_with": "the definition of model2vec in float64",
        "sets": [
            {
                "texts": make_reference.TEXTS,
                "embeddings": [base64.b64encode(row.astype("<f4").tobytes()).decode() for _, row in rows],
                "ids": [ids for ids, _ in rows],
            }
        ],
    }


def main():
    out = ASSETS / "references"
    out.mkdir(exist_ok=True)
    (out / "embral-static-256.json").write_text(
        json.dumps(default_model(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    sys.argv = ["make_reference.py", sys.argv[1], "-o", str(out / "all-MiniLM-L6-v2.json")]
    make_reference.main()
    # Not the folder that it was made from.
    file = out / "all-MiniLM-L6-v2.json"
    reference = json.loads(file.read_text(encoding="utf-8"))
    reference["model"] = "sentence-transformers/all-MiniLM-L6-v2"
    file.write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
