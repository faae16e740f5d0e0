"""Writes crates/onnx/tests/graphs: exports of the tiny BERT with what they give for some ids, products of integers that a runtime may
get wrong, and small graphs of each form that is known or refused.
"""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import BertModel

ROOT = Path(__file__).resolve().parents[2] / "crates" / "onnx" / "tests" / "graphs"
IDS = [[2, 17, 40, 3], [2, 3], [2, 90, 11, 51, 60, 7, 3], [2, 41, 17, 3], [2, 8, 3]]


class Pooled(torch.nn.Module):
    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids, attention_mask):
        rows = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(rows.dtype)
        return torch.nn.functional.normalize((rows * mask).sum(1) / mask.sum(1), dim=1)


class Rows(torch.nn.Module):
    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


def export(model, names, output, file):
    ids = torch.tensor([IDS[0]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    axes = {name: {0: "batch", 1: "tokens"} for name in names} | {output: {0: "batch"}}
    buffer = io.BytesIO()
    torch.onnx.export(
        model.eval(),
        tuple(inputs[name] for name in names),
        buffer,
        input_names=names,
        output_names=[output],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    (ROOT / file).write_bytes(buffer.getvalue())


def bert(folder):
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager").eval()
    three = ["input_ids", "attention_mask", "token_type_ids"]
    export(Rows(model), three, "last_hidden_state", "rows.onnx")
    export(Pooled(model), three[:2], "sentence_embedding", "pooled.onnx")
    double = model.double()
    rows, pooled = [], []
    with torch.no_grad():
        for ids in IDS:
            tensor = torch.tensor([ids])
            mask = torch.ones_like(tensor)
            rows.append(Rows(double)(tensor, mask, torch.zeros_like(tensor))[0].tolist())
            pooled.append(Pooled(double)(tensor, mask)[0].tolist())
    nine = lambda row: [float(f"{x:.9g}") for x in row]  # noqa: E731
    expected = {"ids": IDS, "rows": [[nine(r) for r in text] for text in rows], "pooled": [nine(r) for r in pooled]}
    (ROOT / "expected.json").write_text(json.dumps(expected) + "\n")


def product(name, dtype, points):
    """A table of two columns of ids, then whole numbers through MatMulInteger: exact or wrong."""
    rng = np.random.default_rng(5)
    k, n = 64, 96
    low, high = (0, 256) if dtype == TensorProto.UINT8 else (-128, 128)
    kind = np.uint8 if dtype == TensorProto.UINT8 else np.int8
    weights = rng.integers(low, high, (k, n)).astype(kind)
    table = rng.integers(0, 256, (16, k)).astype(np.uint8)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("MatMulInteger", ["rows", "weights", "zero", "points"], ["sums"], name=name),
        helper.make_node("Cast", ["sums"], ["last_hidden_state"], to=TensorProto.FLOAT),
    ]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array(7, dtype=np.uint8), "zero"),
        numpy_helper.from_array(np.asarray(points, dtype=kind), "points"),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", n])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, ROOT / f"{name}.onnx")
    exact = (table.astype(np.int64) - 7) @ (weights.astype(np.int64) - np.asarray(points, dtype=np.int64))
    return exact.tolist()


def write(name, nodes, constants, inputs, outputs, **how):
    """`inputs` and `outputs` are a name, a type and the axes."""
    infos = [[helper.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, name, *infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="embral")
    onnx.save_model(model, ROOT / f"{name}.onnx", **how)


def table(k=8):
    return np.random.default_rng(7).standard_normal((16, k)).astype(np.float32)


IDS_INPUT = ("input_ids", TensorProto.INT64, ["texts", "tokens"])
MASK_INPUT = ("attention_mask", TensorProto.INT64, ["texts", "tokens"])


def forms():
    """A lookup under the names, types and axes of exporters."""
    rows = numpy_helper.from_array(table(), "table")
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    gather = helper.make_node("Gather", ["table", "input_ids"], ["token_embeddings"])
    mean = helper.make_node("ReduceMean", ["token_embeddings"], ["sentence_embedding"], axes=[1], keepdims=0)
    token_rows = ("token_embeddings", TensorProto.FLOAT, ["texts", "tokens", 8])
    vectors = ("sentence_embedding", TensorProto.FLOAT, ["texts", 8])
    write("both", [gather, mean], [rows], [IDS_INPUT], [vectors, token_rows])
    write("unused_mask", [gather], [rows], [IDS_INPUT, MASK_INPUT], [token_rows])
    cache = ("past_key_values.0.key", TensorProto.FLOAT, ["texts", 2, "past", 4])
    write("cache", [gather], [rows], [IDS_INPUT, cache], [token_rows])
    write("no_ids", [helper.make_node("Cast", ["attention_mask"], ["token_embeddings"], to=TensorProto.FLOAT)], [],
          [MASK_INPUT, ("position_ids", TensorProto.INT64, ["texts", "tokens"])], [token_rows])
    write("fixed_tokens", [gather], [rows], [("input_ids", TensorProto.INT64, ["texts", 128])], [token_rows])
    write("fixed_texts", [gather], [rows], [("input_ids", TensorProto.INT64, [4, "tokens"])], [token_rows])
    logits = ("logits", TensorProto.FLOAT, ["texts", 8])
    write("logits", [gather, helper.make_node("ReduceMean", ["token_embeddings"], ["logits"], axes=[1], keepdims=0)],
          [rows], [IDS_INPUT], [logits])
    whole = helper.make_node("ReduceMean", ["token_embeddings"], ["all"], axes=[0, 1], keepdims=0)
    write("one_row", [gather, whole], [rows], [IDS_INPUT], [("all", TensorProto.FLOAT, [8])])
    ids = helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.INT64)
    write("integers_out", [ids], [axes], [IDS_INPUT], [("numbers", TensorProto.INT64, ["texts", "tokens"])])
    beside = {"save_as_external_data": True, "location": "external.onnx_data", "size_threshold": 64}
    (ROOT / "external.onnx_data").unlink(missing_ok=True)
    write("external", [gather], [rows], [IDS_INPUT], [token_rows], **beside)


def dynamic():
    """Activations as 8-bit integers by one scale for the whole input: rows depend on all that is in it."""
    rng = np.random.default_rng(8)
    constants = [
        numpy_helper.from_array(table(32), "table"),
        numpy_helper.from_array(rng.integers(-127, 128, (32, 64)).astype(np.int8), "weights"),
        numpy_helper.from_array(np.zeros(64, dtype=np.int8), "points"),
        numpy_helper.from_array((rng.random(64) / 1000).astype(np.float32), "scales"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("DynamicQuantizeLinear", ["rows"], ["bytes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["bytes", "weights", "zero", "points"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "scales"], ["both"]),
        helper.make_node("Mul", ["floats", "both"], ["last_hidden_state"]),
    ]
    write("dynamic", nodes, constants, [IDS_INPUT], [("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", 64])])


def make(root):
    ROOT.mkdir(parents=True, exist_ok=True)
    bert(root / "tiny_bert")
    forms()
    dynamic()
    rng = np.random.default_rng(6)
    exact = {
        "signed": product("signed", TensorProto.INT8, 0),
        "unsigned": product("unsigned", TensorProto.UINT8, 131),
        "signed_shifted": product("signed_shifted", TensorProto.INT8, 5),
        "unsigned_by_column": product("unsigned_by_column", TensorProto.UINT8, rng.integers(100, 156, 96)),
    }
    (ROOT / "exact.json").write_text(json.dumps(exact) + "\n")
    (ROOT / "table.json").write_text(json.dumps(table().astype(float).tolist()) + "\n")
