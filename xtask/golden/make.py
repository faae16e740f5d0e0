"""Writes the tiny seeded models and their reference vectors to crates/engine/tests/golden, blocks of GGUF to crates/formats, and
ONNX graphs to crates/onnx.

    python -m venv venv && venv/bin/pip install -r xtask/golden/requirements.txt && venv/bin/python xtask/golden/make.py

The models are random: they test loaders and arithmetic, not meaning. Given the versions in requirements.txt, the files are the
same on every run.
"""

import shutil
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import gguf_blocks  # noqa: E402
import gguf_models  # noqa: E402
import late_chunking  # noqa: E402
import onnx_graphs  # noqa: E402
import quantization  # noqa: E402
import tiny_bert  # noqa: E402
import tiny_encoders  # noqa: E402
import tiny_own  # noqa: E402
import tiny_qwen3  # noqa: E402
import tiny_static  # noqa: E402
import tiny_tasks  # noqa: E402
import torch_weights  # noqa: E402
from transformers.utils import logging  # noqa: E402

ROOT = Path(__file__).resolve().parents[2] / "crates" / "engine" / "tests" / "golden"


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    root.mkdir(parents=True, exist_ok=True)
    for old in [*root.glob("tiny_*"), *root.glob("static_*"), *root.glob("gguf_*")]:
        shutil.rmtree(old)
    families = (tiny_bert, tiny_encoders, tiny_own, tiny_qwen3, tiny_static, tiny_tasks)
    for family in (*families, torch_weights, gguf_models, quantization, late_chunking):
        family.make(root)
    gguf_blocks.make()
    onnx_graphs.make(root)
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    print(f"{size / 1024:.0f} KiB in {root}")


if __name__ == "__main__":
    main()
