"""Families that transformers does not have: their networks are written out here from their published definitions.

JinaBERT v2 (arXiv 2310.19923) and its variant for code, and the mixture of experts of nomic-embed-text-v2 (arXiv 2502.07972). Where
a paper leaves a choice open (which half of a fused layer is the gate, whether the weights of the chosen experts are scaled to 1, how
often the attention is normed), the choice is the one that two independent public implementations of each agree on.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from folders import HIDDEN, halves, rounded, save_weights, write_json
from texts import TEXTS
from tiny_encoders import ANGLE, BERT_SIZES, SQUARE, folder_of, roles
from tiny_tokenizers import byte_level_between, unigram, word_piece


def seeded(shapes, seed):
    """Weights as those of the other goldens, by name."""
    rng = np.random.Generator(np.random.PCG64(seed))
    state = {}
    for name, shape in sorted(shapes.items()):
        norm = "norm" in name.lower() or "_ln" in name
        if norm and name.endswith("weight"):
            array = 1.0 + 0.2 * rng.standard_normal(shape)
        elif len(shape) == 1:
            array = 0.1 * rng.standard_normal(shape)
        elif "embed" in name:
            array = rng.standard_normal(shape)
        else:
            array = rng.standard_normal(shape) * (1.5 / np.sqrt(shape[1]))
        state[name] = array.astype(np.float32)
    return halves(state)


LONGEST = 64


def golden(folder: Path, state, rows_of, pooling, tokenizer):
    """`rows_of(weights, ids)` in f64, pooled and normalised, held against itself in f32."""

    def run(dtype):
        weights = {name: torch.from_numpy(array).to(dtype) for name, array in state.items()}
        vectors, hidden = [], None
        for index, ids in enumerate(encoded):
            rows = rows_of(weights, torch.tensor(ids))
            hidden = rows if index == HIDDEN else hidden
            vector = rows.mean(0) if pooling == "mean" else rows[0]
            vectors.append(F.normalize(vector, dim=0).double().numpy())
        return np.stack(vectors), hidden.double().numpy()

    tokenizer.enable_truncation(LONGEST)
    encoded = [tokenizer.encode(text).ids for text in TEXTS]
    (single, _), (double, hidden) = run(torch.float32), run(torch.float64)
    worst = float(np.abs(single - double).max())
    print(f"{folder.name}: {double.shape[1]} components, f32 differs from f64 by {worst:.1e}")
    assert worst < 2e-6, "the golden would not tell a right engine from a wrong one"
    save_weights(folder / "model.safetensors", state)
    write_json(
        folder / "golden.json",
        {
            "texts": TEXTS,
            "embeddings": rounded(double),
            "hidden": {"text": HIDDEN, "rows": rounded(hidden)},
            "ids": encoded,
        },
    )


def attend(q, k, v, heads, bias=0.0):
    """Attention of `[n, hidden]` rows cut into heads; `bias` is `[heads, n, n]`."""
    q, k, v = (x.view(len(x), heads, -1).transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + bias
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(q.shape[1], -1)


def slopes(heads):
    power = 2 ** math.floor(math.log2(heads))
    first = [2.0 ** (-8.0 * i / power) for i in range(1, power + 1)]
    return first + [2.0 ** (-8.0 * i / (2 * power)) for i in range(1, 2 * (heads - power), 2)]


def jina_network(code, heads, layers):
    def rows_of(w, ids):
        def norm(x, name):
            return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)

        def linear(x, name):
            return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

        places = torch.arange(len(ids))
        distance = (places[:, None] - places[None, :]).abs().to(w["embeddings.LayerNorm.weight"].dtype)
        bias = -torch.tensor(slopes(heads), dtype=distance.dtype)[:, None, None] * distance
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
        for layer in range(layers):
            at = f"encoder.layer.{layer}"
            q, k, v = (linear(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
            if code:
                q = norm(q, f"{at}.attention.self.layer_norm_q")
                k = norm(k, f"{at}.attention.self.layer_norm_k")
            mixed = linear(attend(q, k, v, heads, bias), f"{at}.attention.output.dense")
            mixed = norm(mixed + x, f"{at}.attention.output.LayerNorm")
            if code:
                x = norm(x + mixed, f"{at}.layer_norm_1")
                up, gate = linear(x, f"{at}.mlp.up_gated_layer").chunk(2, dim=-1)
                x = norm(x + linear(F.gelu(gate) * up, f"{at}.mlp.down_layer"), f"{at}.layer_norm_2")
            else:
                x = mixed
                gate, up = linear(x, f"{at}.mlp.gated_layers").chunk(2, dim=-1)
                x = norm(x + linear(F.gelu(gate) * up, f"{at}.mlp.wo"), f"{at}.mlp.layernorm")
        return x

    return rows_of


def jina(root, name, code, heads, tokenizer, special, seed):
    hidden, width, vocab, layers = 48, 64, tokenizer.get_vocab_size(), 2
    source = "jinaai/jina-bert-v2-qk-post-norm" if code else "jinaai/jina-bert-implementation"
    config = {
        "architectures": ["JinaBertModel"],
        "auto_map": {"AutoModel": f"{source}--modeling_bert.JinaBertModel"},
        "model_type": "bert",
        **BERT_SIZES,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "type_vocab_size": 2,
        "max_position_embeddings": 64,
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
        "attn_implementation": "torch",
    }
    folder = folder_of(root, name, config, tokenizer, "mean", roles(special))
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True})
    norms = ["embeddings.LayerNorm"]
    linears = {}
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linears[f"{at}.attention.{part}"] = (hidden, hidden)
        norms.append(f"{at}.attention.output.LayerNorm")
        down = "down_layer" if code else "wo"
        linears[f"{at}.mlp.{down}"] = (hidden, width)
        if code:
            norms += [f"{at}.layer_norm_1", f"{at}.layer_norm_2"]
            norms += [f"{at}.attention.self.layer_norm_q", f"{at}.attention.self.layer_norm_k"]
        else:
            norms.append(f"{at}.mlp.layernorm")
    shapes = {"embeddings.word_embeddings.weight": (vocab, hidden), "embeddings.token_type_embeddings.weight": (2, hidden)}
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for layer in range(layers):
        fused = "up_gated_layer" if code else "gated_layers"
        shapes[f"encoder.layer.{layer}.mlp.{fused}.weight"] = (2 * width, hidden)
    for name in norms:
        shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    golden(folder, seeded(shapes, seed), jina_network(code, heads, layers), "mean", tokenizer)


def rotated(x, heads, theta):
    """Rotary positions of `[n, hidden]` rows cut into heads, the halves of a head being pairs."""
    x = x.view(len(x), heads, -1)
    half = x.shape[-1] // 2
    frequencies = 1.0 / theta ** (torch.arange(0, half, dtype=torch.float32) / half)
    angles = torch.arange(len(x), dtype=torch.float32)[:, None] * frequencies
    cos, sin = angles.double().cos().to(x.dtype)[:, None], angles.double().sin().to(x.dtype)[:, None]
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1).flatten(1)


def nomic_network(heads, layers, experts, chosen, theta):
    def rows_of(w, ids):
        def norm(x, name):
            return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-12)

        def linear(x, name):
            return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "emb_ln")
        for layer in range(layers):
            at = f"encoder.layers.{layer}"
            q, k, v = linear(x, f"{at}.attn.Wqkv").chunk(3, dim=-1)
            mixed = attend(rotated(q, heads, theta), rotated(k, heads, theta), v, heads)
            x = norm(x + linear(mixed, f"{at}.attn.out_proj"), f"{at}.norm1")
            if layer % 2 == 0:
                added = linear(F.gelu(linear(x, f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
            else:
                # The probabilities of the chosen experts are not scaled to 1.
                shares, which = linear(x, f"{at}.mlp.router.layer").softmax(-1).topk(chosen, dim=-1)
                first = w[f"{at}.mlp.experts.mlp.w1"].view(experts, -1, x.shape[1])
                second = w[f"{at}.mlp.experts.mlp.w2"].view(experts, -1, x.shape[1])
                added = w[f"{at}.mlp.experts.bias"].expand_as(x).clone()
                for row in range(len(x)):
                    for share, expert in zip(shares[row], which[row], strict=True):
                        added[row] += share * (F.gelu(first[expert] @ x[row]) @ second[expert])
            x = norm(x + added, f"{at}.norm2")
        return x

    return rows_of


def nomic_moe(root):
    """nomic-embed-text-v2: every second block has experts, the others a plain MLP with biases."""
    tokenizer = unigram(ANGLE)
    hidden, width, layers, heads, experts, chosen, theta = 32, 48, 2, 4, 4, 2, 1000.0
    vocab = tokenizer.get_vocab_size()
    config = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "activation_function": "gelu",
        "n_embd": hidden,
        "n_layer": layers,
        "n_head": heads,
        "n_inner": width,
        "n_positions": 64,
        "layer_norm_epsilon": 1e-12,
        "type_vocab_size": 1,
        "vocab_size": vocab,
        "qkv_proj_bias": True,
        "mlp_fc1_bias": True,
        "mlp_fc2_bias": True,
        "prenorm": False,
        "rotary_emb_base": theta,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_scaling_factor": None,
        "moe_every_n_layers": 2,
        "moe_normalize_expert_weights": False,
        "moe_top_k": chosen,
        "num_experts": experts,
        "num_shared_experts": 0,
        "expert_choice_router": False,
    }
    folder = folder_of(root, "tiny_nomic_moe", config, tokenizer, "mean", roles(ANGLE))
    shapes = {"embeddings.word_embeddings.weight": (vocab, hidden), "embeddings.token_type_embeddings.weight": (1, hidden)}
    linears, norms = {}, ["emb_ln"]
    for layer in range(layers):
        at = f"encoder.layers.{layer}"
        linears |= {f"{at}.attn.Wqkv": (3 * hidden, hidden), f"{at}.attn.out_proj": (hidden, hidden)}
        norms += [f"{at}.norm1", f"{at}.norm2"]
        if layer % 2 == 0:
            linears |= {f"{at}.mlp.fc1": (width, hidden), f"{at}.mlp.fc2": (hidden, width)}
        else:
            shapes |= {
                f"{at}.mlp.router.layer.weight": (experts, hidden),
                f"{at}.mlp.experts.mlp.w1": (experts * width, hidden),
                f"{at}.mlp.experts.mlp.w2": (experts * width, hidden),
                f"{at}.mlp.experts.bias": (hidden,),
            }
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    network = nomic_network(heads, layers, experts, chosen, theta)
    golden(folder, seeded(shapes, 20_275), network, "mean", tokenizer)


def make(root: Path):
    nomic_moe(root)
    jina(root, "tiny_jina_bert", False, 6, word_piece()[0], SQUARE, 20_273)
    tokenizer = byte_level_between(ANGLE, "<s>", "</s>", roberta=True)
    jina(root, "tiny_jina_bert_code", True, 4, tokenizer, ANGLE, 20_274)
