"""cohere, versions 1 and 2 of its interface: the address has no path, the client adds /v1 or /v2."""

import asyncio
import importlib
import math

from checks import ABSENT, BAD_KEY, LONG, SCORE, Skip, check, cut_to, equal, f32, from_base64, raises, same

INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")


def cohere_client(c, version, key=None):
    cohere = importlib.import_module("cohere")
    return cohere, getattr(cohere, version)(api_key=key or c.any_key, base_url=c.base)


def plain_input_type(c):
    """An input type that puts no prompt before the text, and the vectors of it."""
    if c.has_prompts() and "document_vectors" not in c.expected:
        raise Skip("the model has prompts, and expected.json no document_vectors")
    return "search_document", c.expected.get("document_vectors", c.vectors)


@check("cohere-python", "v2 embed, the default is float")
def _(c):
    _, client = cohere_client(c, "ClientV2")
    kind, vectors = plain_input_type(c)
    answer = client.embed(model=c.model, input_type=kind, texts=c.texts)
    same(answer.embeddings.float_, vectors)
    same(client.embed(model=c.model, input_type=kind, texts=c.texts[:1]).embeddings.float_, vectors[:1])
    equal(answer.texts, c.texts, "texts")
    assert isinstance(answer.id, str) and answer.id, f"id: {answer.id!r}"
    assert answer.meta.billed_units.input_tokens > 0, f"meta: {answer.meta}"


@check("cohere-python", "v2 embed, inputs with text content")
def _(c):
    _, client = cohere_client(c, "ClientV2")
    kind, vectors = plain_input_type(c)
    inputs = [{"content": [{"type": "text", "text": text}]} for text in c.texts]
    answer = client.embed(model=c.model, input_type=kind, inputs=inputs, embedding_types=["float"])
    same(answer.embeddings.float_, vectors)


@check("cohere-python", "v2 embed, async")
def _(c):
    cohere = importlib.import_module("cohere")
    kind, vectors = plain_input_type(c)

    async def run():
        async with cohere.AsyncClientV2(api_key=c.any_key, base_url=c.base) as client:
            return await client.embed(model=c.model, input_type=kind, texts=c.texts, embedding_types=["float"])

    same(asyncio.run(run()).embeddings.float_, vectors)


@check("cohere-python", "v2 embed, float and base64")
def _(c):
    _, client = cohere_client(c, "ClientV2")
    kind, vectors = plain_input_type(c)
    found = client.embed(model=c.model, input_type=kind, texts=c.texts, embedding_types=["float", "base64"]).embeddings
    same(found.float_, vectors)
    same(map(from_base64, found.base64), vectors)


def packed(vector):
    """Eight signs a byte, the first in the highest bit."""
    bits = [1 if x > 0 else 0 for x in f32(vector)]
    bits += [0] * (-len(bits) % 8)
    return [int("".join(map(str, bits[i : i + 8])), 2) for i in range(0, len(bits), 8)]


@check("cohere-python", "v2 embed, binary and ubinary")
def _(c):
    _, client = cohere_client(c, "ClientV2")
    kind, vectors = plain_input_type(c)
    found = client.embed(model=c.model, input_type=kind, texts=c.texts, embedding_types=["binary", "ubinary"]).embeddings
    equal(found.ubinary, [packed(v) for v in vectors], "ubinary")
    equal(found.binary, [[x - 128 for x in packed(v)] for v in vectors], "binary")


def levels(vector, ranges):
    """clip(floor((x - min) / step), 0, 255) in float32, step = (max - min) / 255, or 1 where that is 0."""

    def one(x):
        return f32([x])[0]

    out = []
    for x, low, high in zip(f32(vector), f32(ranges["min"]), f32(ranges["max"]), strict=True):
        step = one(one(high - low) / 255) or 1.0
        out.append(min(255, max(0, math.floor(one(one(x - low) / step)))))
    return out


@check("cohere-python", "v2 embed, int8 and uint8")
def _(c):
    cohere, client = cohere_client(c, "ClientV2")
    kind, vectors = plain_input_type(c)
    errors = (cohere.BadRequestError, cohere.UnprocessableEntityError, cohere.NotImplementedError)
    try:
        answer = client.embed(model=c.model, input_type=kind, texts=c.texts, embedding_types=["int8", "uint8"])
    except errors as error:
        if "ranges" not in c.expected and any(word in str(error.body) for word in ("range", "calibrat")):
            raise Skip(f"the server has no ranges of this model: {error.body}") from error
        raise
    found = answer.embeddings
    equal([len(v) for v in found.uint8], [c.width] * len(c.texts), "components of uint8")
    assert all(0 <= x <= 255 for v in found.uint8 for x in v), "uint8 outside 0..255"
    equal(found.int8, [[x - 128 for x in v] for v in found.uint8], "int8 is uint8 less 128")
    if "ranges" in c.expected:
        equal(found.uint8, [levels(v, c.expected["ranges"]) for v in vectors], "uint8")
    for column in range(c.width):
        pairs = sorted((f32([v[column]])[0], q[column]) for v, q in zip(vectors, found.uint8, strict=True))
        assert all(a[1] <= b[1] for a, b in zip(pairs, pairs[1:])), f"component {column}: uint8 does not keep the order of float"


@check("cohere-python", "v2 embed, every input_type")
def _(c):
    _, client = cohere_client(c, "ClientV2")
    for kind in INPUT_TYPES:
        found = client.embed(model=c.model, input_type=kind, texts=c.texts, embedding_types=["float"]).embeddings.float_
        key = {"search_document": "document_vectors", "search_query": "query_vectors"}.get(kind)
        if key in c.expected:
            same(found, c.expected[key], kind)
        elif not c.has_prompts():
            same(found, c.vectors, kind)
        else:
            equal([len(v) for v in found], [c.width] * len(c.texts), f"components of {kind}")


@check("cohere-python", "v2 embed, output_dimension")
def _(c):
    _, client = cohere_client(c, "ClientV2")
    kind, vectors = plain_input_type(c)
    size = c.width // 2
    answer = client.embed(model=c.model, input_type=kind, texts=c.texts, output_dimension=size, priority=1)
    for found, vector in zip(answer.embeddings.float_, vectors, strict=True):
        cut_to(found, vector, size)


@check("cohere-python", "v2 embed, truncate START and END cut, NONE refuses")
def _(c):
    c.needs_a_limit()
    cohere, client = cohere_client(c, "ClientV2")
    for side in ("START", "END"):
        answer = client.embed(model=c.model, input_type="search_document", texts=[LONG], truncate=side)
        equal(len(answer.embeddings.float_), 1, f"vectors with {side}")
    kinds = (cohere.BadRequestError, cohere.UnprocessableEntityError)
    error = raises(kinds, client.embed, model=c.model, input_type="search_document", texts=[LONG], truncate="NONE")
    assert isinstance(error.body["message"], str), f"expected a message, found {error.body!r}"


@check("cohere-python", "v1 embed, plain and by type, in batches of 96")
def _(c):
    _, client = cohere_client(c, "Client")
    kind, vectors = plain_input_type(c)
    plain = client.embed(model=c.model, input_type=kind, texts=c.texts)
    equal(plain.response_type, "embeddings_floats", "response_type")
    same(plain.embeddings, vectors)
    times = 100 // len(c.texts) + 1
    many = client.embed(model=c.model, input_type=kind, texts=c.texts * times, embedding_types=["float", "ubinary"])
    equal(many.response_type, "embeddings_by_type", "response_type")
    same(many.embeddings.float_, vectors * times)
    equal(len(many.embeddings.ubinary), len(c.texts) * times, "vectors of ubinary")


@check("cohere-python", "unknown model is NotFoundError")
def _(c):
    cohere, client = cohere_client(c, "ClientV2")
    error = raises(cohere.NotFoundError, client.embed, model=ABSENT, input_type="search_query", texts=["a"])
    assert isinstance(error.body["message"], str), f"expected a message, found {error.body!r}"
    raises(cohere.NotFoundError, client.rerank, model=ABSENT, query="a", documents=["b"])


@check("cohere-python", "bad key is UnauthorizedError")
def _(c):
    c.needs_key()
    cohere, client = cohere_client(c, "ClientV2", BAD_KEY)
    raises(cohere.UnauthorizedError, client.embed, model=c.model, input_type="search_query", texts=["a"])


@check("cohere-python", "bad input is BadRequestError")
def _(c):
    cohere, client = cohere_client(c, "ClientV2")
    kinds = (cohere.BadRequestError, cohere.UnprocessableEntityError)
    raises(kinds, client.embed, model=c.model, input_type="search_query", texts=["a"], embedding_types=["nibble"])
    raises(kinds, client.embed, model=c.model, input_type="no-such-type", texts=["a"])


def rerank_case(c):
    if not c.reranker:
        raise Skip("no --reranker")
    case = c.expected.get("rerank")
    return (case["query"], case["documents"], case["scores"]) if case else (c.texts[0], c.texts, None)


def ranked(results, documents, scores):
    found = [r.relevance_score for r in results]
    equal(found, sorted(found, reverse=True), "scores from high to low")
    assert all(0 <= x <= 1 for x in found), f"scores outside 0..1: {found}"
    places = [r.index for r in results]
    assert len(set(places)) == len(places) and set(places) <= set(range(len(documents))), f"index: {places}"
    for result in results if scores else ():
        off = abs(result.relevance_score - scores[result.index])
        assert off <= SCORE, f"document {result.index}: expected {scores[result.index]}, found {result.relevance_score}"


@check("cohere-python", "v2 rerank")
def _(c):
    query, documents, scores = rerank_case(c)
    cohere, client = cohere_client(c, "ClientV2")
    everything = client.rerank(model=c.reranker, query=query, documents=documents).results
    equal(len(everything), len(documents), "results")
    ranked(everything, documents, scores)
    first = client.rerank(model=c.reranker, query=query, documents=documents, top_n=1).results
    equal([(r.index, r.relevance_score) for r in first], [(r.index, r.relevance_score) for r in everything[:1]], "top_n=1")


@check("cohere-python", "v1 rerank, documents given back")
def _(c):
    query, documents, scores = rerank_case(c)
    _, client = cohere_client(c, "Client")
    mixed = [{"text": d} if i % 2 else d for i, d in enumerate(documents)]
    results = client.rerank(model=c.reranker, query=query, documents=mixed, return_documents=True).results
    ranked(results, documents, scores)
    equal([r.document.text for r in results], [documents[r.index] for r in results], "documents")


@check("cohere-python", "rerank by an embedding model is refused")
def _(c):
    cohere, client = cohere_client(c, "ClientV2")
    kinds = (cohere.BadRequestError, cohere.UnprocessableEntityError, cohere.NotImplementedError)
    raises(kinds, client.rerank, model=c.model, query="a", documents=["b"])
