// The choices of a request: the model, what the texts are (query, document, a prompt of the model), what to do with long texts, how many
// dimensions. Each tab has its own fields; the embedding model chosen is one for all of them.

import { el } from "./dom.js";
import { count } from "./format.js";

const shared = new EventTarget();
let known = [];
let chosen = "";

/** Gives every tab the server's models, as `/embral/v1/models` lists them. */
export function setModels(models) {
  known = models;
  const usable = models.filter((model) => model.task === "embedding");
  if (!usable.some((model) => model.name === chosen)) chosen = (usable.find((model) => model.default) ?? usable[0])?.name ?? "";
  shared.dispatchEvent(new Event("models"));
}

const LONG = [["", "Server default"], ["end", "Cut the end"], ["start", "Cut the start"], ["none", "Refuse"]];

const option = (value, label, selected) => el("option", { value, selected }, label);

let fields = 0;
function field(label, control) {
  control.id = `field-${(fields += 1)}`;
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control);
}

/** Replaces the options of a select; what was chosen stays chosen where it is still there. */
function offer(select, options, initial) {
  const keep = select.dataset.touched ? select.value : initial;
  select.replaceChildren(...options.map(([value, label]) => option(value, label, value === keep)));
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

/**
 * Fills `slot`. `types` are the selects of input types, `{name: [label, value at first]}`; with `rerankers` those are on offer too.
 * Returns a function that reads the fields: `{model, task, truncate, dimensions, ...types}`.
 */
export function settings(slot, { types, rerankers = false }) {
  const model = el("select");
  const inputs = Object.entries(types).map(([name, [label, initial]]) => ({ name, initial, label, select: el("select") }));
  const long = el("select", {}, LONG.map(([value, label]) => option(value, label)));
  const dimensions = el("select");
  const dimensionsField = field("Dimensions", dimensions);
  const embedding = el("div", { class: "fields" }, inputs.map(({ label, select }) => field(label, select)), field("Long texts", long), dimensionsField);
  for (const select of [...inputs.map((input) => input.select), dimensions]) {
    select.addEventListener("change", () => (select.dataset.touched = "yes"));
  }
  slot.append(field("Model", model), embedding);

  const current = () => known.find((one) => one.name === model.value);

  function adapt() {
    const one = current();
    embedding.hidden = one?.task === "reranker";
    const prompts = Object.keys(one?.info?.prompts ?? {}).filter((name) => name !== "query" && name !== "document");
    for (const { select, initial } of inputs) {
      offer(select, [["", "None"], ["query", "Query"], ["document", "Document"], ...prompts.map((name) => [name, `Prompt “${name}”`])], initial);
    }
    const shorter = (one?.info?.matryoshka ?? []).filter((size) => size !== one.info.dimensions);
    dimensionsField.hidden = shorter.length === 0;
    offer(dimensions, [["", one?.info ? `All ${count(one.info.dimensions)}` : "All"], ...shorter.map((size) => [String(size), count(size)])], "");
  }

  function list() {
    const before = current();
    const of = (task) => known.filter((one) => one.task === task).map((one) =>
      option(one.name, one.loaded ? one.name : `${one.name} (loads when used)`));
    const embedders = of("embedding");
    const rankers = rerankers ? of("reranker") : [];
    model.replaceChildren(...(rankers.length ? [
      el("optgroup", { label: "Embedding models" }, embedders),
      el("optgroup", { label: "Rerankers" }, rankers),
    ] : embedders));
    if (model.options.length === 0) model.append(option("", known.length ? "No embedding model" : "Not known yet"));
    model.value = before?.task === "reranker" ? before.name : chosen;
    if (model.selectedIndex < 0) model.selectedIndex = 0;
    adapt();
  }

  model.addEventListener("change", () => {
    adapt();
    if (current()?.task !== "embedding") return;
    chosen = model.value;
    shared.dispatchEvent(new Event("chosen"));
  });
  shared.addEventListener("models", list);
  shared.addEventListener("chosen", () => {
    if (current()?.task === "reranker" || model.value === chosen) return;
    model.value = chosen;
    adapt();
  });
  list();

  return () => ({
    model: model.value || undefined,
    task: current()?.task ?? "embedding",
    truncate: long.value,
    dimensions: dimensionsField.hidden ? undefined : Number(dimensions.value) || undefined,
    ...Object.fromEntries(inputs.map(({ name, select }) => [name, select.value])),
  });
}
