"""Models of the published shapes with random weights, in Embral, torch, ONNX Runtime and OpenVINO, in one run.

    python geometry.py make MODELS TEXTS              once: folders, ONNX graphs (some 10 GB for all four)
    python geometry.py run MODELS TEXTS EMBRAL [--only bge-base,qwen3-0.6b] [--threads 2] [--rounds 3] [--out table.md]

TEXTS is a folder with queries.txt and passages.txt, mixed.txt, a text a line. Speed does not depend on the values of weights, so that none
are downloaded. Needs torch, transformers, tokenizers, onnx, onnxruntime, openvino, numpy; the versions are in engines.toml.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

CUT = 512
# work: (file, first texts, texts a batch)
WORKS = {
    "one-query": ("queries.txt", 16, 1),
    "queries": ("queries.txt", 64, 32),
    "passages": ("passages.txt", 16, 16),
    "mixed": ("mixed.txt", 16, 16),
}
# name: (class, pooling, the configuration as published)
SHAPES = {
    "bge-base": (
        "Bert",
        "cls",
        dict(model_type="bert", vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
             hidden_act="gelu", layer_norm_eps=1e-12, max_position_embeddings=512, type_vocab_size=2),
    ),
    "nomic-embed-v1.5": (
        "NomicBert",
        "mean",
        dict(model_type="nomic_bert", vocab_size=30528, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
             intermediate_size=3072, hidden_act="silu", layer_norm_eps=1e-12, max_position_embeddings=8192, type_vocab_size=2,
             rope_parameters={"rope_type": "default", "rope_theta": 1000.0}),
    ),
    "modernbert-base": (
        "ModernBert",
        "cls",
        dict(model_type="modernbert", vocab_size=50368, hidden_size=768, num_hidden_layers=22, num_attention_heads=12,
             intermediate_size=1152, hidden_activation="gelu", norm_eps=1e-5, norm_bias=False, attention_bias=False, mlp_bias=False,
             global_attn_every_n_layers=3, global_rope_theta=160000.0, local_rope_theta=10000.0, local_attention=128,
             max_position_embeddings=8192, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3),
    ),
    "qwen3-0.6b": (
        "Qwen3",
        "lasttoken",
        dict(model_type="qwen3", vocab_size=151669, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
             head_dim=128, intermediate_size=3072, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=1000000, rope_scaling=None,
             attention_bias=False, max_position_embeddings=32768, tie_word_embeddings=True, use_sliding_window=False, sliding_window=None),
    ),
}
ARCHITECTURE = {"Bert": "BertModel", "NomicBert": "NomicBertModel", "ModernBert": "ModernBertModel", "Qwen3": "Qwen3ForCausalLM"}


def lines(folder, file):
    with open(folder / file, encoding="utf-8") as f:
        return [line.rstrip("\n") for line in f if line.strip()]


def tokenizer_of(texts, kind):
    """Trained on the texts themselves; the sizes of a batch are what matters, and every engine has the same."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    if kind == "Qwen3":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        end = "<|endoftext|>"
        made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=20_000, special_tokens=[end], show_progress=False,
                                                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        made.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, made.token_to_id(end))])
        return made, {"eos_token": end, "pad_token": end}
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=20_000, special_tokens=special, show_progress=False))
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special))
    return made, names


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def make(root, texts, only):
    import torch
    import transformers

    corpus = [line for file in ("queries.txt", "passages.txt", "mixed.txt") for line in lines(texts, file)]
    for name in only:
        kind, pooling, config = SHAPES[name]
        folder = root / name
        torch.manual_seed(20_261)
        network = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config)).eval()
        network.save_pretrained(str(folder))
        write(folder / "config.json", {"architectures": [ARCHITECTURE[kind]], **config})
        tokenizer, special = tokenizer_of(corpus, kind)
        tokenizer.save(str(folder / "tokenizer.json"))
        write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config["max_position_embeddings"], **special})
        kinds = ("Transformer", "Pooling", "Normalize")
        write(folder / "modules.json", [
            {"idx": i, "name": str(i), "path": f"{i}_{k}" if i else "", "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)
        ])
        write(folder / "1_Pooling" / "config.json", {
            "word_embedding_dimension": config["hidden_size"],
            **{f"pooling_mode_{k}": pooling == p for k, p in (("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "lasttoken"))},
        })
        export(folder, kind, pooling, config)
        print(f"{name}: {sum(p.numel() for p in network.parameters()) / 1e6:.0f} M parameters in {folder}", flush=True)


def pooled(folder, kind, pooling, attention):
    """The network with its pooling, of inputs that are padded on the right."""
    import torch
    import transformers

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            cls = getattr(transformers, f"{kind}Model")
            self.network = cls.from_pretrained(str(folder), attn_implementation=attention, dtype=torch.float32).eval()

        def forward(self, input_ids, attention_mask):
            more = {"use_cache": False} if kind == "Qwen3" else {}
            rows = self.network(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
            if pooling == "cls":
                rows = rows[:, 0]
            elif pooling == "mean":
                weights = attention_mask.unsqueeze(-1).to(rows.dtype)
                rows = (rows * weights).sum(1) / weights.sum(1)
            else:
                last = (attention_mask.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, rows.shape[-1])
                rows = rows.gather(1, last).squeeze(1)
            return torch.nn.functional.normalize(rows, dim=-1)

    return Pooled().eval()


def export(folder, kind, pooling, config):
    import torch

    ids = torch.randint(4, 1000, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    plain = folder / "onnx" / "plain.onnx"
    plain.parent.mkdir(exist_ok=True)
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=2, max=CUT)
    with torch.inference_mode():
        torch.onnx.export(pooled(folder, kind, pooling, "sdpa"), (ids, mask), str(plain), input_names=["input_ids", "attention_mask"],
                          output_names=["sentence_embedding"], dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}), dynamo=True,
                          external_data=True)
    if kind == "Bert":
        # ONNX Runtime's own optimizer knows the graph that tracing writes.
        from onnxruntime.transformers.optimizer import optimize_model

        traced = folder / "onnx" / "traced.onnx"
        names = ["input_ids", "attention_mask"]
        torch.onnx.export(pooled(folder, kind, pooling, "eager"), (ids, mask), str(traced), input_names=names,
                          output_names=["sentence_embedding"], opset_version=17, dynamo=False,
                          dynamic_axes={name: {0: "batch", 1: "length"} for name in names} | {"sentence_embedding": {0: "batch"}})
        fused = optimize_model(str(traced), model_type="bert", num_heads=config["num_attention_heads"], hidden_size=config["hidden_size"])
        traced.unlink()
        print({k: v for k, v in fused.get_fused_operator_statistics().items() if v})
        fused.save_model_to_file(str(folder / "onnx" / "fused.onnx"), use_external_data_format=True)


def engines(folder, kind, pooling, threads):
    """The peers that run this model; one that does not is named with its error."""
    import torch

    torch.set_num_threads(threads)
    made = {}

    def with_torch(dtype):
        network = pooled(folder, kind, pooling, "sdpa").to(dtype)

        def run(ids, mask):
            with torch.inference_mode():
                return network(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()

        return run

    def with_onnx(file):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(folder / "onnx" / file), options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        return lambda ids, mask: session.run(None, dict(zip(names, (ids, mask))))[0]

    def with_openvino(hint):
        import openvino

        options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(str(folder / "onnx" / "plain.onnx"), "CPU", options)
        request = compiled.create_infer_request()
        names = [i.any_name for i in compiled.inputs]
        return lambda ids, mask: request.infer(dict(zip(names, (ids, mask))))[compiled.output(0)].copy()

    wanted = {
        "torch f32": lambda: with_torch(torch.float32),
        "torch bf16": lambda: with_torch(torch.bfloat16),
        "onnxruntime f32": lambda: with_onnx("plain.onnx"),
        "openvino f32": lambda: with_openvino("f32"),
        "openvino bf16": lambda: with_openvino("bf16"),
    }
    if kind == "Bert":
        wanted["onnxruntime f32, fused"] = lambda: with_onnx("fused.onnx")
    for name, start in wanted.items():
        try:
            made[name] = start()
        except Exception as fault:
            print(f"{folder.name}: {name} does not run it: {str(fault).splitlines()[0][:200]}", flush=True)
    return made


def run(root, texts, command, only, works, threads, rounds, out):
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import numpy as np
    from tokenizers import Tokenizer

    said = []

    def say(line):
        print(line, flush=True)
        said.append(line)

    def arrays(encoded):
        longest = max(len(e.ids) for e in encoded)
        ids = np.zeros((len(encoded), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, e in enumerate(encoded):
            ids[row, : len(e.ids)] = e.ids
            mask[row, : len(e.ids)] = 1
        return ids, mask

    def with_embral(folder, work, precision):
        file, limit, batch = WORKS[work]
        with tempfile.TemporaryDirectory() as scratch:
            done = subprocess.run(
                [command, "bench", "texts", "--model", folder, "--precision", precision, "--threads", str(threads), "--batch-size", str(batch),
                 "--max-tokens", str(CUT), "--rounds", "2", "--texts", texts / file, "--limit", str(limit), "--json", f"{scratch}/o.json",
                 "--npy", f"{scratch}/o.npy"],
                capture_output=True, text=True,
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            return min(json.load(open(f"{scratch}/o.json"))["seconds"]), np.load(f"{scratch}/o.npy")

    for name in only:
        kind, pooling, _ = SHAPES[name]
        folder = root / name
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(CUT)
        peers = engines(folder, kind, pooling, threads)
        for work in works:
            file, limit, batch = WORKS[work]
            chosen = lines(texts, file)[:limit]
            parts = [chosen[i : i + batch] for i in range(0, limit, batch)]

            def whole(engine):
                return np.concatenate([engine(*arrays(tokenizer.encode_batch(part))) for part in parts])

            reference = whole(peers["torch f32"])
            tokens = sum(len(e.ids) for e in tokenizer.encode_batch(chosen))
            seconds, cosine = {}, {}
            for _ in range(rounds):
                for engine, start in peers.items():
                    if engine not in cosine:
                        cosine[engine] = (whole(start) * reference).sum(1).min()
                    began = time.perf_counter()
                    whole(start)
                    seconds.setdefault(engine, []).append(time.perf_counter() - began)
                for precision in ("f32", "bf16", "int8"):
                    took, vectors = with_embral(folder, work, precision)
                    seconds.setdefault(f"embral {precision}", []).append(took)
                    cosine[f"embral {precision}"] = (vectors * reference).sum(1).min()
            median = {engine: float(np.median(all_)) for engine, all_ in seconds.items()}
            best = min(took for engine, took in median.items() if " f32" in engine and not engine.startswith("embral"))
            say(f"\n### {name}, {work}: {limit} texts, {tokens} tokens, batches of {batch}, {threads} threads\n")
            say("| engine | median ms | tokens/s | lowest cosine | speed against the best f32 peer |\n|---|---|---|---|---|")
            for engine, took in sorted(median.items(), key=lambda pair: pair[1]):
                say(f"| {engine} | {took * 1e3:.1f} | {tokens / took:.0f} | {cosine[engine]:.5f} | {best / took:.2f} |")
        del peers
    if out:
        out.write_text("\n".join(said) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("models", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("embral", nargs="?")
    parser.add_argument("--only", default=",".join(SHAPES))
    parser.add_argument("--works", default=",".join(WORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    if a.what == "make":
        make(a.models, a.texts, a.only.split(","))
    else:
        run(a.models, a.texts, a.embral, a.only.split(","), a.works.split(","), a.threads, a.rounds, a.out)


if __name__ == "__main__":
    main()
