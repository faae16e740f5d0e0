"""Writing of files, filling of models with seeded weights, and the reference run."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from texts import TEXTS


# The text whose rows behind the last block are kept.
HIDDEN = 0


def write_json(path: Path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def seeded_state(model, seed):
    """Weights of a scale at which every part of the network shows in the output; PCG64 so that no library version matters."""
    rng = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name, value in sorted(model.state_dict().items()):
        if not value.dtype.is_floating_point:
            continue
        shape = tuple(value.shape)
        if "norm" in name.lower() and name.endswith("weight"):
            array = 1.0 + 0.2 * rng.standard_normal(shape)
        elif len(shape) == 1:
            array = 0.1 * rng.standard_normal(shape)
        elif "embed" in name:
            array = rng.standard_normal(shape)
        else:
            array = rng.standard_normal(shape) * (1.5 / np.sqrt(shape[1]))
        state[name] = array.astype(np.float32)
    return state


def halves(state):
    """The weights in f16, which is exact in every wider format, and half as long to keep."""
    return {name: array.astype(np.float16) for name, array in state.items()}


def save_weights(path: Path, state):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path, metadata={"format": "pt"})


def rounded(rows):
    """f64 rows with nine significant digits, enough to tell f32 values apart."""
    return [[float(f"{v:.9g}") for v in row] for row in np.asarray(rows, dtype=np.float64)]


def reference(folder: Path, texts=TEXTS, attention=None, change=lambda network: None):
    """What sentence-transformers computes for a folder, in float64, and the ids it tokenises to; `change` is given the network."""
    # Not in the format of the weights: some constants would be rounded to it.
    options = {"dtype": torch.float32} | ({"attn_implementation": attention} if attention else {})
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options)
    change(model[0].model if hasattr(model[0], "model") else None)
    return results(folder.name, model, texts)


def results(name, model, texts=TEXTS):
    single = model.float().encode(texts, batch_size=1, convert_to_numpy=True)
    model = model.double()
    double = model.encode(texts, batch_size=1, convert_to_tensor=True).double().numpy()
    worst = float(np.abs(single - double).max())
    print(f"{name}: {double.shape[1]} components, f32 differs from f64 by {worst:.1e}")
    assert worst < 2e-6, "the golden would not tell a right engine from a wrong one"
    golden = {"texts": texts, "embeddings": rounded(double)}
    prompts = {
        name: rounded(model.encode(texts, prompt_name=name, batch_size=1, convert_to_tensor=True).double().numpy())
        for name, prompt in model.prompts.items()
        if prompt
    }
    if prompts:
        golden["prompts"] = prompts
        golden["unprompted"] = rounded(
            model.encode(texts, prompt="", batch_size=1, convert_to_tensor=True).double().numpy()
        )
    if type(model[0]).__name__ == "Transformer":
        rows = model.encode([texts[HIDDEN]], prompt="", output_value="token_embeddings")[0]
        golden["hidden"] = {"text": HIDDEN, "rows": rounded(rows.double().numpy())}
    golden["ids"] = [ids_of(model, text) for text in texts]
    return golden


def ids_of(model, text):
    features = model.preprocess([text]) if hasattr(model, "preprocess") else model.tokenize([text])
    ids = features["input_ids"]
    return [int(i) for i in torch.as_tensor(ids).reshape(-1)]
