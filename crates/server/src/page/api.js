// The server's native API: one function a request, errors as the server words them, the key that it may ask for.

const KEY = "embral.key";
const BATCH = 64;

/** What the server (or the way to it) said no with; `kind` is the server's, or "no_answer". */
export class ApiError extends Error {
  constructor(kind, message, { status = null, index = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { kind, status, index, retryAfter });
  }
}

/** Fires "unauthorized" when the server asks for a key or refuses the one it got. */
export const events = new EventTarget();

// Held here too, for browsers that forbid storage.
let key = "";
try {
  key = sessionStorage.getItem(KEY) ?? "";
} catch {
  key = "";
}

export const hasKey = () => key !== "";

export function setKey(value) {
  key = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Without storage the key lasts until the page is left.
  }
}

async function refusal(response) {
  const told = { status: response.status, retryAfter: response.headers.get("retry-after") };
  const text = await response.text();
  try {
    const { kind, message, index } = JSON.parse(text).error;
    return new ApiError(kind, message, { ...told, index });
  } catch {
    return new ApiError("unreadable", text.trim().slice(0, 500) || response.statusText || `status ${response.status}`, told);
  }
}

/** A GET, or a POST of `body` where there is one. Throws `ApiError`, or the AbortError of `signal`. */
export async function call(path, body, signal) {
  const headers = { accept: "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("no_answer", `No answer from ${location.host}.`);
  }
  if (!response.ok) {
    const error = await refusal(response);
    if (response.status === 401) events.dispatchEvent(new Event("unauthorized"));
    throw error;
  }
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreadable", `The answer of ${path} is no JSON.`, { status: response.status });
  }
}

/** Little-endian f32 in base64, read the same on any processor. */
export function decode(base64, dimensions) {
  const binary = atob(base64);
  if (binary.length !== 4 * dimensions) {
    throw new ApiError("unreadable", `A vector of ${dimensions} numbers has ${4 * dimensions} bytes; the server sent ${binary.length}.`);
  }
  const view = new DataView(Uint8Array.from(binary, (character) => character.charCodeAt(0)).buffer);
  return Float32Array.from({ length: dimensions }, (_, i) => view.getFloat32(4 * i, true));
}

const NO_TIME = { tokenize_ms: 0, queue_ms: 0, inference_ms: 0, total_ms: 0 };

/** What several requests cost together. */
export class Cost {
  requests = 0;
  tokens = 0;
  roundTrip = 0;
  server = { ...NO_TIME };

  add(answer, milliseconds) {
    this.requests += 1;
    this.roundTrip += milliseconds;
    this.tokens += answer.usage?.tokens ?? 0;
    for (const name of Object.keys(NO_TIME)) this.server[name] += answer.timings?.[name] ?? 0;
  }
}

async function inBatches(texts, ask, { signal, progress, cost = new Cost() }, take) {
  for (let start = 0; start < texts.length; start += BATCH) {
    const batch = texts.slice(start, start + BATCH);
    const began = performance.now();
    let answer;
    try {
      answer = await ask(batch, signal);
    } catch (error) {
      if (Number.isInteger(error.index)) Object.assign(error, { index: start + error.index, text: texts[start + error.index] });
      throw error;
    }
    cost.add(answer, performance.now() - began);
    take(answer, start);
    progress?.(start + batch.length, texts.length);
  }
  return cost;
}

/** Vectors of texts, 64 a request: `items[i]` is `{vector, tokens, truncated}` of `texts[i]`. */
export async function embed(texts, { model: name, inputType, truncate, dimensions: size }, control) {
  const items = new Array(texts.length);
  let model;
  let dimensions = 0;
  // What is undefined is left out of the JSON: the server then does as it is set.
  const choices = { model: name, input_type: inputType || undefined, truncate: truncate || undefined, dimensions: size };
  const ask = (batch, signal) => call("/embral/v1/embed", { ...choices, input: batch, encodings: ["base64"] }, signal);
  const cost = await inBatches(texts, ask, control, (answer, start) => {
    ({ model, dimensions } = answer);
    for (const { index, base64, tokens, truncated } of answer.data) {
      items[start + index] = { vector: decode(base64, dimensions), tokens, truncated };
    }
  });
  return { items, model, dimensions, cost };
}

/** Scores of documents for a query by a reranker, 64 a request, each document scored by itself: `scores[i]`. */
export async function rerank(query, documents, model, control) {
  const scores = new Array(documents.length).fill(Number.NaN);
  let named;
  const ask = (batch, signal) => call("/embral/v1/rerank", { model, query, documents: batch }, signal);
  const cost = await inBatches(documents, ask, control, (answer, start) => {
    named = answer.model;
    for (const { index, score } of answer.results) scores[start + index] = score;
  });
  return { scores, model: named, cost };
}

export const models = async () => (await call("/embral/v1/models")).models;
export const status = (signal) => call("/embral/v1/status", undefined, signal);
