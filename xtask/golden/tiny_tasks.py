"""Rerankers, classifiers, sparse and multi-vector models over the tiny BERT and the tiny Qwen3, with what the reference computes.

Each folder holds a tasks.json, and only the files in which it differs from the folder it is `over`.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from folders import save_weights, seeded_state, write_json
from safetensors.numpy import load_file
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from texts import TEXTS
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
    pipeline,
)

# Of the long texts one is enough where every token has a vector.
FEW = [TEXTS[i] for i in [0, 1, 2, 4, 5, 8, 9, 11]]
QUERY = "how many cats sat on the mat?"
PAIRS = [[QUERY, text] for text in TEXTS] + [
    [TEXTS[-1], "a cat"],
    [TEXTS[-1], TEXTS[-1]],
    ["", ""],
    ["the quick brown fox jumped over the lazy dog " * 3, "the red house is on the other side of the water " * 3],
]


def rounded(rows):
    """f64 rows with eight significant digits, which is a fiftieth of what is allowed to differ."""
    return [[float(f"{v:.8g}") for v in row] for row in np.asarray(rows, dtype=np.float64)]


def files_of(root: Path, name):
    """The files of a folder, those of what it is over among them."""
    part = root / name
    golden = part / "tasks.json"
    files = {}
    if golden.exists():
        value = json.loads(golden.read_text())
        files = {path: data for path, data in files_of(root, value["over"]).items() if path not in value["without"]}
    for file in sorted(part.rglob("*")):
        if file.is_file() and file.name not in ["golden.json", "tasks.json"]:
            files[file.relative_to(part).as_posix()] = file.read_bytes()
    return files


def assemble(root: Path, base: str, name: str, modules=False):
    """The base as a whole folder of its own; without `modules`, without those of an embedding model."""
    whole = root / "whole" / name
    dropped = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"]
    for path, data in files_of(root, base).items():
        if modules or path not in dropped:
            (whole / path).parent.mkdir(parents=True, exist_ok=True)
            (whole / path).write_bytes(data)
    return whole


def keep(root: Path, base: str, whole: Path, golden):
    """Writes what differs from the base, and the golden."""
    part = root / whole.name
    before = files_of(root, base)
    after = {f.relative_to(whole).as_posix(): f.read_bytes() for f in sorted(whole.rglob("*")) if f.is_file()}
    for path, data in after.items():
        if before.get(path) != data:
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_bytes(data)
    without = sorted(set(before) - set(after))
    text = json.dumps({"over": base, "without": without, **golden}, ensure_ascii=False, separators=(",", ":"))
    (part / "tasks.json").write_text(text.replace('],"', '],\n"') + "\n", encoding="utf-8")
    shutil.rmtree(whole)
    print(f"{part.name}: {sum(f.stat().st_size for f in part.rglob('*') if f.is_file()) / 1024:.0f} KiB")


def configuration(whole: Path, **more):
    config = json.loads((whole / "config.json").read_text())
    config.update(more)
    write_json(whole / "config.json", config)
    return config


def classifier(root: Path, name, seed, labels, **more):
    whole = assemble(root, "tiny_bert", name)
    config = configuration(
        whole,
        architectures=["BertForSequenceClassification"],
        id2label={str(i): label for i, label in enumerate(labels)},
        label2id={label: i for i, label in enumerate(labels)},
        **more,
    )
    settings = json.loads((whole / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    write_json(whole / "tokenizer_config.json", settings)
    model = BertForSequenceClassification(BertConfig(**config))
    save_weights(whole / "model.safetensors", seeded_state(model, seed))
    return whole


def pair_ids(model, pairs):
    rows = [model.preprocess([pair]) for pair in pairs]
    return [
        {
            "ids": [int(i) for i in row["input_ids"][0]],
            "segments": [int(i) for i in row["token_type_ids"][0]] if "token_type_ids" in row else [],
        }
        for row in rows
    ]


def scores(model, pairs, **more):
    double = model.double()
    return np.asarray(double.predict(pairs, batch_size=1, convert_to_tensor=True, **more).double())


def rerankers(root: Path):
    whole = classifier(root, "tiny_reranker", 20_271, ["LABEL_0"])
    model = CrossEncoder(str(whole), device="cpu", local_files_only=True)
    found = scores(model, PAIRS)
    golden = {"pairs": PAIRS, "scores": rounded(found[:, None]), "pair_ids": pair_ids(model, PAIRS)}
    golden["logits"] = rounded(scores(model, PAIRS, activation_fn=torch.nn.Identity())[:, None])
    # The form of sentence-transformers 5.4 and later, with the logit itself as the score.
    model = CrossEncoder(str(whole), device="cpu", local_files_only=True, activation_fn=torch.nn.Identity())
    saved = assemble(root, "tiny_bert", "tiny_reranker_saved")
    model.save(str(saved), create_model_card=False)
    for same in ["tokenizer.json", "model.safetensors"]:
        shutil.copy(whole / same, saved / same)
    # The class that the tokeniser is saved under knows no token types.
    settings = json.loads((saved / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "TokenizersBackend"
    settings.pop("model_input_names", None)
    write_json(saved / "tokenizer_config.json", settings)
    model = CrossEncoder(str(saved), device="cpu", local_files_only=True)
    again = {"pairs": PAIRS, "scores": rounded(scores(model, PAIRS)[:, None]), "pair_ids": pair_ids(model, PAIRS)}
    assert not any(pair["segments"] for pair in again["pair_ids"]) and any(golden["pair_ids"][0]["segments"])
    keep(root, "tiny_bert", whole, golden)
    keep(root, "tiny_reranker", saved, again)

    # Three labels: scores as of the text classification of transformers, on texts and on pairs.
    labels = ["contradiction", "entailment", "neutral"]
    whole = classifier(root, "tiny_classifier", 20_273, labels)
    tokenizer = AutoTokenizer.from_pretrained(whole)
    model = AutoModelForSequenceClassification.from_pretrained(whole).double()
    run = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None, truncation=True, max_length=48)

    def row(results):
        return [next(r["score"] for r in results if r["label"] == label) for label in labels]

    golden = {"texts": TEXTS, "labels": labels, "scores": rounded([row(run([text])[0]) for text in TEXTS])}
    golden["pairs"] = PAIRS
    # Not by the pipeline, and as lists: elsewhere an empty second text is none.
    rows = []
    for first, second in PAIRS:
        features = tokenizer([first], [second], truncation=True, max_length=48, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**features).logits[0].softmax(-1).numpy())
    golden["pair_scores"] = rounded(rows)
    keep(root, "tiny_bert", whole, golden)


def xlm_roberta_reranker(root: Path):
    """The form of bge-reranker: pairs without token types, two marks between the texts, and a head of two layers."""
    whole = assemble(root, "tiny_xlm_roberta", "tiny_xlm_roberta_reranker")
    config = configuration(
        whole,
        architectures=["XLMRobertaForSequenceClassification"],
        id2label={"0": "LABEL_0"},
        label2id={"LABEL_0": 0},
    )
    settings = json.loads((whole / "tokenizer_config.json").read_text())
    write_json(whole / "tokenizer_config.json", {**settings, "model_input_names": ["input_ids", "attention_mask"]})
    model = XLMRobertaForSequenceClassification(XLMRobertaConfig(**config))
    save_weights(whole / "model.safetensors", seeded_state(model, 20_277))
    model = CrossEncoder(str(whole), device="cpu", local_files_only=True)
    golden = {"pairs": PAIRS, "scores": rounded(scores(model, PAIRS)[:, None]), "pair_ids": pair_ids(model, PAIRS)}
    assert not any(pair["segments"] for pair in golden["pair_ids"])
    keep(root, "tiny_xlm_roberta", whole, golden)


IDENTITY = "torch.nn.modules.linear.Identity"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def yes_no(root: Path, tied):
    """Qwen3-Reranker: the question as its makers publish it, and the softmax of the two answers."""
    name = "tiny_yes_no" if tied else "tiny_yes_no_untied"
    base = "tiny_qwen3" if tied else "tiny_yes_no"
    whole = assemble(root, "tiny_qwen3", name)
    tokenizer = AutoTokenizer.from_pretrained(whole)
    # The tokenizer of Qwen3 puts nothing behind a text, and has the answers and the marks of a chat as tokens.
    file = json.loads((whole / "tokenizer.json").read_text())
    file["post_processor"] = file["post_processor"]["processors"][0]
    count = len(tokenizer)
    for i, token in enumerate(["yes", "no", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]):
        added = {"id": count + i, "content": token, "special": token.startswith("<|")}
        file["added_tokens"].append({**dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False), **added})
    (whole / "tokenizer.json").write_text(json.dumps(file, ensure_ascii=False), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(whole)
    config = configuration(whole, vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=tied)
    settings = json.loads((whole / "tokenizer_config.json").read_text())
    write_json(whole / "tokenizer_config.json", {**settings, "model_max_length": 400})
    model = Qwen3ForCausalLM(Qwen3Config(**config))
    state = seeded_state(model, 20_274)
    if tied:
        state.pop("lm_head.weight", None)
    save_weights(whole / "model.safetensors", state)
    model = Qwen3ForCausalLM.from_pretrained(whole).double().eval()
    before = tokenizer.encode(BEFORE, add_special_tokens=False)
    after = tokenizer.encode(AFTER, add_special_tokens=False)
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ["yes", "no"])
    rows, ids = [], []
    for query, document in PAIRS:
        text = f"<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {document}"
        middle = tokenizer.encode(
            text, add_special_tokens=False, truncation=True, max_length=400 - len(before) - len(after)
        )
        all_ids = before + middle + after
        ids.append({"ids": all_ids, "segments": []})
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([all_ids])).logits[0, -1]
        rows.append([float(logits[yes] - logits[no])])
    scores = [[1 / (1 + math.exp(-x))] for [x] in rows]
    keep(root, base, whole, {"pairs": PAIRS, "scores": rounded(scores), "logits": rounded(rows), "pair_ids": ids})


def sparse(root: Path):
    """SPLADE, plain and with each of the other poolings, as sentence-transformers saves and computes it."""
    variants = {"tiny_splade": ("max", "relu"), "tiny_splade_sum": ("sum", "log1p_relu")}
    for name, (pooling, activation) in variants.items():
        whole = assemble(root, "tiny_bert", name)
        config = configuration(whole, architectures=["BertForMaskedLM"], tie_word_embeddings=True)
        state = seeded_state(BertForMaskedLM(BertConfig(**config)), 20_275)
        # The decoder is the word table.
        for tied in ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]:
            state.pop(tied, None)
        # Of a size at which some logits are below zero and most entries have no weight.
        state["cls.predictions.bias"] = state["cls.predictions.bias"] - np.float32(8.0)
        save_weights(whole / "model.safetensors", state)
        if name != "tiny_splade":
            write_json(whole / "modules.json", splade_modules())
            write_json(whole / "config_sentence_transformers.json", {"model_type": "SparseEncoder", "prompts": {}})
            write_json(
                whole / "1_SpladePooling" / "config.json",
                {"pooling_strategy": pooling, "activation_function": activation, "word_embedding_dimension": None},
            )
        model = SparseEncoder(str(whole), device="cpu", local_files_only=True).double()
        model.max_seq_length = 48
        rows = [model.encode([text], convert_to_sparse_tensor=False).double().numpy()[0] for text in TEXTS]
        golden = {"texts": TEXTS, "sparse": [sparse_row(row) for row in rows]}
        weights = sum(len(row["ids"]) for row in golden["sparse"])
        print(f"{name}: {weights} weights of {len(rows) * len(rows[0])}")
        keep(root, "tiny_bert" if name == "tiny_splade" else "tiny_splade", whole, golden)


def splade_modules():
    old = "sentence_transformers.sparse_encoder.models."
    return [
        {"idx": 0, "name": "0", "path": "", "type": old + "MLMTransformer"},
        {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": old + "SpladePooling"},
    ]


def sparse_row(row):
    ids = np.flatnonzero(row)
    return {"ids": [int(i) for i in ids], "weights": [float(f"{row[i]:.8g}") for i in ids]}


def dense(whole: Path, folder, seed, outputs=8):
    rng = np.random.Generator(np.random.PCG64(seed))
    weight = (rng.standard_normal((outputs, 32)) / np.sqrt(32)).astype(np.float32)
    save_weights(whole / folder / "model.safetensors", {"linear.weight": weight})
    return {"in_features": 32, "out_features": outputs, "bias": False, "activation_function": IDENTITY}


def multi_vector(root: Path):
    """ColBERT in the forms of sentence-transformers 6 and of PyLate 3."""
    tokens = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    new = "sentence_transformers."

    whole = assemble(root, "tiny_bert", "tiny_colbert")
    types = ["base.modules.transformer.Transformer", "base.modules.dense.Dense"]
    types += ["multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask", "base.modules.normalize.Normalize"]
    paths = ["", "1_Dense", "2_MultiVectorMask", "3_Normalize"]
    modules = [{"idx": i, "name": str(i), "path": p, "type": new + t} for i, (p, t) in enumerate(zip(paths, types))]
    write_json(whole / "modules.json", modules)
    write_json(whole / "1_Dense" / "config.json", {**dense(whole, "1_Dense", 31), **tokens})
    mask = {"skiplist_words": [".", ",", "!", "cat"], "skiplist_tasks": ["document"], "keep_only_token_ids": None}
    write_json(whole / "2_MultiVectorMask" / "config.json", mask)
    write_json(whole / "3_Normalize" / "config.json", tokens)
    limits = {"transformer_task": "feature-extraction", "document_length": 40}
    limits["query_expansion"] = {"strategy": "min", "attend": True, "token": None, "length": 12}
    write_json(whole / "sentence_bert_config.json", limits)
    prompts = {"query": "the word of the day is ", "document": ""}
    settings = {"model_type": "MultiVectorEncoder", "prompts": prompts, "similarity_fn_name": "maxsim"}
    write_json(whole / "config_sentence_transformers.json", settings)
    keep(root, "tiny_bert", whole, vectors(whole))

    whole = assemble(root, "tiny_bert", "tiny_colbert_pylate")
    types = [new + "models.Transformer", "pylate.models.Dense.Dense"]
    modules = [{"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(zip(["", "1_Dense"], types))]
    write_json(whole / "modules.json", modules)
    write_json(whole / "1_Dense" / "config.json", {**dense(whole, "1_Dense", 32), "use_residual": False})
    settings = {"model_type": "ColBERT", "query_prefix": "_ ", "document_prefix": "% ", "query_length": 16}
    settings |= {"document_length": 30, "attend_to_expansion_tokens": False, "do_query_expansion": True}
    write_json(whole / "config_sentence_transformers.json", {**settings, "prompts": {}, "similarity_fn_name": "MaxSim"})
    write_json(whole / "sentence_bert_config.json", {"max_seq_length": 30, "do_lower_case": False})
    keep(root, "tiny_bert", whole, vectors(whole))


def stanford(root: Path):
    """Stanford's ColBERT: one checkpoint with the projection in it, and a file of settings."""
    whole = assemble(root, "tiny_bert", "tiny_colbert_stanford")
    configuration(whole, architectures=["HF_ColBERT"])
    state = {"bert." + name: value for name, value in load_file(whole / "model.safetensors").items()}
    rng = np.random.Generator(np.random.PCG64(34))
    state["linear.weight"] = (rng.standard_normal((8, 32)) / np.sqrt(32)).astype(np.float32)
    save_weights(whole / "model.safetensors", state)
    settings = {"query_token_id": "_", "doc_token_id": "%", "query_maxlen": 14, "doc_maxlen": 36}
    write_json(whole / "artifact.metadata", {**settings, "mask_punctuation": True, "attend_to_mask_tokens": False})
    keep(root, "tiny_bert", whole, vectors(whole))


def vectors(whole: Path):
    model = MultiVectorEncoder(str(whole), device="cpu", local_files_only=True).double()
    queries = [model.encode_query([text])[0].double() for text in FEW]
    documents = [model.encode_document([text])[0].double() for text in FEW]
    return {
        "texts": FEW,
        "queries": [rounded(rows.numpy()) for rows in queries],
        "documents": [rounded(rows.numpy()) for rows in documents],
        "similarity": rounded(model.similarity(queries, documents).double().numpy()),
    }


def joint(root: Path):
    """The heads of bge-m3 over a BERT: one vector, token weights and token vectors."""
    whole = assemble(root, "tiny_bert", "tiny_joint", modules=True)
    (whole / "1_Pooling" / "config.json").write_bytes(files_of(root, "tiny_bert_cls")["1_Pooling/config.json"])
    golden, layers = joint_heads(whole, 33, BertModel, [f"[{t}]" for t in ["CLS", "SEP", "PAD", "UNK"]])
    keep(root, "tiny_bert", whole, golden)

    # The two layers as the makers of bge-m3 publish them.
    whole = assemble(root, "tiny_joint", "tiny_joint_torch", modules=True)
    for name, tensors in layers.items():
        (whole / f"{name}.safetensors").unlink()
        torch.save({key: torch.from_numpy(value) for key, value in tensors.items()}, whole / f"{name}.pt")
    keep(root, "tiny_joint", whole, {key: golden[key] for key in ["texts", "sparse", "documents"]})

    # And over what bge-m3 is.
    whole = assemble(root, "tiny_xlm_roberta", "tiny_joint_xlm_roberta", modules=True)
    golden, _ = joint_heads(whole, 35, XLMRobertaModel, ["<s>", "</s>", "<pad>", "<unk>"])
    keep(root, "tiny_xlm_roberta", whole, golden)


def joint_heads(whole: Path, seed, model_class, special):
    """Writes the two heads of bge-m3 into a folder; what they give by their definition in FlagEmbedding, and their tensors."""
    rng = np.random.Generator(np.random.PCG64(seed))
    hidden = json.loads((whole / "config.json").read_text())["hidden_size"]
    limit = AutoTokenizer.from_pretrained(whole).model_max_length
    limits = whole / "sentence_bert_config.json"
    limit = json.loads(limits.read_text())["max_seq_length"] if limits.exists() else limit

    def layer(outputs):
        weight = (rng.standard_normal((outputs, hidden)) / np.sqrt(hidden)).astype(np.float32)
        return {"weight": weight, "bias": (0.1 * rng.standard_normal(outputs)).astype(np.float32)}

    lexical, colbert = layer(1), layer(8)
    save_weights(whole / "sparse_linear.safetensors", lexical)
    save_weights(whole / "colbert_linear.safetensors", colbert)
    tokenizer = AutoTokenizer.from_pretrained(whole)
    model = model_class.from_pretrained(whole, add_pooling_layer=False).double().eval()
    unused = set(tokenizer.convert_tokens_to_ids(special))
    golden = {"texts": FEW, "dense": [], "sparse": [], "documents": []}
    for text in FEW:
        ids = tokenizer([text], truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            rows = model(**ids).last_hidden_state[0].numpy()
        vector = rows[0] / np.linalg.norm(rows[0])
        weights = np.maximum(rows @ lexical["weight"][0].astype(np.float64) + lexical["bias"].astype(np.float64), 0)
        best = {}
        for i, w in zip(ids["input_ids"][0].tolist(), weights):
            if i not in unused and w > 0:
                best[i] = max(best.get(i, 0.0), float(w))
        tokens = rows[1:] @ colbert["weight"].astype(np.float64).T + colbert["bias"].astype(np.float64)
        golden["dense"] += rounded([vector])
        golden["sparse"].append({"ids": sorted(best), "weights": [float(f"{best[i]:.8g}") for i in sorted(best)]})
        golden["documents"].append(rounded(tokens / np.linalg.norm(tokens, axis=1, keepdims=True)))
    return golden, {"sparse_linear": lexical, "colbert_linear": colbert}


def make(root: Path):
    rerankers(root)
    xlm_roberta_reranker(root)
    yes_no(root, tied=True)
    yes_no(root, tied=False)
    sparse(root)
    multi_vector(root)
    stanford(root)
    joint(root)
    shutil.rmtree(root / "whole")
