"""What every check shares: the registry, the server under test, and how vectors are compared."""

import array
import base64
import json
import math
import sys
import urllib.error
import urllib.request

# Of the cosine between a vector cut here in doubles and one cut by the server in f32.
CUT_COSINE = 1e-6
# Of a relevance score between 0 and 1: one decimal f32 through a sigmoid of either side.
SCORE = 1e-6
# Longer than any model of the tests reads.
LONG = "word " * 20_000
ABSENT = "no-such-model"
BAD_KEY = "not-the-key"


class Skip(Exception):
    """The check does not apply; the text says why."""


class Context:
    """What the command line says, and the few calls that every check shares."""

    def __init__(self, args):
        self.base, self.model, self.reranker = args.base.rstrip("/"), args.model, args.reranker
        self.classifier_url, self.key = args.classifier_url, args.api_key
        with open(args.expected, encoding="utf-8") as file:
            self.expected = json.load(file)
        self.texts, self.vectors = self.expected["texts"], self.expected["vectors"]
        if len(self.texts) < 2 or len(self.texts) != len(self.vectors):
            sys.exit(f"{args.expected}: expected two texts or more and a vector for each")
        self.width = len(self.vectors[0])

    @property
    def any_key(self):
        """A key for clients that refuse to start without one; a server without keys takes any."""
        return self.key or "EMPTY"

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def needs_key(self):
        if not self.key:
            raise Skip("the server has no keys (no --api-key)")

    def http(self, method, path, body=None):
        """A plain request: (status, JSON)."""
        headers = {"Content-Type": "application/json", **self.headers}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, None

    def info(self):
        """The model's entry of /embral/v1/models, or an empty one."""
        status, answer = self.http("GET", "/embral/v1/models")
        models = answer["models"] if status == 200 else []
        named = [m for m in models if self.model == m["name"] or self.model in m.get("aliases", [])]
        return (named[0].get("info") or {}) if named else {}

    def needs_a_limit(self):
        info = self.info()
        if "max_tokens" in info and info["max_tokens"] is None:
            raise Skip("the model reads texts of any length")

    def has_prompts(self):
        return bool(self.info().get("prompts"))


def f32(vector):
    return array.array("f", vector)


def from_base64(text):
    assert isinstance(text, str), f"expected a base64 string, found {type(text).__name__}"
    values = array.array("f", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def same(found, expected, what="vectors"):
    """The same float32 values, bit for bit."""
    found, expected = list(found), list(expected)
    assert len(found) == len(expected), f"{what}: expected {len(expected)}, found {len(found)}"
    for row, (a, b) in enumerate(zip(found, expected, strict=True)):
        a, b = f32(a), f32(b)
        assert len(a) == len(b), f"{what}[{row}]: expected {len(b)} components, found {len(a)}"
        if a != b:
            off = max(abs(x - y) for x, y in zip(a, b, strict=True))
            raise AssertionError(f"{what}[{row}]: not the float32 values of the library, {off:.3e} apart at most")


def cosine(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
        math.fsum(x * x for x in a) * math.fsum(y * y for y in b)
    )


def same_direction(found, expected):
    assert len(found) == len(expected), f"expected {len(expected)} components, found {len(found)}"
    assert cosine(found, expected) >= 1 - CUT_COSINE, f"cosine {cosine(found, expected)}"


def cut_to(found, expected, size):
    """The first `size` components, normalised again."""
    assert len(found) == size, f"expected {size} components, found {len(found)}"
    same_direction(found, expected[:size])
    norm = math.sqrt(math.fsum(x * x for x in found))
    assert abs(norm - 1) <= 1e-5, f"expected a vector of length 1, found {norm}"


def equal(found, expected, what):
    assert found == expected, f"{what}: expected {expected!r}, found {found!r}"


def raises(kind, call, *args, **kwargs):
    """The exception of exactly this kind (or one of several) that the call raises."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(k.__name__ for k in kinds)
    try:
        call(*args, **kwargs)
    except kinds as error:
        return error
    except Exception as error:
        raise AssertionError(f"expected {names}, the client raised {type(error).__name__}: {error}") from error
    raise AssertionError(f"expected {names}, the client raised nothing")


CHECKS = []


def check(client, what):
    def add(function):
        CHECKS.append((client, what, function))
        return function

    return add
