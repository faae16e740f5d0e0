"""BERT of 2 layers, 32 components and 4 heads, in every form a folder takes."""

import shutil
from pathlib import Path

import numpy as np
import torch
from folders import reference, save_weights, seeded_state, write_json
from sentence_transformers import SentenceTransformer
from tiny_tokenizers import word_piece
from transformers import BertConfig, BertModel

OLD_TYPES = "sentence_transformers.models."
POOLING = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def modules(*names):
    folders = ["" if i == 0 else f"{i}_{name}" for i, name in enumerate(names)]
    return [
        {"idx": i, "name": str(i), "path": path, "type": OLD_TYPES + name}
        for i, (name, path) in enumerate(zip(names, folders, strict=True))
    ]


def old_pooling(mode):
    switches = {switch: name == mode for name, switch in POOLING.items()}
    return {"word_embedding_dimension": 32, **switches, "pooling_mode_mean_sqrt_len_tokens": False}


def base(root: Path):
    """The whole folder in the old format, as all-MiniLM-L6-v2 has it."""
    tokenizer, pieces = word_piece()
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 48,
        "type_vocab_size": 2,
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
        "vocab_size": len(pieces),
    }
    folder = root / "tiny_bert"
    write_json(folder / "config.json", config)
    write_json(folder / "modules.json", modules("Transformer", "Pooling", "Normalize"))
    write_json(folder / "1_Pooling" / "config.json", old_pooling("mean"))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.0.0"}})
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True, "model_max_length": 48, **special()},
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    model = BertModel(BertConfig(**config), add_pooling_layer=False)
    state = seeded_state(model, 20_261)
    save_weights(folder / "model.safetensors", state)
    write_json(folder / "golden.json", reference(folder))
    return folder, state


def special():
    return {f"{name}_token": f"[{name.upper()}]" for name in ["unk", "sep", "pad", "cls", "mask"]}


def over(root: Path, base_folder: Path, name, files, save=None):
    """A folder that holds only what differs from the base; the golden is computed on the two put together."""
    whole, part = root / "whole" / name, root / name
    shutil.copytree(base_folder, whole)
    (whole / "golden.json").unlink()
    for path, value in files.items():
        for folder in (whole, part):
            write_json(folder / path, value)
    if save:
        save(whole)
        save(part)
    write_json(part / "golden.json", {"over": base_folder.name, **reference(whole)})
    shutil.rmtree(root / "whole")


def pooling_variants(root, folder):
    for mode in ["cls", "max", "lasttoken"]:
        over(root, folder, f"tiny_bert_{mode}", {"1_Pooling/config.json": old_pooling(mode)})


def new_format(root, folder):
    """The configuration files that this version of sentence-transformers writes for the same model."""
    saved = root / "saved"
    SentenceTransformer(str(folder), device="cpu", local_files_only=True).save(str(saved), create_model_card=False)
    part = root / "tiny_bert_new_format"
    whole = root / "whole" / part.name
    shutil.copytree(folder, whole)
    (whole / "golden.json").unlink()
    for path in sorted(saved.rglob("*.json")):
        name = path.relative_to(saved)
        if name.name == "tokenizer.json":
            continue
        for target in (whole, part):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / name)
    write_json(part / "golden.json", {"over": folder.name, **reference(whole)})
    shutil.rmtree(root / "whole")
    shutil.rmtree(saved)


def with_dense(root, folder):
    """Dense with tanh to 16 components, Normalize, and prompts of which one is the default."""
    rng = np.random.Generator(np.random.PCG64(7))
    dense = {
        "linear.weight": (rng.standard_normal((16, 32)) / np.sqrt(32)).astype(np.float32),
        "linear.bias": (0.1 * rng.standard_normal(16)).astype(np.float32),
    }
    prompts = {"query": "query: ", "document": "the word of the day is "}
    files = {
        "modules.json": modules("Transformer", "Pooling", "Dense", "Normalize"),
        "2_Dense/config.json": {
            "in_features": 32,
            "out_features": 16,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
        "config_sentence_transformers.json": {
            "prompts": prompts,
            "default_prompt_name": "query",
            "similarity_fn_name": "cosine",
        },
    }
    over(
        root, folder, "tiny_bert_dense", files, save=lambda to: save_weights(to / "2_Dense" / "model.safetensors", dense)
    )
    files = {
        "1_Pooling/config.json": {**old_pooling("mean"), "include_prompt": False},
        "config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": "document"},
    }
    over(root, folder, "tiny_bert_without_prompt", files)


def stored_smaller(root, folder, state):
    """The same weights in two shards, the first in F16 and the second in BF16, under the names of a model with a task head."""
    from safetensors.torch import save_file

    names = sorted(state)
    shards = {
        "model-00001-of-00002.safetensors": (names[: len(names) // 2], torch.float16),
        "model-00002-of-00002.safetensors": (names[len(names) // 2 :], torch.bfloat16),
    }
    part = root / "tiny_bert_sharded"
    part.mkdir()
    weight_map, total = {}, 0
    for shard, (members, dtype) in shards.items():
        tensors = {"bert." + name: torch.from_numpy(state[name]).to(dtype) for name in members}
        save_file(tensors, part / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, shard)
        total += sum(t.nbytes for t in tensors.values())
    write_json(part / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    # The reference reads the rounded values as f32, so that only the storage differs from a model of f32 weights.
    whole = root / "whole" / part.name
    shutil.copytree(folder, whole)
    (whole / "golden.json").unlink()
    values = {
        name: torch.from_numpy(state[name]).to(dtype).float().numpy()
        for members, dtype in shards.values()
        for name in members
    }
    save_weights(whole / "model.safetensors", values)
    golden = {"over": folder.name, "without": ["model.safetensors"], **reference(whole)}
    write_json(part / "golden.json", golden)
    shutil.rmtree(root / "whole")


def make(root: Path):
    folder, state = base(root)
    pooling_variants(root, folder)
    new_format(root, folder)
    with_dense(root, folder)
    stored_smaller(root, folder, state)
