// What the server says of its models.

import { el } from "./dom.js";
import { bytes, count, duration, plural } from "./format.js";

const list = (values) => (values?.length ? values.join(", ") : null);

/** The rows of one model; what the server does not say is left out. */
function rows(model) {
  const info = model.info ?? {};
  const known = (value, shown) => (value === null || value === undefined ? null : shown(value));
  return [
    ["Also called", list(model.aliases)],
    ["Architecture", info.architecture],
    ["Dimensions", known(info.dimensions, count)],
    ["Shorter vectors", list(info.matryoshka)],
    ["Width", info.width === info.dimensions ? null : known(info.width, count)],
    ["Longest text", known(info.max_tokens, (value) => `${count(value)} tokens`) ?? (model.info ? "no limit" : null)],
    ["Parameters", known(info.parameters, count)],
    ["Layers", known(info.layers, count)],
    ["Pooling", info.pooling],
    ["Normalised", known(info.normalize, (value) => (value ? "yes" : "no"))],
    ["Precision", info.precision],
    ["Device", info.device],
    ["Weights", known(info.weight_bytes, bytes)],
    ["In use", known(model.in_use, (value) => plural(value, "request"))],
    ["Idle for", known(model.idle_s, duration)],
    ["Fingerprint", info.fingerprint],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
}

const prompts = (texts = {}) => Object.keys(texts).length > 0 && [
  el("h4", {}, "Prompts"),
  el("dl", { class: "prompts" }, Object.entries(texts).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, el("code", {}, text || "(empty)"))])),
];

/** One article a model. */
export function modelFacts(models) {
  if (models.length === 0) return [el("p", { class: "empty" }, "The server lists no model.")];
  return models.map((model) => el("article", { class: "model" },
    el("h3", {}, model.name),
    el("p", { class: "tags" }, [model.task.replaceAll("_", " "), model.default && "default", model.loaded ? "loaded" : "loads when used"].filter(Boolean).map((tag) => el("span", {}, tag))),
    el("dl", { class: "rows" }, rows(model).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    !model.info && el("p", { class: "quiet" }, "The server tells more once the model is loaded."),
    prompts(model.info?.prompts)));
}
