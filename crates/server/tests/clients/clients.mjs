// The JavaScript clients of other embedding servers, unmodified, against a running `embral serve`, and what a browser asks
// before it sends a request to another origin.
//
//     node clients.mjs --base http://127.0.0.1:PORT --model NAME --expected expected.json
//         [--api-key KEY] [--origin URL] [--only TEXT] [--require-clients] [--timeout SECONDS]
//
// expected.json, the lines printed and the exit status are those of clients.py. Vectors are compared as float32, bit for bit.
// Node's fetch reaches the given address only.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: {
    base: { type: "string" },
    model: { type: "string" },
    expected: { type: "string" },
    "api-key": { type: "string" },
    origin: { type: "string", default: "http://localhost:3000" },
    only: { type: "string" },
    "require-clients": { type: "boolean", default: false },
    timeout: { type: "string", default: "120" },
  },
});
for (const name of ["base", "model", "expected"]) {
  if (!args[name]) {
    console.error(`--${name} is missing`);
    process.exit(2);
  }
}
for (const name of ["OPENAI_API_KEY", "OPENAI_BASE_URL", "OLLAMA_HOST", "OLLAMA_API_KEY"]) delete process.env[name];

const base = args.base.replace(/\/+$/, "");
const { model, "api-key": key, origin } = args;
const expected = JSON.parse(readFileSync(args.expected, "utf8"));
const { texts, vectors } = expected;
const width = vectors[0].length;
const ABSENT = "no-such-model";
const BAD_KEY = "not-the-key";
// Longer than any model of the tests reads.
const LONG = "word ".repeat(20000);
// Of the cosine between a vector cut here in doubles and one cut by the server in f32.
const CUT_COSINE = 1e-6;

class Skip extends Error {}

function assert(holds, message) {
  if (!holds) throw new Error(message);
}

function equal(found, wanted, what) {
  assert(JSON.stringify(found) === JSON.stringify(wanted), `${what}: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`);
}

/** The same float32 values, bit for bit. */
function same(found, wanted, what = "vectors") {
  equal(found.length, wanted.length, what);
  found.forEach((row, at) => {
    assert(Array.isArray(row), `${what}[${at}]: expected a list, found ${typeof row}`);
    equal(row.length, wanted[at].length, `components of ${what}[${at}]`);
    const off = row.findIndex((x, i) => !Object.is(Math.fround(x), Math.fround(wanted[at][i])));
    assert(off < 0, `${what}[${at}][${off}]: expected ${Math.fround(wanted[at][off])}, found ${row[off]}`);
  });
}

function fromBase64(text) {
  assert(typeof text === "string", `expected a base64 string, found ${typeof text}`);
  const bytes = Buffer.from(text, "base64");
  equal(bytes.toString("base64"), text, "base64 in its standard form");
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

function sameDirection(found, wanted) {
  equal(found.length, wanted.length, "components");
  const cosine = dot(found, wanted) / Math.sqrt(dot(found, found) * dot(wanted, wanted));
  assert(cosine >= 1 - CUT_COSINE, `cosine ${cosine}`);
}

function cutTo(found, wanted, size) {
  sameDirection(found, wanted.slice(0, size));
  const norm = Math.sqrt(dot(found, found));
  assert(Math.abs(norm - 1) <= 1e-5, `expected a vector of length 1, found ${norm}`);
}

/** The error of exactly this kind that the call throws. */
async function throws(kind, call) {
  try {
    await call();
  } catch (error) {
    assert(error instanceof kind, `expected ${kind.name}, the client threw ${error.constructor.name}: ${error.message}`);
    return error;
  }
  throw new Error(`expected ${kind.name}, the client threw nothing`);
}

function needsKey() {
  if (!key) throw new Skip("the server has no keys (no --api-key)");
}

async function needsALimit() {
  const answer = await fetch(`${base}/embral/v1/models`, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  const models = answer.ok ? (await answer.json()).models : [];
  const named = models.find((m) => m.name === model || (m.aliases ?? []).includes(model));
  if (named?.info?.max_tokens === null) throw new Skip("the model reads texts of any length");
}

const checks = [];
const check = (client, what, run) => checks.push({ client, what, run });
const packages = {};
const missing = {};
for (const name of ["openai", "ollama"]) {
  try {
    packages[name] = await import(name);
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    missing[`${name}-js`] = `not installed: ${name}`;
  }
}

// ---- openai

const openai = (apiKey = key ?? "EMPTY") => new packages.openai.OpenAI({ baseURL: `${base}/v1`, apiKey });

check("openai-js", "base64 default, batch", async () => {
  const answer = await openai().embeddings.create({ model, input: texts });
  same(answer.data.map((d) => d.embedding), vectors);
  equal(answer.data.map((d) => d.index), texts.map((_, i) => i), "index");
  equal([answer.object, answer.data[0].object], ["list", "embedding"], "object");
  assert(answer.usage.prompt_tokens > 0 && answer.usage.total_tokens > 0, `usage: ${JSON.stringify(answer.usage)}`);
});

check("openai-js", "base64 default, single", async () => {
  const answer = await openai().embeddings.create({ model, input: texts[0] });
  same([answer.data[0].embedding], vectors.slice(0, 1));
});

check("openai-js", "float", async () => {
  const answer = await openai().embeddings.create({ model, input: texts, encoding_format: "float" });
  same(answer.data.map((d) => d.embedding), vectors);
});

check("openai-js", "base64 is sent where base64 is asked for", async () => {
  const answer = await openai().embeddings.create({ model, input: texts, encoding_format: "base64" });
  same(answer.data.map((d) => fromBase64(d.embedding)), vectors);
});

check("openai-js", "dimensions", async () => {
  const size = Math.floor(width / 2);
  const answer = await openai().embeddings.create({ model, input: texts, dimensions: size });
  equal(answer.data.length, texts.length, "vectors");
  answer.data.forEach((d, i) => cutTo(d.embedding, vectors[i], size));
});

check("openai-js", "models.list and models.retrieve", async () => {
  const ids = [];
  for await (const entry of openai().models.list()) ids.push(entry.id);
  assert(ids.includes(model), `${model} is not among ${ids}`);
  equal((await openai().models.retrieve(model)).id, model, "id");
});

check("openai-js", "unknown model is NotFoundError", async () => {
  const error = await throws(packages.openai.NotFoundError, () => openai().embeddings.create({ model: ABSENT, input: "a" }));
  equal(error.code, "model_not_found", "error.code");
  assert(error.type && error.param !== undefined && error.error.message, `an incomplete error: ${JSON.stringify(error.error)}`);
});

check("openai-js", "bad input is BadRequestError", async () => {
  const { BadRequestError } = packages.openai;
  await throws(BadRequestError, () => openai().embeddings.create({ model, input: [] }));
  await throws(BadRequestError, () => openai().embeddings.create({ model, input: "a", dimensions: width + 1 }));
});

check("openai-js", "bad key is AuthenticationError", async () => {
  needsKey();
  const call = () => openai(BAD_KEY).embeddings.create({ model, input: "a" });
  equal((await throws(packages.openai.AuthenticationError, call)).code, "invalid_api_key", "error.code");
});

// ---- ollama

const ollama = (apiKey = key) =>
  new packages.ollama.Ollama({ host: base, headers: apiKey ? { Authorization: `Bearer ${apiKey}` } : {} });

/** ollama-js does not export the class of its errors. */
async function ollamaError(status, call) {
  const error = await throws(Error, call);
  equal([error.name, error.status_code], ["ResponseError", status], "error");
  assert(typeof error.error === "string" && error.error, `expected a text in \`error\`, found ${JSON.stringify(error.error)}`);
}

check("ollama-js", "embed, batch and single", async () => {
  const answer = await ollama().embed({ model, input: texts });
  same(answer.embeddings, vectors);
  assert(Number.isInteger(answer.prompt_eval_count) && answer.total_duration > 0, "prompt_eval_count or total_duration");
  same((await ollama().embed({ model, input: texts[0] })).embeddings, vectors.slice(0, 1));
});

check("ollama-js", "dimensions", async () => {
  const size = Math.floor(width / 2);
  const answer = await ollama().embed({ model, input: texts, dimensions: size });
  equal(answer.embeddings.length, texts.length, "vectors");
  answer.embeddings.forEach((found, i) => cutTo(found, vectors[i], size));
});

check("ollama-js", "embeddings (legacy, not normalised)", async () => {
  const { embedding } = await ollama().embeddings({ model, prompt: texts[0] });
  if (expected.raw_vectors) same([embedding], expected.raw_vectors.slice(0, 1));
  else sameDirection(embedding, vectors[0]);
});

check("ollama-js", "a long text: cut by default, refused with truncate: false", async () => {
  await needsALimit();
  equal((await ollama().embed({ model, input: LONG })).embeddings.length, 1, "vectors");
  await ollamaError(400, () => ollama().embed({ model, input: LONG, truncate: false }));
});

check("ollama-js", "list, show, ps and version", async () => {
  const client = ollama();
  const names = [model, `${model}:latest`];
  for (const { models } of [await client.list(), await client.ps()]) {
    const entry = models.find((m) => names.includes(m.name) && names.includes(m.model));
    assert(entry, `${model} is not among ${JSON.stringify(models.map((m) => [m.name, m.model]))}`);
    assert(entry.digest && entry.size >= 0 && entry.details, `an incomplete entry: ${JSON.stringify(entry)}`);
  }
  const shown = await client.show({ model });
  assert(shown.capabilities.includes("embedding"), `capabilities: ${shown.capabilities}`);
  const lengths = Object.entries(shown.model_info).filter(([name]) => name.endsWith(".embedding_length"));
  equal(lengths.map(([, n]) => n), [width], "model_info[*.embedding_length]");
  const { version } = await client.version();
  assert(/^\d+\.\d+\.\d+/.test(version), `version: ${version}`);
});

check("ollama-js", "pull of a model that is there, plain and streamed (it sends `name`)", async () => {
  equal((await ollama().pull({ model })).status, "success", "status");
  let last;
  for await (const line of await ollama().pull({ model, stream: true })) last = line.status;
  equal(last, "success", "the last status");
});

check("ollama-js", "unknown model is status 404", async () => {
  await ollamaError(404, () => ollama().embed({ model: ABSENT, input: "a" }));
  await ollamaError(404, () => ollama().show({ model: ABSENT }));
});

check("ollama-js", "bad key is status 401", async () => {
  needsKey();
  await ollamaError(401, () => ollama(BAD_KEY).embed({ model, input: "a" }));
});

// ---- what a browser asks

const listed = (header) => (header ?? "").toLowerCase().split(",").map((name) => name.trim()).filter(Boolean);

function allowsOrigin(answer) {
  const allowed = answer.headers.get("access-control-allow-origin");
  assert(allowed === "*" || allowed === origin, `access-control-allow-origin: ${allowed}`);
}

check("cors", "preflight of POST with Authorization passes without a key", async () => {
  const asked = ["authorization", "content-type", "x-stainless-arch", "x-stainless-lang", "x-stainless-retry-count"];
  for (const path of ["/v1/embeddings", "/api/embed", "/embed", "/v2/embed", "/v1/rerank", "/embral/v1/embed"]) {
    const answer = await fetch(base + path, {
      method: "OPTIONS",
      headers: {
        Origin: origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked.join(","),
      },
    });
    assert(answer.ok, `${path}: status ${answer.status}`);
    allowsOrigin(answer);
    const methods = listed(answer.headers.get("access-control-allow-methods"));
    assert(methods.includes("post") || methods.includes("*"), `${path}: access-control-allow-methods: ${methods}`);
    // "*" does not stand for Authorization.
    const headers = listed(answer.headers.get("access-control-allow-headers"));
    const lacking = asked.filter((name) => !headers.includes(name) && (name === "authorization" || !headers.includes("*")));
    equal(lacking, [], `${path}: headers that access-control-allow-headers lacks`);
  }
});

check("cors", "answers, errors too, may be read by another origin", async () => {
  const headers = { Origin: origin, "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  for (const [name, status] of [[model, 200], [ABSENT, 404]]) {
    const body = JSON.stringify({ model: name, input: "a" });
    const answer = await fetch(`${base}/v1/embeddings`, { method: "POST", headers, body });
    equal(answer.status, status, "status");
    allowsOrigin(answer);
  }
});

// ---- run

const counts = { ok: 0, FAILED: 0, skipped: 0 };
function say(outcome, name, why) {
  counts[outcome] += 1;
  console.log(why === undefined ? `${outcome} ${name}` : `${outcome} ${name}: ${why}`);
}
function end() {
  console.log(`${counts.ok} passed, ${counts.FAILED} failed, ${counts.skipped} skipped`);
  process.exit(counts.FAILED ? 1 : 0);
}

let running = "";
setTimeout(() => {
  say("FAILED", running, `not done ${args.timeout} s after the start`);
  end();
}, 1000 * Number(args.timeout)).unref();

for (const { client, what, run } of checks) {
  running = `${client} ${what}`;
  if (args.only && !running.includes(args.only)) continue;
  try {
    if (missing[client]) throw new Skip(missing[client]);
    await run();
    say("ok", running);
  } catch (error) {
    if (error instanceof Skip) say("skipped", running, error.message);
    else say("FAILED", running, String(error.message).replace(/\s+/g, " ").slice(0, 400));
  }
}
if (args["require-clients"]) Object.values(missing).forEach((why) => say("FAILED", "--require-clients", why));
if (counts.ok + counts.FAILED + counts.skipped === 0) say("FAILED", "--only", `no check is named ${args.only}`);
end();
