"""LangChain's embeddings over the clients of OpenAI, Ollama and Hugging Face."""

import asyncio
import importlib

from checks import ABSENT, check, cut_to, raises, same
from checks.huggingface import hf_client
from checks.openai_python import openai_error


def langchain_openai_client(c, **settings):
    module = importlib.import_module("langchain_openai")
    return module.OpenAIEmbeddings(model=c.model, base_url=f"{c.base}/v1", api_key=c.any_key, **settings)


@check("langchain-openai", "embed_documents and embed_query, check_embedding_ctx_length=False")
def _(c):
    client = langchain_openai_client(c, check_embedding_ctx_length=False)
    same(client.embed_documents(c.texts), c.vectors)
    same([client.embed_query(c.texts[0])], c.vectors[:1])
    same(client.embed_documents(c.texts, chunk_size=1), c.vectors)
    same([asyncio.run(client.aembed_query(c.texts[0]))], c.vectors[:1])


@check("langchain-openai", "dimensions")
def _(c):
    size = c.width // 2
    client = langchain_openai_client(c, check_embedding_ctx_length=False, dimensions=size)
    cut_to(client.embed_query(c.texts[0]), c.vectors[0], size)


@check("langchain-openai", "default settings offline: the client fails before it asks the server")
def _(c):
    # tiktoken fetches the vocabulary of OpenAI's models at its first use; without a network there is no request to answer.
    client = langchain_openai_client(c)
    importlib.import_module("tiktoken.registry").ENCODINGS.pop("cl100k_base", None)
    error = raises(Exception, client.embed_documents, c.texts)
    assert not type(error).__module__.startswith("openai"), f"a request was made: {type(error).__name__}: {error}"


@check("langchain-openai", "default settings: foreign token ids outside the vocabulary are BadRequestError")
def _(c):
    # A vocabulary of single bytes stands in for OpenAI's, with ids that no model of the tests has, as most of cl100k_base's
    # 100,277 are beyond a BERT vocabulary of 30,522.
    openai, tiktoken = importlib.import_module("openai"), importlib.import_module("tiktoken")
    registry = importlib.import_module("tiktoken.registry")
    ranks = {bytes([byte]): 1_000_000 + byte for byte in range(256)}
    stand_in = tiktoken.Encoding(name="bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})
    registry.ENCODINGS["cl100k_base"] = stand_in
    try:
        error = raises(openai.BadRequestError, langchain_openai_client(c).embed_documents, c.texts)
        openai_error(error, None)
    finally:
        registry.ENCODINGS.pop("cl100k_base", None)


@check("langchain-openai", "unknown model is NotFoundError")
def _(c):
    openai, module = importlib.import_module("openai"), importlib.import_module("langchain_openai")
    client = module.OpenAIEmbeddings(model=ABSENT, base_url=f"{c.base}/v1", api_key=c.any_key, check_embedding_ctx_length=False)
    raises(openai.NotFoundError, client.embed_query, "a")


@check("langchain-ollama", "embed_documents and embed_query")
def _(c):
    module = importlib.import_module("langchain_ollama")
    client = module.OllamaEmbeddings(model=c.model, base_url=c.base, client_kwargs={"headers": c.headers})
    same(client.embed_documents(c.texts), c.vectors)
    same([client.embed_query(c.texts[0])], c.vectors[:1])
    same(asyncio.run(client.aembed_documents(c.texts)), c.vectors)


@check("langchain-ollama", "validate_model_on_init")
def _(c):
    module = importlib.import_module("langchain_ollama")
    settings = {"base_url": c.base, "client_kwargs": {"headers": c.headers}, "validate_model_on_init": True}
    same([module.OllamaEmbeddings(model=c.model, **settings).embed_query(c.texts[0])], c.vectors[:1])
    raises(ValueError, module.OllamaEmbeddings, model=ABSENT, **settings)


@check("langchain-huggingface", "HuggingFaceEndpointEmbeddings")
def _(c):
    # It takes no URL as its model, so it gets a client that has one.
    hub, client = hf_client(c)
    module = importlib.import_module("langchain_huggingface.embeddings.huggingface_endpoint")
    embeddings = module.HuggingFaceEndpointEmbeddings(model="placeholder/name", huggingfacehub_api_token=c.key)
    embeddings.client = client
    texts = [t for t in c.texts if "\n" not in t]
    same(embeddings.embed_documents(texts), [v for t, v in zip(c.texts, c.vectors, strict=True) if "\n" not in t])
    same([embeddings.embed_query(texts[0])], [c.vectors[c.texts.index(texts[0])]])
