"""ollama, the Python client: validates every answer against its types."""

import asyncio
import importlib

from checks import ABSENT, BAD_KEY, LONG, check, cut_to, equal, raises, same, same_direction


def ollama_client(c, headers=None):
    ollama = importlib.import_module("ollama")
    return ollama, ollama.Client(host=c.base, headers=c.headers if headers is None else headers)


def ollama_error(error, status):
    equal(error.status_code, status, "status_code")
    assert isinstance(error.error, str) and error.error, f"expected a text in `error`, found {error.error!r}"


@check("ollama-python", "embed, batch and single")
def _(c):
    _, client = ollama_client(c)
    answer = client.embed(c.model, c.texts)
    same(answer.embeddings, c.vectors)
    assert answer.model, "an empty model"
    assert answer.prompt_eval_count > 0 and answer.total_duration > 0, "prompt_eval_count or total_duration is not positive"
    same(client.embed(c.model, c.texts[0]).embeddings, c.vectors[:1])


@check("ollama-python", "embed with keep_alive and options")
def _(c):
    _, client = ollama_client(c)
    same(client.embed(c.model, c.texts, keep_alive="5m", options={"num_ctx": 512, "seed": 1}).embeddings, c.vectors)


@check("ollama-python", "embed, async")
def _(c):
    ollama = importlib.import_module("ollama")

    async def run():
        return (await ollama.AsyncClient(host=c.base, headers=c.headers).embed(c.model, c.texts)).embeddings

    same(asyncio.run(run()), c.vectors)


@check("ollama-python", "embed of nothing is no vectors")
def _(c):
    _, client = ollama_client(c)
    equal(list(client.embed(c.model, []).embeddings), [], "embeddings")


@check("ollama-python", "dimensions")
def _(c):
    _, client = ollama_client(c)
    size = c.width // 2
    for found, vector in zip(client.embed(c.model, c.texts, dimensions=size).embeddings, c.vectors, strict=True):
        cut_to(found, vector, size)


@check("ollama-python", "embeddings (legacy, not normalised)")
def _(c):
    _, client = ollama_client(c)
    for row, text in enumerate(c.texts):
        found = client.embeddings(c.model, text).embedding
        if "raw_vectors" in c.expected:
            same([found], [c.expected["raw_vectors"][row]])
        else:
            same_direction(found, c.vectors[row])


@check("ollama-python", "a long text: cut by default, refused with truncate=False")
def _(c):
    c.needs_a_limit()
    ollama, client = ollama_client(c)
    equal(len(client.embed(c.model, LONG).embeddings), 1, "vectors")
    ollama_error(raises(ollama.ResponseError, client.embed, c.model, LONG, truncate=False), 400)


@check("ollama-python", "list")
def _(c):
    _, client = ollama_client(c)
    models = client.list().models
    named = [m for m in models if m.model in (c.model, c.model + ":latest")]
    assert named, f"{c.model} is not among {[m.model for m in models]}"
    model = named[0]
    assert model.modified_at and model.digest and model.size is not None and model.details, f"an incomplete entry: {model}"


@check("ollama-python", "show")
def _(c):
    _, client = ollama_client(c)
    shown = client.show(c.model)
    assert "embedding" in (shown.capabilities or []), f"capabilities: {shown.capabilities}"
    lengths = [v for k, v in (shown.modelinfo or {}).items() if k.endswith(".embedding_length")]
    equal(lengths, [c.width], "model_info[*.embedding_length]")
    assert shown.details and shown.details.family, f"details: {shown.details}"


@check("ollama-python", "ps")
def _(c):
    _, client = ollama_client(c)
    client.embed(c.model, c.texts[0])
    running = [m.model for m in client.ps().models]
    assert c.model in running or c.model + ":latest" in running, f"{c.model} is not among {running}"


@check("ollama-python", "pull of a model that is there, plain and streamed")
def _(c):
    _, client = ollama_client(c)
    equal(client.pull(c.model).status, "success", "status")
    lines = [line.status for line in client.pull(c.model, stream=True)]
    equal(lines[-1:], ["success"], "the last status")


@check("ollama-python", "unknown model is status 404")
def _(c):
    ollama, client = ollama_client(c)
    ollama_error(raises(ollama.ResponseError, client.embed, ABSENT, "a"), 404)
    ollama_error(raises(ollama.ResponseError, client.embeddings, ABSENT, "a"), 404)
    ollama_error(raises(ollama.ResponseError, client.show, ABSENT), 404)


@check("ollama-python", "bad key is status 401")
def _(c):
    c.needs_key()
    ollama, client = ollama_client(c, {"Authorization": f"Bearer {BAD_KEY}"})
    ollama_error(raises(ollama.ResponseError, client.embed, c.model, "a"), 401)
    ollama_error(raises(ollama.ResponseError, client.list), 401)
