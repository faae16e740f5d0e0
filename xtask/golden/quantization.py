"""Vectors and what `quantize_embeddings` of sentence-transformers makes of them, bit by bit."""

import json

import numpy as np
from sentence_transformers import __version__
from sentence_transformers.util import quantize_embeddings

ROWS = 9
DIMS = (1, 7, 8, 13, 64)
# Zeros of both signs, the smallest numbers, and numbers far outside of any range.
EDGES = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e30, -1e30, 0.5, -0.5], dtype=np.float32)


def case(seed, dim):
    """Rows around zero; every third component never varies in the calibration, and the ends of the ranges are among the rows."""
    random = np.random.default_rng(seed)
    calibration = random.standard_normal((20, dim)).astype(np.float32) / np.float32(4)
    calibration[:, ::3] = calibration[0, ::3]
    rows = random.standard_normal((ROWS, dim)).astype(np.float32) / np.float32(4)
    rows[0] = calibration.min(axis=0)
    rows[1] = calibration.max(axis=0)
    rows[2] = EDGES[np.arange(dim) % len(EDGES)]
    ranges = np.vstack((calibration.min(axis=0), calibration.max(axis=0)))
    made = {form: quantize_embeddings(rows, form, ranges=ranges) for form in ("int8", "uint8", "binary", "ubinary")}
    made["f16"] = rows.clip(-65504, 65504).astype("<f2")
    hexed = {name: numbers.tobytes().hex() for name, numbers in made.items()}
    return {"dim": dim, "rows": rows.tobytes().hex(), "ranges": ranges.astype("<f4").tobytes().hex(), **hexed}


def make(root):
    cases = [case(seed, dim) for seed, dim in enumerate(DIMS)]
    golden = {"sentence_transformers": __version__, "numpy": np.__version__, "cases": cases}
    (root / "quantization.json").write_text(json.dumps(golden, indent=1) + "\n")
