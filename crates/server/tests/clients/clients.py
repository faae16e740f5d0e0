"""The Python clients of other embedding servers, unmodified, against a running `embral serve`.

    python clients.py --base http://127.0.0.1:PORT --model NAME --expected expected.json

expected.json: {"texts": [str], "vectors": [[float]]}, the normalised vectors that the library gives for the texts without a
prompt. At least two texts. Optional keys, each of them turns a property into an equality:
    "raw_vectors"                        before normalisation, for Ollama's /api/embeddings
    "query_vectors", "document_vectors"  with the model's prompts, for Cohere's input_type
    "ranges": {"min": [..], "max": [..]} of each component, for int8 and uint8
    "rerank": {"query", "documents", "scores"}  scores after the sigmoid, of --reranker

Vectors are compared as float32, bit for bit: every server route here gives f32, as base64 or as decimal numbers that read back
as the same f32. Python's clients lose nothing: they keep doubles, or numpy float32 (huggingface_hub). Only `dimensions` has a
tolerance, since the norm of what is left is computed here in another order.

The model must be the first of the server (the TEI dialect names none). Each check is one line: `ok`, `FAILED` or `skipped`.
Nothing but loopback is reached: other addresses go to a proxy that does not exist. Exit status 1 where a check failed.
"""

import argparse
import importlib
import os
import signal
import sys
import tempfile

# Where caches and tokens would be; empty at the start.
SCRATCH = tempfile.TemporaryDirectory(prefix="embral-clients-")
EMPTY = SCRATCH.name
NOWHERE = "http://127.0.0.1:9"
os.environ.update(
    http_proxy=NOWHERE, https_proxy=NOWHERE, all_proxy=NOWHERE, no_proxy="127.0.0.1,localhost,::1",
    HTTP_PROXY=NOWHERE, HTTPS_PROXY=NOWHERE, ALL_PROXY=NOWHERE, NO_PROXY="127.0.0.1,localhost,::1",
    HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_IMPLICIT_TOKEN="1", DO_NOT_TRACK="1", ANONYMIZED_TELEMETRY="false",
    LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false", TIKTOKEN_CACHE_DIR=EMPTY, HF_HOME=EMPTY,
)  # fmt: skip
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OLLAMA_API_KEY", "OLLAMA_HOST", "CO_API_KEY",
             "CO_API_URL", "HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "HF_HUB_OFFLINE"):  # fmt: skip
    os.environ.pop(name, None)

# Imported late: the clients read the environment when they are imported.
sys.dont_write_bytecode = True
from checks import (  # noqa: E402, F401
    CHECKS,
    Context,
    Skip,
    cohere_python,
    huggingface,
    langchain,
    llama_index_tei,
    ollama_python,
    openai_python,
)

sys.dont_write_bytecode = False

# The module that each client's checks need first; absent, they are skipped.
MODULES = {
    "openai-python": "openai",
    "ollama-python": "ollama",
    "cohere-python": "cohere",
    "huggingface_hub": "huggingface_hub",
    "langchain-openai": "langchain_openai",
    "langchain-ollama": "langchain_ollama",
    "langchain-huggingface": "langchain_huggingface",
    "llama-index": "llama_index.embeddings.text_embeddings_inference",
}


def absent(module):
    """Why the module cannot be imported, where the reason is that it, or one it needs, is not installed."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"not installed: {error.name}"
    return None


class Tally:
    """What became of the checks."""

    def __init__(self):
        self.passed, self.failed, self.skipped, self.running = 0, 0, 0, ""

    def ok(self, name):
        self.passed += 1
        print(f"ok {name}", flush=True)

    def fail(self, name, why):
        self.failed += 1
        print(f"FAILED {name}: {why}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"skipped {name}: {why}", flush=True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        SCRATCH.cleanup()
        # Not sys.exit: threads that clients leave behind must not hold the process.
        os._exit(1 if self.failed else 0)


def run(context, only, tally):
    """Every check; the packages that are not installed."""
    missing = {}
    for client, what, function in CHECKS:
        name = f"{client} {what}"
        if only and only not in name:
            continue
        tally.running = name
        if client not in missing:
            missing[client] = absent(MODULES[client])
        try:
            if missing[client]:
                raise Skip(missing[client])
            function(context)
        except Skip as reason:
            tally.skip(name, reason)
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__module__}.{type(error).__name__}: "
            tally.fail(name, kind + " ".join(str(error).split())[:400])
        else:
            tally.ok(name)
    return sorted({why for why in missing.values() if why})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="http://127.0.0.1:PORT")
    parser.add_argument("--model", required=True, help="the first model of the server")
    parser.add_argument("--expected", required=True, help="the texts, and the vectors of the library")
    parser.add_argument("--reranker", help="a reranker that the server has too")
    parser.add_argument("--classifier-url", help="where POST answers for a classifier, such as the / of a second server")
    parser.add_argument("--api-key", help="the key, where the server has keys")
    parser.add_argument("--only", help="checks whose client or title contains this")
    parser.add_argument("--require-clients", action="store_true", help="a package that is not installed is a failure")
    parser.add_argument("--timeout", type=int, default=300, help="seconds for all checks together [default: 300]")
    args = parser.parse_args()
    context, tally = Context(args), Tally()

    def late(*_):
        tally.fail(tally.running, f"not done {args.timeout} s after the start")
        tally.end()

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, late)
        signal.alarm(args.timeout)
    missing = run(context, args.only, tally)
    if tally.passed + tally.failed + tally.skipped == 0:
        tally.fail("--only", f"no check is named {args.only}")
    for why in missing if args.require_clients else ():
        tally.fail("--require-clients", why)
    tally.end()


if __name__ == "__main__":
    main()
