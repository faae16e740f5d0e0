"""Late chunking as its reference does it, on tiny_bert: one pass, the rows of each chunk pooled by their mean.

The spans are those of `_extend_special_tokens` of the authors' repository (jina-ai/late-chunking): the first chunk owns the tokens
before the text, the last one those behind it. Windows are what docs/cli.md says of them, written here a second time.
"""

import json

import numpy as np
import torch
from folders import rounded
from transformers import AutoTokenizer, BertModel

LIMIT = 32
WORDS = "the cat sat on a mat and the dog ran over to one house of red stone".split()
PROMPT = "query: "


def documents():
    random = np.random.default_rng(7)
    texts = ["a cat sat on the mat. the dog ran. one two three.", "one"]
    for words in (40, 97):
        texts.append(" ".join(random.choice(WORDS, words)) + ".")
    return texts


def chunks(text, starts, random):
    """Bytes of some chunks that cover the text, each with a token; the texts are ASCII."""
    cuts = sorted({0, len(text), *random.choice(starts, min(4, len(starts)), replace=False).tolist()})
    return list(zip(cuts, cuts[1:]))


def rows_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0].numpy()


def token_rows(model, head, ids, tail):
    """The rows of all tokens of a document, those before and behind the text included."""
    room = LIMIT - len(head) - len(tail)
    if len(ids) <= room:
        return rows_of(model, head + ids + tail)
    overlap = room // 4
    starts = []
    while len(starts) * (room - overlap) + room < len(ids):
        starts.append(len(starts) * (room - overlap))
    starts.append(len(ids) - room)
    kept = []
    for i, start in enumerate(starts):
        rows = rows_of(model, head + ids[start : start + room] + tail)
        first = 0 if i == 0 else (starts[i - 1] + room + start) // 2
        last = len(ids) if i + 1 == len(starts) else (start + room + starts[i + 1]) // 2
        if i == 0:
            kept.append(rows[: len(head)])
        kept.append(rows[len(head) + first - start : len(head) + last - start])
        if i + 1 == len(starts):
            kept.append(rows[len(head) + room :])
    return np.concatenate(kept)


def case(model, tokenizer, text, prompt, random):
    encoded = tokenizer(prompt + text, add_special_tokens=False, return_offsets_mapping=True)
    instruction = len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt else 0
    head = [tokenizer.cls_token_id, *encoded["input_ids"][:instruction]]
    ids = encoded["input_ids"][instruction:]
    starts = [start - len(prompt) for start, _ in encoded["offset_mapping"][instruction:]]
    rows = token_rows(model, head, ids, [tokenizer.sep_token_id])
    spans = chunks(text, starts, random)
    vectors = []
    for i, (a, b) in enumerate(spans):
        of = [t for t, start in enumerate(starts) if a <= start < b]
        left = 0 if i == 0 else len(head) + of[0]
        right = len(head) + of[-1] + 1 + (1 if i + 1 == len(spans) else 0)
        pooled = rows[left:right].sum(axis=0) / (right - left)
        vectors.append(pooled / np.linalg.norm(pooled))
    return {"text": text, "prompt": prompt, "chunks": spans, "vectors": rounded(vectors)}


def make(root):
    folder = root / "tiny_bert"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BertModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    random = np.random.default_rng(11)
    cases = [case(model, tokenizer, text, prompt, random) for text in documents() for prompt in ("", PROMPT)]
    (root / "late_chunking.json").write_text(json.dumps({"cases": cases}) + "\n")
