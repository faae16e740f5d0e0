"""GGUF files of the tiny BERT, NomicBert (with experts too), XLM-RoBERTa and Qwen3, as llama.cpp's converter names and fills them, with
tensors in several formats.

The reference is sentence-transformers, and for experts the network of tiny_own.py, with the values that the `gguf` package decodes from
these tensors.
"""

import base64
import json
import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
from folders import reference, save_weights, write_json
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file
from tiny_bert import modules, old_pooling
from tiny_own import golden, nomic_network
from tokenizers import Tokenizer

BERT = {
    "embeddings.word_embeddings": ("token_embd", Type.F16),
    "embeddings.position_embeddings": ("position_embd", Type.F32),
    "embeddings.token_type_embeddings": ("token_types", Type.F32),
    "embeddings.LayerNorm": ("token_embd_norm", Type.F32),
    "encoder.layer.{}.attention.self.query": ("blk.{}.attn_q", Type.Q8_0),
    "encoder.layer.{}.attention.self.key": ("blk.{}.attn_k", Type.Q4_1),
    "encoder.layer.{}.attention.self.value": ("blk.{}.attn_v", Type.Q5_0),
    "encoder.layer.{}.attention.output.dense": ("blk.{}.attn_output", Type.Q5_1),
    "encoder.layer.{}.attention.output.LayerNorm": ("blk.{}.attn_output_norm", Type.F32),
    "encoder.layer.{}.intermediate.dense": ("blk.{}.ffn_up", Type.Q4_0),
    "encoder.layer.{}.output.dense": ("blk.{}.ffn_down", Type.Q8_0),
    "encoder.layer.{}.output.LayerNorm": ("blk.{}.layer_output_norm", Type.F32),
}
NOMIC_BERT = {
    "embeddings.word_embeddings": ("token_embd", Type.F16),
    "embeddings.token_type_embeddings": ("token_types", Type.F32),
    "emb_ln": ("token_embd_norm", Type.F32),
    "encoder.layers.{}.attn.Wqkv": ("blk.{}.attn_qkv", Type.Q8_0),
    "encoder.layers.{}.attn.out_proj": ("blk.{}.attn_output", Type.Q5_1),
    "encoder.layers.{}.norm1": ("blk.{}.attn_output_norm", Type.F32),
    "encoder.layers.{}.mlp.fc11": ("blk.{}.ffn_up", Type.Q8_0),
    "encoder.layers.{}.mlp.fc12": ("blk.{}.ffn_gate", Type.Q4_1),
    # 48 components are no whole blocks.
    "encoder.layers.{}.mlp.fc2": ("blk.{}.ffn_down", Type.F16),
    "encoder.layers.{}.norm2": ("blk.{}.layer_output_norm", Type.F32),
}
NOMIC_BERT_MOE = {
    **{name: NOMIC_BERT[name] for name in NOMIC_BERT if ".mlp." not in name},
    "encoder.layers.{}.mlp.fc1": ("blk.{}.ffn_up", Type.Q4_1),
    "encoder.layers.{}.mlp.fc2": ("blk.{}.ffn_down", Type.F16),
    "encoder.layers.{}.mlp.router.layer": ("blk.{}.ffn_gate_inp", Type.F32),
    "encoder.layers.{}.mlp.experts.mlp.w1": ("blk.{}.ffn_up_exps", Type.Q8_0),
    "encoder.layers.{}.mlp.experts.mlp.w2": ("blk.{}.ffn_down_exps", Type.F16),
}
QWEN3 = {
    "embed_tokens": ("token_embd", Type.Q8_0),
    "layers.{}.input_layernorm": ("blk.{}.attn_norm", Type.F32),
    "layers.{}.self_attn.q_proj": ("blk.{}.attn_q", Type.BF16),
    "layers.{}.self_attn.k_proj": ("blk.{}.attn_k", Type.F16),
    "layers.{}.self_attn.v_proj": ("blk.{}.attn_v", Type.Q8_0),
    "layers.{}.self_attn.q_norm": ("blk.{}.attn_q_norm", Type.F32),
    "layers.{}.self_attn.k_norm": ("blk.{}.attn_k_norm", Type.F32),
    "layers.{}.self_attn.o_proj": ("blk.{}.attn_output", Type.Q8_0),
    "layers.{}.post_attention_layernorm": ("blk.{}.ffn_norm", Type.F32),
    "layers.{}.mlp.gate_proj": ("blk.{}.ffn_gate", Type.Q8_0),
    "layers.{}.mlp.up_proj": ("blk.{}.ffn_up", Type.Q4_0),
    # 48 components are no whole blocks.
    "layers.{}.mlp.down_proj": ("blk.{}.ffn_down", Type.F16),
    "norm": ("output_norm", Type.F32),
}


def convert(writer, state, table):
    """Adds every tensor, and gives the values they have after it."""
    stored = {}
    for name, values in state.items():
        stem, part = name.rsplit(".", 1)
        layer = next((p for p in stem.split(".") if p.isdigit()), "")
        there, kind = table[stem.replace(f".{layer}.", ".{}.", 1) if layer else stem]
        if values.ndim == 1:
            kind = Type.F32
        data = quantize(values, kind)
        writer.add_tensor(f"{there.replace('{}', layer)}.{part}", data, raw_dtype=kind)
        stored[name] = np.asarray(dequantize(data, kind), dtype=np.float32)
    return stored


def write(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def network(writer, config, positions):
    writer.add_context_length(positions)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])


def whole_folder(root, source, name, pooling, positions):
    """The folder that the file stands for: no prompts, no limit below the positions."""
    whole = root / "whole" / name
    shutil.copytree(source, whole)
    (whole / "golden.json").unlink()
    write_json(whole / "modules.json", modules("Transformer", "Pooling", "Normalize"))
    write_json(whole / "1_Pooling" / "config.json", old_pooling(pooling))
    write_json(whole / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.0.0"}})
    write_json(whole / "sentence_bert_config.json", {"max_seq_length": positions, "do_lower_case": False})
    return whole


def add_word_pieces(writer, pieces):
    """BERT's vocabulary: words begin with a low line, other pieces with nothing."""
    special = {name: pieces.index(f"[{name}]") for name in ["PAD", "UNK", "CLS", "SEP", "MASK"]}
    kinds = [gguf.TokenType.CONTROL if i in special.values() else gguf.TokenType.NORMAL for i in range(len(pieces))]

    def phantom(piece, kind):
        if kind == gguf.TokenType.CONTROL:
            return piece
        return piece[2:] if piece.startswith("##") else "\u2581" + piece

    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([phantom(piece, kind) for piece, kind in zip(pieces, kinds, strict=True)])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(special["UNK"])
    writer.add_sep_token_id(special["SEP"])
    writer.add_pad_token_id(special["PAD"])
    writer.add_bos_token_id(special["CLS"])
    writer.add_mask_token_id(special["MASK"])


def bert(root):
    source, part = root / "tiny_bert", root / "gguf_bert"
    config = json.loads((source / "config.json").read_text())
    positions = config["max_position_embeddings"]
    whole = whole_folder(root, source, part.name, "cls", positions)
    part.mkdir()
    writer = gguf.GGUFWriter(part / "model.gguf", "bert")
    network(writer, config, positions)
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.CLS)
    writer.add_token_type_count(config["type_vocab_size"])
    pieces = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    add_word_pieces(writer, pieces)
    stored = convert(writer, load_file(source / "model.safetensors"), BERT)
    write(writer)
    save_weights(whole / "model.safetensors", stored)
    write_json(part / "golden.json", reference(whole))
    shutil.rmtree(root / "whole")


def nomic_sizes(config):
    sizes = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "intermediate_size": "n_inner", "num_attention_heads": "n_head"}
    return {here: config[there] for here, there in sizes.items()}


def nomic_bert(root):
    source, part = root / "tiny_nomic_bert", root / "gguf_nomic_bert"
    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    positions = config["n_positions"]
    whole = whole_folder(root, source, part.name, "mean", positions)
    part.mkdir()
    writer = gguf.GGUFWriter(part / "model.gguf", "nomic-bert")
    sizes = nomic_sizes(config)
    network(writer, sizes, positions)
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_rope_freq_base(config["rotary_emb_base"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    add_word_pieces(writer, sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get))
    stored = convert(writer, load_file(source / "model.safetensors"), NOMIC_BERT)
    write(writer)
    save_weights(whole / "model.safetensors", stored)
    known = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        **sizes,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "type_vocab_size": config["type_vocab_size"],
        "vocab_size": config["vocab_size"],
        "rope_parameters": {"rope_type": "default", "rope_theta": float(config["rotary_emb_base"])},
    }
    write_json(whole / "config.json", known)
    write_json(part / "golden.json", reference(whole))
    shutil.rmtree(root / "whole")


def charsmap(rules):
    """SentencePiece's table of characters that are replaced: its bytes, a double array of the keys, and the texts behind it."""
    units, texts = [0] * 256, b""
    tree = {}
    for key, text in rules.items():
        node = tree
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[None] = len(texts)
        texts += text.encode() + b"\0"

    def place(node, at, label):
        block = len(units)
        units.extend([0] * 256)
        units[at] = label | (at ^ block) << 10 | (1 << 8 if None in node else 0)
        if None in node:
            units[block] = 1 << 31 | node[None]
        for byte, child in node.items():
            if byte is not None:
                place(child, block ^ byte, byte)

    place(tree, 0, 0)
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + texts


def precompiled(tokenizer):
    """A table of characters, and the tokenizer with it for its normalizer and with words cut as the XLM-RoBERTa family has it."""
    replaced = charsmap({"\u00e9": "e", "\u00e0": "a", "\u3000": " "})
    words = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    tokenizer["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(replaced).decode()}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, words]}
    return replaced


def add_unigram(writer, tokenizer, replaced, token_types):
    """The XLM-RoBERTa family's vocabulary."""
    pieces = tokenizer["model"]["vocab"]
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    kinds = [gguf.TokenType.CONTROL if text in special else gguf.TokenType.NORMAL for text, _ in pieces]
    kinds[special["<unk>"]] = gguf.TokenType.UNKNOWN
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _ in pieces])
    writer.add_token_scores([score for _, score in pieces])
    writer.add_token_types(kinds)
    writer.add_add_space_prefix(True)
    writer.add_token_type_count(token_types)
    writer.add_remove_extra_whitespaces(True)
    writer.add_precompiled_charsmap(replaced)
    writer.add_bos_token_id(special["<s>"])
    writer.add_eos_token_id(special["</s>"])
    writer.add_unk_token_id(special["<unk>"])
    writer.add_sep_token_id(special["</s>"])
    writer.add_pad_token_id(special["<pad>"])
    writer.add_mask_token_id(special["<mask>"])


def nomic_moe(root):
    """The converter writes no bias of the experts, and their second layers turned."""
    source, part = root / "tiny_nomic_moe", root / "gguf_nomic_moe"
    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    whole = root / "whole" / part.name
    whole.mkdir(parents=True)
    replaced = precompiled(tokenizer)
    part.mkdir()
    writer = gguf.GGUFWriter(part / "model.gguf", "nomic-bert-moe")
    network(writer, nomic_sizes(config), config["n_positions"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_rope_freq_base(config["rotary_emb_base"])
    writer.add_expert_count(config["num_experts"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_moe_every_n_layers(config["moe_every_n_layers"])
    writer.add_expert_used_count(config["moe_top_k"])
    add_unigram(writer, tokenizer, replaced, config["type_vocab_size"])
    experts, width, hidden = config["num_experts"], config["n_inner"], config["n_embd"]
    state, biases = {}, {}
    for name, values in load_file(source / "model.safetensors").items():
        if name.endswith("experts.bias"):
            biases[name] = np.zeros(hidden, dtype=np.float32)
        elif name.endswith("experts.mlp.w1"):
            state[f"{name}.weight"] = values.reshape(experts, width, hidden)
        elif name.endswith("experts.mlp.w2"):
            state[f"{name}.weight"] = np.ascontiguousarray(values.reshape(experts, width, hidden).transpose(0, 2, 1))
        else:
            state[name] = values
    stored = convert(writer, state, NOMIC_BERT_MOE) | biases
    write(writer)
    for name in [name for name in stored if ".experts.mlp." in name]:
        values = stored.pop(name)
        if "w2" in name:
            values = values.transpose(0, 2, 1)
        stored[name.removesuffix(".weight")] = np.ascontiguousarray(values).reshape(experts * width, hidden)
    run = nomic_network(config["n_head"], config["n_layer"], experts, config["moe_top_k"], config["rotary_emb_base"])
    golden(whole, stored, run, "mean", Tokenizer.from_str(json.dumps(tokenizer)))
    shutil.copy(whole / "golden.json", part / "golden.json")
    shutil.rmtree(root / "whole")


def xlm_roberta(root):
    """XLM-RoBERTa as the converter writes it: without the rows of positions before the first token, and with a unigram vocabulary."""
    source, part = root / "tiny_xlm_roberta", root / "gguf_xlm_roberta"
    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    before = config["pad_token_id"] + 1
    positions = config["max_position_embeddings"] - before
    whole = whole_folder(root, source, part.name, "cls", positions)
    replaced = precompiled(tokenizer)
    write_json(whole / "tokenizer.json", tokenizer)
    part.mkdir()
    writer = gguf.GGUFWriter(part / "model.gguf", "bert")
    network(writer, config, positions)
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.CLS)
    add_unigram(writer, tokenizer, replaced, config["type_vocab_size"])
    state = load_file(source / "model.safetensors")
    table = "embeddings.position_embeddings.weight"
    unused, state[table] = state[table][:before], state[table][before:]
    stored = convert(writer, state, BERT)
    write(writer)
    stored[table] = np.concatenate([unused, stored[table]]).astype(np.float32)
    save_weights(whole / "model.safetensors", stored)
    write_json(part / "golden.json", reference(whole))
    shutil.rmtree(root / "whole")


def qwen3(root):
    source, part = root / "tiny_qwen3", root / "gguf_qwen3"
    config = json.loads((source / "config.json").read_text())
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    positions = config["max_position_embeddings"]
    whole = whole_folder(root, source, part.name, "lasttoken", positions)
    part.mkdir()
    writer = gguf.GGUFWriter(part / "model.gguf", "qwen3")
    network(writer, config, positions)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_pooling_type(gguf.PoolingType.LAST)
    [end] = tokenizer["added_tokens"]
    tokens = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    texts = [text for text, _ in tokens]
    if end["content"] not in texts:
        texts.append(end["content"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types([gguf.TokenType.CONTROL if text == end["content"] else gguf.TokenType.NORMAL for text in texts])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(end["id"])
    writer.add_pad_token_id(end["id"])
    writer.add_add_eos_token(True)
    stored = convert(writer, load_file(source / "model.safetensors"), QWEN3)
    write(writer)
    save_weights(whole / "model.safetensors", stored)
    write_json(part / "golden.json", reference(whole))
    shutil.rmtree(root / "whole")


def make(root: Path):
    bert(root)
    nomic_bert(root)
    nomic_moe(root)
    xlm_roberta(root)
    qwen3(root)
