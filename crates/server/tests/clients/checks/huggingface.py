"""huggingface_hub's InferenceClient: an address as the model is asked as it stands."""

import asyncio
import importlib

from checks import BAD_KEY, LONG, Skip, check, cosine, cut_to, equal, f32, raises, same, same_direction


def hf_client(c, path="", key=None):
    hub = importlib.import_module("huggingface_hub")
    return hub, hub.InferenceClient(model=c.base + path, token=key or c.key)


def hf_status(hub, status, call, *args, **kwargs):
    errors = importlib.import_module("huggingface_hub.errors")
    error = raises(errors.HfHubHTTPError, call, *args, **kwargs)
    allowed = status if isinstance(status, tuple) else (status,)
    assert error.response.status_code in allowed, f"expected status {status}, found {error.response.status_code}"


@check("huggingface_hub", "feature_extraction at / and /embed")
def _(c):
    for path in ("", "/embed"):
        _, client = hf_client(c, path)
        same(client.feature_extraction(c.texts), c.vectors)
        one = client.feature_extraction(c.texts[0])
        equal(one.shape, (1, c.width), "the shape of one text")
        same(one, c.vectors[:1])


@check("huggingface_hub", "feature_extraction, async")
def _(c):
    hub = importlib.import_module("huggingface_hub")

    async def run():
        async with hub.AsyncInferenceClient(model=c.base, token=c.key) as client:
            return await client.feature_extraction(c.texts)

    same(asyncio.run(run()), c.vectors)


@check("huggingface_hub", "feature_extraction, every parameter")
def _(c):
    _, client = hf_client(c)
    size = c.width // 2
    found = client.feature_extraction(
        c.texts, normalize=True, truncate=True, truncation_direction="left", dimensions=size, encoding_format="float"
    )
    for row, vector in zip(found, c.vectors, strict=True):
        cut_to(row.tolist(), vector, size)
    for row, vector in zip(client.feature_extraction(c.texts, normalize=False), c.vectors, strict=True):
        same_direction(row.tolist(), vector)


@check("huggingface_hub", "an unknown prompt_name is refused")
def _(c):
    hub, client = hf_client(c)
    hf_status(hub, (400, 422), client.feature_extraction, c.texts[0], prompt_name="no-such-prompt")


@check("huggingface_hub", "a long text: cut with truncate=True, refused with truncate=False")
def _(c):
    c.needs_a_limit()
    hub, client = hf_client(c)
    equal(client.feature_extraction(LONG, truncate=True).shape, (1, c.width), "the shape")
    hf_status(hub, (413, 422), client.feature_extraction, LONG, truncate=False)


@check("huggingface_hub", "sentence_similarity at / and /similarity")
def _(c):
    for path in ("", "/similarity"):
        _, client = hf_client(c, path)
        scores = client.sentence_similarity(c.texts[0], other_sentences=c.texts[1:])
        equal(len(scores), len(c.texts) - 1, "scores")
        for score, vector in zip(scores, c.vectors[1:], strict=True):
            expected = cosine(f32(c.vectors[0]), f32(vector))
            assert abs(score - expected) <= 1e-6, f"expected {expected}, found {score}"


@check("huggingface_hub", "text_classification")
def _(c):
    if not c.classifier_url:
        raise Skip("no --classifier-url")
    hub = importlib.import_module("huggingface_hub")
    found = hub.InferenceClient(model=c.classifier_url, token=c.key).text_classification(c.texts[0])
    assert isinstance(found, list) and found, f"expected a list of labels, found {found!r}"
    scores = [element.score for element in found]
    equal(scores, sorted(scores, reverse=True), "scores from high to low")
    assert all(isinstance(element.label, str) for element in found), f"labels: {found}"


@check("huggingface_hub", "bad key is status 401")
def _(c):
    c.needs_key()
    hub, client = hf_client(c, key=BAD_KEY)
    hf_status(hub, 401, client.feature_extraction, c.texts[0])
