"""LlamaIndex's TextEmbeddingsInference: posts to /embed, and does not look at the status."""

import asyncio
import importlib

from checks import BAD_KEY, LONG, check, equal, raises, same


def llama_index_client(c, **settings):
    module = importlib.import_module("llama_index.embeddings.text_embeddings_inference")
    return module.TextEmbeddingsInference(
        model_name="", base_url=c.base, **{"auth_token": c.key, "text_instruction": "", "query_instruction": "", **settings}
    )


@check("llama-index", "texts, query and batch")
def _(c):
    client = llama_index_client(c)
    # It strips the texts.
    stripped = [(t, v) for t, v in zip(c.texts, c.vectors, strict=True) if t == t.strip()]
    texts, vectors = [t for t, _ in stripped], [v for _, v in stripped]
    same(client.get_text_embedding_batch(texts), vectors)
    same([client.get_text_embedding(texts[0])], vectors[:1])
    same([client.get_query_embedding(texts[0])], vectors[:1])
    same(client.get_text_embedding_batch(texts * 12), vectors * 12)
    same([asyncio.run(client.aget_query_embedding(texts[0]))], vectors[:1])


@check("llama-index", "a long text: cut by default, no vector with truncate_text=False")
def _(c):
    c.needs_a_limit()
    equal(len(llama_index_client(c).get_text_embedding(LONG)), c.width, "components")
    # It does not look at the status, and stumbles over the error's JSON.
    raises(Exception, llama_index_client(c, truncate_text=False).get_text_embedding, LONG)


@check("llama-index", "bad key gives no vector")
def _(c):
    c.needs_key()
    raises(Exception, llama_index_client(c, auth_token=BAD_KEY).get_text_embedding, "a")
