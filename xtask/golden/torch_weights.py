"""The weights of tiny_xlm_roberta as PyTorch saves them, in one file and in shards: the form in which bge-m3 is published."""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from folders import write_json
from safetensors.torch import load_file

BASE = "tiny_xlm_roberta"


def state_of(folder):
    """As `state_dict` of a module gives it: in order, with integers among the buffers and the versions of the modules beside it."""
    state = OrderedDict(load_file(folder / "model.safetensors"))
    state["embeddings.position_ids"] = torch.arange(66).unsqueeze(0)
    # A view of a larger storage, and two names of one tensor.
    words = state["embeddings.word_embeddings.weight"]
    both = torch.cat([torch.zeros_like(words[:3]), words])
    state["embeddings.word_embeddings.weight"] = state["lm_head.decoder.weight"] = both[3:]
    state._metadata = OrderedDict([("", {"version": 1}), ("embeddings", {"version": 1})])
    return state


def save(root, name, write):
    """A golden that is its base, but for the form of the weights; their values are the same."""
    part = root / name
    part.mkdir(parents=True)
    write(part)
    golden = json.loads((root / BASE / "golden.json").read_text(encoding="utf-8"))
    write_json(part / "golden.json", {"over": BASE, "without": ["model.safetensors"], **golden})


def shards(state, part):
    names = sorted(state)
    files = {
        "pytorch_model-00001-of-00002.bin": names[: len(names) // 2],
        "pytorch_model-00002-of-00002.bin": names[len(names) // 2 :],
    }
    weight_map = {}
    for file, members in files.items():
        torch.save({name: state[name].clone() for name in members}, part / file)
        weight_map |= dict.fromkeys(members, file)
    total = sum(tensor.nbytes for tensor in state.values())
    write_json(part / "pytorch_model.bin.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def make(root: Path):
    state = state_of(root / BASE)
    save(root, "tiny_xlm_roberta_torch", lambda part: torch.save(state, part / "pytorch_model.bin"))
    del state["lm_head.decoder.weight"]
    save(root, "tiny_xlm_roberta_torch_sharded", lambda part: shards(state, part))
