"""Static models of 16 components: the model2vec layouts, and the StaticEmbedding of sentence-transformers.

The model2vec goldens are computed here in float64 by its definition, which its package (not needed for anything else) gives too:
cut to 512 median token lengths of characters, tokenise without special tokens, drop the unknown token, keep 512, mean, normalise.
"""

from pathlib import Path

import numpy as np
from folders import reference, rounded, save_weights, write_json
from texts import TEXTS
from tiny_tokenizers import WORDS, word_piece

LIMIT = 512
LONG = ["a dog ran to the red house " * 200, "xyzzyx " * 400 + "the cat"]


def embed(tokenizer, pieces, text, table, weights, mapping):
    characters = LIMIT * int(np.median([len(piece) for piece in pieces]))
    ids = tokenizer.encode(text[:characters], add_special_tokens=False).ids
    ids = [i for i in ids if i != tokenizer.token_to_id("[UNK]")][:LIMIT]
    if not ids:
        return ids, np.zeros(table.shape[1])
    rows = table.astype(np.float64)[mapping[ids]] * weights[ids, None]
    mean = rows.mean(axis=0)
    return ids, mean / max(np.linalg.norm(mean), 1e-12)


def save(root, name, tokenizer, pieces, tensors):
    folder = root / name
    save_weights(folder / "model.safetensors", tensors)
    write_json(
        folder / "config.json",
        {
            "model_type": "model2vec",
            "architectures": ["StaticModel"],
            "hidden_dim": 16,
            "seq_length": 1000000,
            "normalize": True,
        },
    )
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"},
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    vocab = len(pieces)
    weights = tensors.get("weights", np.ones(vocab))
    mapping = tensors.get("mapping", np.arange(vocab))
    texts = TEXTS + LONG
    results = [embed(tokenizer, pieces, text, tensors["embeddings"], weights, mapping) for text in texts]
    golden = {"texts": texts, "embeddings": rounded([row for _, row in results]), "ids": [ids for ids, _ in results]}
    write_json(folder / "golden.json", golden)
    print(f"{name}: {tensors['embeddings'].dtype}, {sum(not ids for ids, _ in results)} texts without a known token")


def make(root: Path):
    tokenizer, pieces = word_piece()
    rng = np.random.Generator(np.random.PCG64(20_263))
    table = rng.standard_normal((len(pieces), 16)).astype(np.float32)
    save(root, "static_f32", tokenizer, pieces, {"embeddings": table})
    save(root, "static_f16", tokenizer, pieces, {"embeddings": table.astype(np.float16)})
    scale = np.abs(table).max() / 127
    save(root, "static_i8", tokenizer, pieces, {"embeddings": np.round(table / scale).astype(np.int8)})
    mapping = rng.integers(0, 24, len(pieces)).astype(np.int32)
    weights = rng.uniform(0.1, 2.0, len(pieces))
    quantized = {"embeddings": table[:24], "mapping": mapping, "weights": weights}
    save(root, "static_vocabulary_quantized", tokenizer, pieces, quantized)

    folder = root / "static_embedding"
    save_weights(folder / "0_StaticEmbedding" / "model.safetensors", {"embedding.weight": table})
    tokenizer.save(str(folder / "0_StaticEmbedding" / "tokenizer.json"), pretty=False)
    write_json(
        folder / "modules.json",
        [
            {
                "idx": 0,
                "name": "0",
                "path": "0_StaticEmbedding",
                "type": "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding",
            }
        ],
    )
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    # Beyond 512 tokens, which sentence-transformers does not cut.
    write_json(folder / "golden.json", reference(folder, [*TEXTS, " ".join(WORDS * 6)]))
