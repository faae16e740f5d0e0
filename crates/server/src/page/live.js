// Live numbers: `/embral/v1/status` once a second while the tab is seen, as charts of the last two minutes and a table of the models.

import { status } from "./api.js";
import { GAP, SPAN, chart, roundUpBytes } from "./chart.js";
import { byId, el } from "./dom.js";
import { bytes, count, duration, fixed, rate, seconds } from "./format.js";
import { facts, refusal } from "./job.js";

const PERIOD = 1000;

const sum = (models, of) => models.reduce((total, model) => total + (of(model) ?? 0), 0);
/** The slowest model's; null where none has answered lately. */
const slowest = (models, of) => models.reduce((worst, model) => (of(model) === null || of(model) === undefined ? worst : Math.max(worst ?? 0, of(model))), null);

/** What the charts show of one model, or of all: numbers of now, and rates as differences from the status before. */
function sampleOf(answer, before, name) {
  const only = (models) => models.filter((model) => !name || model.name === name);
  const now = only(answer.body.models);
  const rateOf = (of) => {
    const passed = before ? answer.at - before.at : 0;
    if (!before || passed <= 0 || passed > GAP) return null;
    const old = new Map(only(before.body.models).map((model) => [model.name, of(model)]));
    const grown = now.map((model) => of(model) - (old.get(model.name) ?? 0));
    // A total that fell is that of a model loaded anew: what it did since cannot be told.
    return grown.some((value) => value < 0) ? null : grown.reduce((total, value) => total + value, 0) / passed;
  };
  return {
    at: answer.at,
    texts: rateOf((model) => model.totals.sequences),
    tokens: rateOf((model) => model.totals.tokens),
    waiting: sum(now, (model) => model.queue.waiting_sequences),
    running: sum(now, (model) => model.queue.running_sequences),
    p50: slowest(now, (model) => model.queue.latency_p50_s),
    p95: slowest(now, (model) => model.queue.latency_p95_s),
    memory: answer.body.memory.rss_bytes,
    limit: answer.body.memory.limit_bytes,
  };
}

/** Half a text would be a strange mark on an axis. */
const whole = (value) => (value % 1 ? "" : count(value));

const COLUMNS = [
  ["Waiting requests", ({ queue }) => count(queue.waiting_requests)],
  ["Waiting texts", ({ queue }) => count(queue.waiting_sequences)],
  ["Waiting tokens", ({ queue }) => count(queue.waiting_tokens)],
  ["Oldest", ({ queue }) => seconds(queue.oldest_s)],
  ["Running texts", ({ queue }) => count(queue.running_sequences)],
  ["p50", ({ queue }) => seconds(queue.latency_p50_s)],
  ["p95", ({ queue }) => seconds(queue.latency_p95_s)],
  ["p99", ({ queue }) => seconds(queue.latency_p99_s)],
  ["Tokens/s", ({ queue }) => rate(queue.throughput_tokens_s)],
  ["Done", ({ totals }) => count(totals.done)],
  ["Failed", ({ totals }) => count(totals.failed)],
  ["Refused", ({ totals }) => count(totals.refused)],
  ["Expired", ({ totals }) => count(totals.expired)],
  ["Cancelled", ({ totals }) => count(totals.cancelled)],
  ["Texts a batch", ({ totals }) => (totals.batches ? fixed(totals.sequences / totals.batches, 1) : "–")],
  ["From cache", ({ cache }) => (cache && cache.hits + cache.misses ? `${fixed((100 * cache.hits) / (cache.hits + cache.misses), 1)} %` : "–")],
];

const summary = ({ version, uptime_s, requests, memory }) => facts([
  ["Version", version],
  ["Up for", duration(uptime_s)],
  ["Requests", count(requests.total)],
  ["Errors", count(requests.errors)],
  ["In flight", count(requests.in_flight)],
  ["Memory", memory.limit_bytes ? `${bytes(memory.rss_bytes)} of ${bytes(memory.limit_bytes)}` : bytes(memory.rss_bytes)],
  ["Memory pressure", `${fixed(100 * memory.pressure, 0)} %`],
]);

/** Returns `show(seen)`: polls while it was last told true, and the page itself is seen. */
export function live() {
  const charts = [
    chart({ title: "Texts per second", note: "In the batches computed; what the cache answers is not counted.", format: rate, series: [{ of: (sample) => sample.texts }] }),
    chart({ title: "Tokens per second", note: "In the batches computed.", format: rate, series: [{ of: (sample) => sample.tokens }] }),
    chart({ title: "Queue", note: "Texts waiting, and in the batch being computed.", format: whole, series: [{ name: "waiting", of: (sample) => sample.waiting }, { name: "running", of: (sample) => sample.running }] }),
    chart({ title: "Latency", note: "Of the slowest model, where there are several.", format: seconds, series: [{ name: "p50", of: (sample) => sample.p50 }, { name: "p95", of: (sample) => sample.p95 }] }),
    chart({ title: "Memory", note: "Of the whole server.", format: bytes, ceiling: roundUpBytes, series: [{ name: "used", of: (sample) => sample.memory }, { name: "limit", of: (sample) => sample.limit }] }),
  ];
  const problem = el("div");
  const numbers = el("div");
  const body = el("tbody");
  const select = byId("live-model");
  const pause = byId("live-pause");
  byId("live-body").append(problem, numbers, el("div", { class: "charts" }, charts.map(({ element }) => element)),
    el("h3", { id: "live-table" }, "Models"),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "live-table" }, el("table", { class: "numbers" },
      el("thead", {}, el("tr", {}, ["Model", ...COLUMNS.map(([name]) => name)].map((name) => el("th", { scope: "col" }, name)))), body)));
  let answers = [];
  let seen = false;
  let timer = 0;
  let asking = null;

  function draw() {
    const samples = answers.map((answer, i) => sampleOf(answer, answers[i - 1], select.value));
    for (const one of charts) one.draw(samples);
  }

  function show({ body: answer }) {
    numbers.replaceChildren(summary(answer));
    const names = answer.models.map((model) => model.name);
    if ([...select.options].slice(1).map((option) => option.value).join("\n") !== names.join("\n")) {
      const keep = select.value;
      select.replaceChildren(el("option", { value: "" }, "All"), ...names.map((name) => el("option", { value: name }, name)));
      select.value = names.includes(keep) ? keep : "";
    }
    body.replaceChildren(...answer.models.map((model) => el("tr", {}, el("th", { scope: "row" }, model.name), COLUMNS.map(([, of]) => el("td", {}, of(model))))));
  }

  async function poll() {
    const mine = new AbortController();
    asking = mine;
    const began = performance.now();
    let next = PERIOD;
    try {
      const answer = await status(mine.signal);
      answers = [...answers, { at: performance.now() / 1000, body: answer }];
      answers = answers.filter(({ at }) => answers.at(-1).at - at <= SPAN + 2);
      problem.replaceChildren();
      show(answers.at(-1));
      draw();
    } catch (error) {
      if (mine.signal.aborted) return;
      if (!error.kind) throw error;
      // The same refusal again is not put anew, so that it is spoken once.
      if (problem.textContent !== refusal(error).textContent) problem.replaceChildren(refusal(error));
      next = error.status === 401 ? null : 3 * PERIOD;
    } finally {
      if (asking === mine) asking = null;
    }
    if (next !== null) timer = setTimeout(poll, Math.max(0, next - (performance.now() - began)));
  }

  function turn() {
    clearTimeout(timer);
    asking?.abort();
    if (seen && !document.hidden && pause.getAttribute("aria-pressed") === "false") poll();
  }
  document.addEventListener("visibilitychange", turn);
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(pause.getAttribute("aria-pressed") === "false"));
    turn();
  });
  select.addEventListener("change", draw);
  return (now) => {
    seen = now;
    turn();
  };
}
