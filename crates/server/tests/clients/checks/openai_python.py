"""openai, the Python client: base64 unless the caller asks for something else."""

import asyncio
import importlib

from checks import ABSENT, BAD_KEY, check, cut_to, equal, from_base64, raises, same


def openai_client(c, key=None):
    openai = importlib.import_module("openai")
    return openai, openai.OpenAI(base_url=f"{c.base}/v1", api_key=key or c.any_key)


def openai_error(error, code):
    """The four keys of OpenAI's error object, as the client read them."""
    body = error.response.json()["error"]
    missing = {"message", "type", "param", "code"} - set(body)
    assert not missing, f"the error object lacks {sorted(missing)}"
    assert isinstance(body["message"], str) and body["message"], "an empty message"
    if code is not None:
        equal(error.code, code, "error.code")


@check("openai-python", "base64 default, batch")
def _(c):
    _, client = openai_client(c)
    answer = client.embeddings.create(model=c.model, input=c.texts)
    same((d.embedding for d in answer.data), c.vectors)
    equal([d.index for d in answer.data], list(range(len(c.texts))), "index")


@check("openai-python", "base64 default, single")
def _(c):
    _, client = openai_client(c)
    for text, vector in zip(c.texts, c.vectors, strict=True):
        same([client.embeddings.create(model=c.model, input=text).data[0].embedding], [vector])


@check("openai-python", "base64 is sent where base64 is asked for")
def _(c):
    _, client = openai_client(c)
    answer = client.embeddings.create(model=c.model, input=c.texts, encoding_format="base64")
    same((from_base64(d.embedding) for d in answer.data), c.vectors)


@check("openai-python", "float")
def _(c):
    _, client = openai_client(c)
    answer = client.embeddings.create(model=c.model, input=c.texts, encoding_format="float", user="somebody")
    same((d.embedding for d in answer.data), c.vectors)


@check("openai-python", "every field of the answer")
def _(c):
    _, client = openai_client(c)
    raw = client.embeddings.with_raw_response.create(model=c.model, input=c.texts, encoding_format="float")
    assert raw.headers["content-type"].split(";")[0] == "application/json", raw.headers["content-type"]
    types = importlib.import_module("openai.types")
    answer = types.CreateEmbeddingResponse.model_validate(raw.http_response.json())
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0, f"usage: {answer.usage}"
    assert answer.model, "an empty model"


@check("openai-python", "async")
def _(c):
    openai = importlib.import_module("openai")

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{c.base}/v1", api_key=c.any_key) as client:
            calls = [client.embeddings.create(model=c.model, input=text) for text in c.texts]
            return [answer.data[0].embedding for answer in await asyncio.gather(*calls)]

    same(asyncio.run(run()), c.vectors)


@check("openai-python", "dimensions")
def _(c):
    _, client = openai_client(c)
    size = c.width // 2
    for data, vector in zip(client.embeddings.create(model=c.model, input=c.texts, dimensions=size).data, c.vectors, strict=True):
        cut_to(data.embedding, vector, size)


@check("openai-python", "models.list and models.retrieve")
def _(c):
    _, client = openai_client(c)
    types = importlib.import_module("openai.types")
    page = client.models.list()
    equal(page.object, "list", "object")
    models = [types.Model.model_validate(m.model_dump()) for m in page]
    assert c.model in [m.id for m in models], f"{c.model} is not among {[m.id for m in models]}"
    equal(client.models.retrieve(c.model).id, c.model, "id")


@check("openai-python", "unknown model is NotFoundError")
def _(c):
    openai, client = openai_client(c)
    openai_error(raises(openai.NotFoundError, client.embeddings.create, model=ABSENT, input="a"), "model_not_found")
    raises(openai.NotFoundError, client.models.retrieve, "absent/" + ABSENT)


@check("openai-python", "bad key is AuthenticationError")
def _(c):
    c.needs_key()
    openai, client = openai_client(c, BAD_KEY)
    openai_error(raises(openai.AuthenticationError, client.embeddings.create, model=c.model, input="a"), "invalid_api_key")
    raises(openai.AuthenticationError, client.models.list)


@check("openai-python", "bad input is BadRequestError")
def _(c):
    openai, client = openai_client(c)
    openai_error(raises(openai.BadRequestError, client.embeddings.create, model=c.model, input=[]), None)
    openai_error(raises(openai.BadRequestError, client.embeddings.create, model=c.model, input={"a": 1}), None)
    openai_error(raises(openai.BadRequestError, client.embeddings.create, model=c.model, input="a", dimensions=0), None)
    wide = c.width + 1
    openai_error(raises(openai.BadRequestError, client.embeddings.create, model=c.model, input="a", dimensions=wide), None)
    raises(openai.BadRequestError, client.embeddings.create, model=c.model, input="a", encoding_format="text")


@check("openai-python", "token ids outside the vocabulary are BadRequestError")
def _(c):
    openai, client = openai_client(c)
    for ids in ([2_000_000_000], [[2_000_000_000]], [-1]):
        openai_error(raises(openai.BadRequestError, client.embeddings.create, model=c.model, input=ids), None)
