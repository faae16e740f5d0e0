// Drives the page of a running server: `node page.mjs --base http://127.0.0.1:PORT [--key KEY] [--chromium PATH] [--shots FOLDER]`.
// With --key the server has to ask for that key; without it, the refusals of a server with keys are played by the test.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { open } from "./browser.mjs";
import { components, contrast, cosine, number } from "./oracle.mjs";

const { values: given } = parseArgs({
  options: { base: { type: "string" }, key: { type: "string" }, chromium: { type: "string", default: "/usr/bin/chromium" }, shots: { type: "string" } },
});
if (!given.base) {
  console.error("usage: node page.mjs --base http://127.0.0.1:PORT [--key KEY] [--chromium PATH] [--shots FOLDER]");
  process.exit(2);
}
const base = given.base.replace(/\/$/, "");
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let passed = 0;
let failed = 0;
function told(name, error) {
  if (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${String(error.message ?? error).split("\n").slice(0, 6).join(" | ")}`);
  } else {
    passed += 1;
    console.log(`ok   ${name}`);
  }
}
async function check(name, action) {
  try {
    await action();
    told(name);
  } catch (error) {
    told(name, error);
  }
}
function equal(got, wanted, what) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) throw new Error(`${what}: got ${JSON.stringify(got)}, wanted ${JSON.stringify(wanted)}`);
}
function near(got, wanted, tolerance, what) {
  if (!(Math.abs(got - wanted) <= tolerance)) throw new Error(`${what}: got ${got}, wanted ${wanted} within ${tolerance}`);
}
function holds(truth, what) {
  if (!truth) throw new Error(what);
}

async function api(path, body) {
  const headers = { "content-type": "application/json", ...(given.key && { authorization: `Bearer ${given.key}` }) };
  const response = await fetch(`${base}${path}`, { headers, ...(body && { method: "POST", body: JSON.stringify(body) }) });
  if (!response.ok) throw new Error(`${path} answers ${response.status}: ${await response.text()}`);
  return response.json();
}
const vectors = async (input, more = {}) => (await api("/embral/v1/embed", { input, model: embedder, ...more })).data.map((item) => item.embedding);

const listed = (await api("/embral/v1/models")).models;
const embedders = listed.filter((model) => model.task === "embedding");
const embedder = (embedders.find((model) => model.default) ?? embedders[0]).name;
const reranker = listed.find((model) => model.task === "reranker")?.name;

const { page, problems, quietly, close } = await open(base, { executablePath: given.chromium, colorScheme: "light" });
page.setDefaultTimeout(10_000);
const $ = (selector) => page.locator(selector);
const text = (selector) => $(selector).first().innerText();
const press = async (...keys) => {
  for (const key of keys) await page.keyboard.press(key);
};
const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
/** Tabs on until the focus is on what the selector names; nothing is clicked. */
async function tabTo(selector) {
  for (let i = 0; i < 60; i += 1) {
    if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
    await press("Tab");
  }
  throw new Error(`Tab does not reach ${selector}`);
}
/** Goes to a tab by the keyboard alone. */
async function section(name) {
  await $("[role=tab][aria-selected=true]").focus();
  await press("Home");
  for (let i = 0; i < 5 && (await focused()) !== `tab-${name}`; i += 1) await press("ArrowRight");
  equal(await focused(), `tab-${name}`, "focus");
}
async function typeOver(selector, value) {
  await tabTo(selector);
  await press("Control+a");
  await page.keyboard.insertText(value);
}
/** Waits for the answer that a run brings, however fast it is. */
async function answered(panel, run) {
  await page.evaluate((id) => document.querySelector(`#${id} .shown`).replaceChildren(), panel);
  await run();
  await page.waitForFunction((id) => document.querySelector(`#${id} .shown`).childElementCount > 0, panel);
}
const shownMatrix = () => page.evaluate(() => [...document.querySelectorAll("#compare tbody tr")].map((row) => [...row.querySelectorAll("td")].map((cell) => cell.textContent)));
const foundTexts = () => page.evaluate(() => [...document.querySelectorAll("#search .results .text")].map((node) => node.textContent));
const entries = (text) => text.split("\n").filter(Boolean);
const json = (status, body) => ({ status, contentType: "application/json", body: JSON.stringify(body) });

// --- The page as it is served

await check("GET / is HTML with a policy of its own host only", async () => {
  const response = await fetch(`${base}/`, { headers: { accept: "text/html" } });
  equal(response.status, 200, "status");
  holds(response.headers.get("content-type").startsWith("text/html"), `content type ${response.headers.get("content-type")}`);
  const policy = response.headers.get("content-security-policy") ?? "";
  holds(policy.includes("default-src 'self'") && !policy.includes("unsafe"), `content-security-policy is "${policy}"`);
});

if (given.key) {
  await check("a server with keys: the page asks, refuses a wrong key, takes the right one", async () => {
    await quietly(async () => {
      await page.goto(`${base}/`);
      await $("#key-form").waitFor();
      equal(await text("#key-note"), "This server asks for an API key.", "note");
      await tabTo("#key");
      await page.keyboard.type("wrong");
      await press("Enter");
      await page.waitForFunction(() => document.querySelector("#key-note").textContent.includes("refuses"));
      await page.keyboard.type(given.key);
      await press("Enter");
      await $("#key-form").waitFor({ state: "hidden" });
    });
  });
} else {
  await check("without a key the page asks for it, refuses a wrong one, takes the right one", async () => {
    await page.route("**/embral/v1/**", (route) => (route.request().headers().authorization === "Bearer open sesame" ? route.continue()
      : route.fulfill(json(401, { error: { kind: "unauthorized", message: "a key is needed", index: null } }))));
    await quietly(async () => {
      await page.goto(`${base}/`);
      await $("#key-form").waitFor();
      equal(await text("#key-note"), "This server asks for an API key.", "note");
      await page.click("#compare button.primary");
      holds((await text("#compare .error")).includes("a key is needed"), "the refusal is not shown in place");
      await page.focus("[role=tab][aria-selected=true]");
      await page.keyboard.down("Shift");
      await tabTo("#key");
      await page.keyboard.up("Shift");
      await page.keyboard.type("wrong");
      await press("Enter");
      await page.waitForFunction(() => document.querySelector("#key-note").textContent.includes("refuses"));
      equal(await focused(), "key", "focus");
      await page.keyboard.type("open sesame");
      await press("Enter");
      await $("#key-form").waitFor({ state: "hidden" });
    });
    equal(await page.evaluate(() => [sessionStorage.getItem("embral.key"), localStorage.getItem("embral.key")]), ["open sesame", null], "where the key is kept");
    await answered("compare", () => page.click("#compare button.primary"));
    await page.click("#key-toggle");
    await page.click("#key-forget");
    equal(await page.evaluate(() => sessionStorage.length), 0, "what is kept after Forget");
    await page.unroute("**/embral/v1/**");
  });
}

await check("the page loads, names the server's models", async () => {
  await page.goto(`${base}/`);
  await page.waitForFunction((name) => [...document.querySelectorAll("#compare select option")].some((option) => option.value === name), embedder);
  equal(await page.evaluate(() => [...document.querySelector("#compare .settings select").options].map((option) => option.value)), embedders.map((model) => model.name), "models on offer");
  equal(await page.evaluate(() => document.querySelector("#compare .settings select").value), embedder, "model chosen");
});

await check("tabs: arrows, Home and End move, one tab stop, the panel follows", async () => {
  await $("#tab-compare").focus();
  const seen = [];
  for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End"]) {
    await press(key);
    seen.push(await focused());
    const state = await page.evaluate(() => ({
      selected: [...document.querySelectorAll("[role=tab]")].filter((tab) => tab.ariaSelected === "true").map((tab) => tab.id),
      stops: [...document.querySelectorAll("[role=tab]")].filter((tab) => tab.tabIndex === 0).map((tab) => tab.id),
      panels: [...document.querySelectorAll("[role=tabpanel]")].filter((panel) => !panel.hidden).map((panel) => `tab-${panel.id}`),
    }));
    equal(state, { selected: [seen.at(-1)], stops: [seen.at(-1)], panels: [seen.at(-1)] }, `state after ${key}`);
  }
  equal(seen, ["search", "map", "models", "live", "compare", "live", "compare", "live"].map((name) => `tab-${name}`), "tabs passed");
});

await check("tabs: a click shows the panel, the address keeps it", async () => {
  await page.click("#tab-map");
  holds(await $("#map").isVisible(), "the map is not shown");
  await page.reload();
  holds(await $("#map").isVisible(), "the map is not shown after a reload");
});

// --- Compare

const TEXTS = ["The ship left the harbour at dawn.", "A boat sailed from port early in the morning.", "Interest rates rose again.", "<b>bold & brave</b>", "Ein Hund läuft über die Straße."];

await check("compare by keyboard: Ctrl+Enter, values equal the API's similarity", async () => {
  await section("compare");
  await typeOver("#compare-texts", `${TEXTS.join("\n")}\n\n`);
  await answered("compare", () => press("Control+Enter"));
  const { similarity } = await api("/embral/v1/similarity", { model: embedder, a: TEXTS });
  const shown = await shownMatrix();
  equal(shown.length, TEXTS.length, "rows");
  shown.forEach((row, i) => row.forEach((value, j) => near(number(value), similarity[i][j], 0.005 + 1e-6, `cell ${i + 1}, ${j + 1}`)));
  const own = await vectors(TEXTS);
  own.forEach((a, i) => own.forEach((b, j) => near(similarity[i][j], cosine(a, b), 1e-5, `the API's similarity ${i + 1}, ${j + 1}`)));
});

await check("compare by keyboard: arrows move between cells, the line above has the exact value and both texts", async () => {
  const { similarity } = await api("/embral/v1/similarity", { model: embedder, a: TEXTS });
  await tabTo("#compare td");
  let at = [0, 0];
  for (const [key, to] of [["ArrowRight", [0, 1]], ["ArrowDown", [1, 1]], ["End", [1, 4]], ["ArrowRight", [1, 4]], ["ArrowDown", [2, 4]], ["ArrowLeft", [2, 3]], ["ArrowUp", [1, 3]], ["Home", [1, 0]], ["Control+End", [4, 4]], ["Control+Home", [0, 0]], ["ArrowDown", [1, 0]]]) {
    await press(key);
    at = to;
    equal(await page.evaluate(() => [Number(document.activeElement.dataset.row), Number(document.activeElement.dataset.column)]), to, `cell after ${key}`);
  }
  near(number(await text("#compare .detail b")), similarity[at[0]][at[1]], 0.00005 + 1e-6, "exact value");
  const detail = await text("#compare .detail");
  holds(detail.includes(TEXTS[1]) && detail.includes(TEXTS[0]), `the line says "${detail}"`);
  equal(await page.evaluate(() => document.querySelectorAll("#compare td[tabindex='0']").length), 1, "tab stops in the grid");
});

await check("compare by mouse: Run, and pointing at a cell", async () => {
  await answered("compare", () => page.click("#compare button.primary"));
  await page.hover("#compare tbody tr:nth-child(3) td:nth-of-type(5)");
  const detail = await text("#compare .detail");
  holds(detail.includes(TEXTS[2]) && detail.includes(TEXTS[4]), `the line says "${detail}"`);
});

await check("compare: tokens and timings are the server's", async () => {
  const answer = page.waitForResponse("**/embral/v1/embed");
  await answered("compare", () => page.click("#compare button.primary"));
  const { usage, timings, dimensions } = await (await answer).json();
  const facts = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll("#compare .facts div")].map((pair) => [pair.children[0].textContent, pair.children[1].textContent])));
  equal([number(facts.Tokens), number(facts.Dimensions), facts.Model], [usage.tokens, dimensions, embedder], "facts");
  const milliseconds = (shown) => number(shown) * (/[\d.]+ s$/.test(shown) ? 1000 : 1);
  for (const [name, value] of [["Tokenise", timings.tokenize_ms], ["Queue", timings.queue_ms], ["Inference", timings.inference_ms], ["Server total", timings.total_ms]]) {
    near(milliseconds(facts[name]), value, Math.max(0.006, 0.01 * value), name);
  }
});

await check("compare: texts are shown as text, not read as markup", async () => {
  equal(await $("#compare tbody b").count(), 0, "elements from the text");
  holds((await text("#compare tbody")).includes(TEXTS[3]), "the text is not shown as it is");
});

await check("compare: a cut text is marked", async () => {
  await page.route("**/embral/v1/embed", async (route) => {
    const response = await route.fetch();
    const body = await response.json();
    body.data[1].truncated = true;
    await route.fulfill({ response, json: body });
  });
  await answered("compare", () => page.click("#compare button.primary"));
  await page.unroute("**/embral/v1/embed");
  equal(await $("#compare tbody tr:nth-child(2) .cut").count(), 1, "marks in the second row");
  equal(await $("#compare .cut").count(), 1, "marks in all");
  holds((await text("#compare [role=status]")).includes("1 text was longer than the model takes"), "the summary does not say it");
});

/** Colours as the screen has them, whatever space CSS names them in. */
const cellColours = () => page.evaluate(() => {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const cell = document.querySelector("#compare td");
  const kept = cell.style.getPropertyValue("--t");
  const steps = Array.from({ length: 41 }, (_, i) => {
    cell.style.setProperty("--t", i / 40);
    const style = getComputedStyle(cell);
    return { back: read(style.backgroundColor), front: read(style.color) };
  });
  cell.style.setProperty("--t", kept);
  return steps;
});

for (const theme of ["light", "dark"]) {
  await check(`heat map, ${theme}: lightness is in the order of the values, numbers are readable on every colour`, async () => {
    await page.emulateMedia({ colorScheme: theme });
    const steps = await cellColours();
    steps.forEach(({ back, front }, i) => holds(contrast(back, front) >= 4.5, `contrast ${contrast(back, front).toFixed(2)} at ${i / 40}`));
    const fromWhite = steps.map(({ back }) => contrast(back, [255, 255, 255]));
    for (let i = 1; i < steps.length; i += 1) holds(theme === "light" ? fromWhite[i] > fromWhite[i - 1] : fromWhite[i] < fromWhite[i - 1], `lightness turns back at ${i / 40}`);
  });
}
await page.emulateMedia({ colorScheme: "light" });

await check("heat map: colours can be spread over the values, by keyboard", async () => {
  const tones = () => page.evaluate(() => [...document.querySelectorAll("#compare td")].map((cell) => Number(cell.style.getPropertyValue("--t"))));
  const before = await tones();
  await tabTo("#compare-scale");
  await press("ArrowDown");
  const after = await tones();
  holds(JSON.stringify(before) !== JSON.stringify(after), "no colour changed");
  const apart = after.filter((_, i) => i % (TEXTS.length + 1) !== 0);
  equal([Math.min(...apart), Math.max(...apart)], [0, 1], "range of the spread colours");
});

// --- Errors

await check("an error of the server is shown as it is, with what to do", async () => {
  const message = await fetch(`${base}/embral/v1/embed`, {
    method: "POST", headers: { "content-type": "application/json", ...(given.key && { authorization: `Bearer ${given.key}` }) }, body: JSON.stringify({ model: "no such model", input: ["a"] }),
  }).then((response) => response.json()).then((body) => body.error.message);
  await page.route("**/embral/v1/embed", (route) => route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), model: "no such model" }) }));
  await quietly(() => page.click("#compare button.primary"));
  await page.unroute("**/embral/v1/embed");
  equal(await text("#compare .error[role=alert] .said"), message, "message");
  holds((await text("#compare .error")).includes("not found · status 404") && (await text("#compare .error")).includes("Choose another model"), await text("#compare .error"));
});

for (const [name, status, error, headers, wanted] of [
  ["too long", 422, { kind: "too_long", message: "text 1 has 9000 tokens", index: 1 }, {}, ["text 1 has 9000 tokens", "text 2", TEXTS[1], "Shorten the text"]],
  ["overloaded", 503, { kind: "overloaded", message: "the queue is full", index: null }, { "retry-after": "7" }, ["the queue is full", "status 503", "in 7 s"]],
]) {
  await check(`an error says where and what to do: ${name}`, async () => {
    await page.route("**/embral/v1/embed", (route) => route.fulfill({ ...json(status, { error }), headers }));
    await quietly(() => page.click("#compare button.primary"));
    await page.unroute("**/embral/v1/embed");
    const shown = await text("#compare .error");
    for (const part of wanted) holds(shown.includes(part), `"${part}" is not in "${shown}"`);
  });
}

await check("no answer of the server is told as such", async () => {
  await page.route("**/embral/v1/embed", (route) => route.abort());
  await quietly(() => page.click("#compare button.primary"));
  await page.unroute("**/embral/v1/embed");
  holds((await text("#compare .error")).includes("No answer from"), await text("#compare .error"));
  await answered("compare", () => page.click("#compare button.primary"));
  equal(await $("#compare .error").count(), 0, "errors after a good run");
});

// --- Search

const LIST = ["The museum is closed on Mondays.", "Tickets for children cost half.", "Dogs have to stay outside.", "The café is on the second floor.", "Guided tours start at eleven.", "Photographs are allowed without flash."];
const QUERY = "how much does a ticket for my daughter cost?";

async function ranked(query, list) {
  const [asked] = await vectors([query], { input_type: "query" });
  const own = await vectors(list, { input_type: "document" });
  return list.map((entry, i) => ({ entry, score: cosine(asked, own[i]) })).sort((a, b) => b.score - a.score);
}

await check("search by keyboard: the order and the scores are the API's", async () => {
  await section("search");
  await typeOver("#search-query", QUERY);
  await typeOver("#search-list", LIST.join("\n"));
  await typeOver("#search-k", "4");
  await answered("search", () => press("Control+Enter"));
  const wanted = (await ranked(QUERY, LIST)).slice(0, 4);
  equal(await foundTexts(), wanted.map(({ entry }) => entry), "order");
  const scores = await page.evaluate(() => [...document.querySelectorAll("#search .results b")].map((node) => node.textContent));
  scores.forEach((score, i) => near(number(score), wanted[i].score, 0.00005 + 1e-6, `score ${i + 1}`));
});

await check("search by mouse", async () => {
  await page.fill("#search-k", "2");
  await answered("search", () => page.click("#search button.primary"));
  equal(await foundTexts(), (await ranked(QUERY, LIST)).slice(0, 2).map(({ entry }) => entry), "order");
});

await check("search: a long list goes in batches of 64 as base64, with progress", async () => {
  const list = Array.from({ length: 150 }, (_, i) => `Entry ${i} is about ${["ships", "bread", "money", "stars", "dogs"][i % 5]} and ${i * 7}.`);
  const asked = [];
  await page.route("**/embral/v1/embed", async (route) => {
    asked.push(route.request().postDataJSON());
    await new Promise((resolve) => setTimeout(resolve, 80));
    await route.continue();
  });
  await page.evaluate(() => {
    window.amounts = new Set();
    new MutationObserver(() => window.amounts.add(document.querySelector("#search .progress").textContent)).observe(document.querySelector("#search .progress"), { subtree: true, childList: true, characterData: true });
  });
  await page.fill("#search-list", list.join("\n"));
  await answered("search", () => page.click("#search button.primary"));
  await page.unroute("**/embral/v1/embed");
  equal(asked.map((body) => body.input.length), [1, 64, 64, 22], "sizes of the requests");
  equal([...new Set(asked.map((body) => JSON.stringify(body.encodings)))], ['["base64"]'], "encodings asked for");
  equal(asked.map((body) => body.input_type), ["query", "document", "document", "document"], "input types");
  const amounts = await page.evaluate(() => [...window.amounts]);
  holds(amounts.includes("64 of 150") && amounts.includes("128 of 150"), `progress said ${JSON.stringify(amounts)}`);
  equal(await foundTexts(), (await ranked(QUERY, list)).slice(0, 2).map(({ entry }) => entry), "order");
});

await check("search: Cancel ends it, by keyboard, and sends no more", async () => {
  let asked = 0;
  await page.route("**/embral/v1/embed", async (route) => {
    asked += 1;
    if (asked > 2) await new Promise((resolve) => setTimeout(resolve, 1500));
    await route.continue().catch(() => {});
  });
  await section("search");
  await tabTo("#search button.primary");
  await press("Enter");
  await page.waitForFunction(() => document.querySelector("#search .progress").textContent === "64 of 150");
  await press("Tab");
  equal(await focused(), "Cancel", "focus");
  await quietly(() => press("Enter"));
  await page.waitForFunction(() => document.querySelector("#search [role=status]").textContent.startsWith("Cancelled after 64 of 150"));
  equal(await focused(), "Run", "focus after it");
  await page.waitForTimeout(1700);
  equal(asked, 3, "requests");
  await page.unroute("**/embral/v1/embed");
});

await check("search with a reranker", async () => {
  // Scores that no embedding would give, where the server has no reranker.
  const played = (documents) => documents.map((entry, index) => ({ index, score: 1 / (1 + entry.length) }));
  if (!reranker) {
    await page.route("**/embral/v1/models", async (route) => {
      const response = await route.fetch();
      const body = await response.json();
      body.models.push({ name: "played", aliases: [], task: "reranker", loaded: true, default: false, in_use: 0, idle_s: null, info: null });
      await route.fulfill({ response, json: body });
    });
    await page.route("**/embral/v1/rerank", (route) => route.fulfill(json(200, {
      model: "played", results: played(route.request().postDataJSON().documents), usage: { tokens: 9 }, timings: { tokenize_ms: 0, queue_ms: 0, inference_ms: 1, total_ms: 1 },
    })));
  }
  const name = reranker ?? "played";
  await page.click("#tab-models");
  await page.click("#models-reload");
  await page.waitForFunction((wanted) => [...document.querySelectorAll("#search option")].some((option) => option.value === wanted), name);
  await page.click("#tab-search");
  await page.selectOption("#search .settings select >> nth=0", name);
  equal(await $("#search .fields").isVisible(), false, "fields of embeddings");
  await page.fill("#search-list", LIST.join("\n"));
  await page.fill("#search-k", "6");
  await answered("search", () => page.click("#search button.primary"));
  const results = reranker ? (await api("/embral/v1/rerank", { model: reranker, query: QUERY, documents: LIST })).results : played(LIST);
  equal(await foundTexts(), [...results].sort((a, b) => b.score - a.score).map(({ index }) => LIST[index]), "order");
  await page.unrouteAll();
  await page.click("#tab-models");
  await page.click("#models-reload");
  await page.click("#tab-search");
});

// --- Map

await check("map by keyboard: coordinates and explained variance equal a full decomposition", async () => {
  await section("map");
  await tabTo("#map-texts");
  const list = entries(await $("#map-texts").inputValue());
  await answered("map", () => press("Control+Enter"));
  const { axes, shares } = components(await vectors(list));
  await page.evaluate(() => (document.querySelector("#map details").open = true));
  const rows = await page.evaluate(() => [...document.querySelectorAll("#map tbody tr")].map((row) => [...row.children].map((cell) => cell.textContent)));
  equal(rows.map((row) => row[0]), list, "texts of the table");
  for (const axis of [0, 1]) {
    const shown = rows.map((row) => number(row[axis + 1]));
    const sign = shown.reduce((sum, value, i) => sum + value * axes[axis][i], 0) < 0 ? -1 : 1;
    shown.forEach((value, i) => near(value, sign * axes[axis][i], 0.0002, `coordinate ${axis + 1} of "${list[i]}"`));
  }
  const percents = (await text("#map [role=status]")).match(/[\d.]+(?=\s%)/g).map(Number);
  [shares[0] + shares[1], ...shares].forEach((share, i) => near(percents[i], 100 * share, 0.051, `percent ${i + 1}`));
});

await check("map: labels lie over no other label", async () => {
  const boxes = await page.evaluate(() => [...document.querySelectorAll("#map .names > text")].filter((node) => getComputedStyle(node).display !== "none").map((node) => {
    const { left, right, top, bottom } = node.getBoundingClientRect();
    return { left, right, top: top + 2, bottom: bottom - 2, text: node.textContent };
  }));
  holds(boxes.length >= 8, `only ${boxes.length} labels are shown`);
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => holds(a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top, `"${a.text}" and "${b.text}"`)));
});

await check("map by keyboard: arrows move to the points, the line above tells the text and its nearest", async () => {
  const list = entries(await $("#map-texts").inputValue());
  const own = await vectors(list);
  await tabTo("#map .point");
  const seen = new Set();
  for (const key of ["ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown", "Home", "End", "ArrowLeft"]) {
    await press(key);
    const at = await page.evaluate(() => Number(document.activeElement.dataset.index));
    seen.add(at);
    equal(await page.evaluate(() => document.activeElement.getAttribute("aria-selected")), "true", "aria-selected");
    const nearest = own.map((vector, i) => ({ i, score: i === at ? -2 : cosine(vector, own[at]) })).sort((a, b) => b.score - a.score)[0];
    const detail = await text("#map .detail");
    holds(detail.startsWith(list[at]) && detail.includes(`“${list[nearest.i]}”`), `the line says "${detail}"`);
  }
  holds(seen.size >= 3, `only ${seen.size} points were reached`);
  await press("Escape");
  equal(await $("#map .map.chosen").count(), 0, "chosen after Escape");
});

await check("map by mouse: pointing at a point tells its text", async () => {
  const list = entries(await $("#map-texts").inputValue());
  await $("#map .map").scrollIntoViewIfNeeded();
  for (const i of [0, 7, list.length - 1]) {
    const box = await $(`#map .point[data-index="${i}"] .dot`).boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    holds((await text("#map .detail")).startsWith(list[i]), `the line says "${await text("#map .detail")}" at "${list[i]}"`);
  }
});

await check("map: the same texts give the same map; equal texts are told", async () => {
  const places = () => page.evaluate(() => [...document.querySelectorAll("#map .point")].map((node) => node.getAttribute("transform")));
  const before = await places();
  await answered("map", () => page.click("#map button.primary"));
  equal(await places(), before, "places");
  await page.fill("#map-texts", "same\nsame\nsame");
  await page.click("#map button.primary");
  await $("#map .error").waitFor();
  holds((await text("#map .error")).includes("All the vectors are the same"), await text("#map .error"));
});

// --- Models and live

await check("models: every model with its facts", async () => {
  await section("models");
  await page.waitForFunction((n) => document.querySelectorAll("#models article").length === n, listed.length);
  for (const [i, model] of listed.entries()) {
    const shown = await $("#models article").nth(i).innerText();
    const digits = (value) => value?.toLocaleString("en");
    for (const part of [model.name, model.task.replace("_", " "), model.info?.architecture, model.info?.device, model.info?.precision, digits(model.info?.parameters), ...Object.keys(model.info?.prompts ?? {})]) {
      if (part) holds(shown.includes(part), `${model.name}: "${part}" is not shown`);
    }
  }
});

const polls = () => {
  const times = [];
  const listen = (request) => request.url().endsWith("/embral/v1/status") && times.push(Date.now());
  page.on("request", listen);
  return { times, stop: () => page.off("request", listen) };
};

await check("live: polls each second, the charts move with the work", async () => {
  const count = polls();
  await section("live");
  await page.waitForFunction(() => document.querySelectorAll("#live figure").length === 5);
  const paths = () => page.evaluate(() => [...document.querySelectorAll("#live .line-0")].map((node) => node.getAttribute("d")));
  await page.waitForTimeout(1500);
  const before = await paths();
  const until = Date.now() + 3200;
  let sent = 0;
  while (Date.now() < until) {
    // New texts each time: what a cache answers is not counted as work.
    await api("/embral/v1/embed", { model: embedder, input: Array.from({ length: 8 }, (_, i) => `Load of the test, ${sent} and ${i}: ${Date.now()}`) });
    sent += 8;
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  await page.waitForTimeout(1200);
  count.stop();
  holds(count.times.length >= 5 && count.times.length <= 8, `${count.times.length} polls in about 6 s`);
  const after = await paths();
  for (const i of [0, 1, 4]) holds(before[i] !== after[i], `chart ${i + 1} did not move`);
  const labels = await page.evaluate(() => [...document.querySelectorAll("#live svg[role=img]")].map((node) => node.getAttribute("aria-label")));
  const peak = number(labels[0].split("peak")[1]);
  // Texts a second over a window that may hold the pause before or after the work.
  holds(peak >= 0.3 * (sent / 3.2), `the peak is ${peak} texts/s with ${sent} sent in 3.2 s`);
  labels.forEach((label) => holds(/now .+/.test(label), `label "${label}"`));
});

await check("live: a table row for each model, with its numbers", async () => {
  const { models } = await api("/embral/v1/status");
  const rows = await page.evaluate(() => [...document.querySelectorAll("#live tbody th")].map((node) => node.textContent));
  equal(rows, models.map((model) => model.name), "rows");
});

await check("live: Pause, a hidden page and another tab stop the polls", async () => {
  const during = async (action) => {
    await action();
    await page.waitForTimeout(200);
    const count = polls();
    await page.waitForTimeout(2300);
    count.stop();
    return count.times.length;
  };
  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await tabTo("#live-pause");
  equal(await during(() => press("Space")), 0, "polls while paused");
  holds((await during(() => press("Space"))) >= 1, "no polls after Pause is taken back");
  equal(await during(() => hide(true)), 0, "polls while hidden");
  holds((await during(() => hide(false))) >= 1, "no polls when shown again");
  equal(await during(() => page.click("#tab-compare")), 0, "polls in another tab");
});

// --- Looks and access

const ground = () => page.evaluate(() => {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data[0];
});

await check("theme: the system's, then the one chosen by keyboard, kept over a reload", async () => {
  await page.emulateMedia({ colorScheme: "dark" });
  holds((await ground()) < 60, "a dark system shows a light page");
  await page.emulateMedia({ colorScheme: "light" });
  holds((await ground()) > 200, "a light system shows a dark page");
  await $("#theme").focus();
  await press("Enter", "Enter");
  equal([await text("#theme"), (await ground()) < 60], ["Theme: dark", true], "dark");
  await page.reload();
  equal([await text("#theme"), (await ground()) < 60], ["Theme: dark", true], "dark after a reload");
  await page.click("#theme");
  equal(await text("#theme"), "Theme: auto", "theme");
});

await check("nothing moves for who prefers reduced motion", async () => {
  await page.emulateMedia({ reducedMotion: "reduce" });
  const moving = await page.evaluate(() => [...document.querySelectorAll("*")].filter((node) => {
    const style = getComputedStyle(node);
    return style.transitionDuration.split(",").some((time) => Number.parseFloat(time) > 0) || style.animationName !== "none";
  }).length);
  equal(moving, 0, "elements that move");
  await page.emulateMedia({ reducedMotion: null });
});

for (const theme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    await check(`${theme}, ${width} px: no tab is wider than the window, axe finds nothing`, async () => {
      await page.emulateMedia({ colorScheme: theme });
      await page.setViewportSize({ width, height: 900 });
      await page.goto(`${base}/`);
      await page.reload();
      await page.waitForFunction((name) => [...document.querySelectorAll("#compare option")].some((option) => option.value === name), embedder);
      for (const name of ["compare", "search", "map", "models", "live"]) {
        await page.click(`#tab-${name}`);
        if (await $(`#${name} button.primary`).count()) await answered(name, () => page.click(`#${name} button.primary`));
        if (name === "live") await page.waitForTimeout(2300);
        if (given.shots) await page.screenshot({ path: `${given.shots}/${name}-${theme}-${width}.png`, fullPage: true });
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        holds(over <= 0, `${name} is ${over} px wider than the window`);
        await page.evaluate(axe);
        const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
        equal(found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 120)} ${nodes[0].any[0]?.message ?? ""}`), [], `axe on ${name}`);
      }
      holds(await page.evaluate(() => window.breaches.length === 0), `policy: ${await page.evaluate(() => window.breaches.join("; "))}`);
    });
  }
}

await check("focus is seen: every stop of the page has an outline", async () => {
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.click("#tab-compare");
  await answered("compare", () => page.click("#compare button.primary"));
  await page.evaluate(() => document.activeElement.blur());
  const bare = [];
  for (let i = 0; i < 30; i += 1) {
    await press("Tab");
    const state = await page.evaluate(() => {
      const node = document.activeElement;
      const style = getComputedStyle(node);
      return { end: node === document.body, name: node.id || node.textContent.slice(0, 20), seen: style.outlineStyle !== "none" && Number.parseFloat(style.outlineWidth) > 0 };
    });
    if (state.end) break;
    if (!state.seen) bare.push(state.name);
  }
  equal(bare, [], "stops without an outline");
});

await check("no console error, no breach of the policy, no request to another host", async () => equal(problems, [], "problems"));
await close();

await check("without JavaScript the page says what it is and where to go", async () => {
  const plain = await open(base, { executablePath: given.chromium, javaScriptEnabled: false });
  try {
    await plain.page.goto(`${base}/`);
    const links = await plain.page.locator("noscript a").evaluateAll((nodes) => nodes.map((node) => node.getAttribute("href"))).catch(() => null);
    const shown = await plain.page.locator("body").innerText();
    for (const part of ["turns texts into vectors", "/openapi.json", "/metrics", "/health"]) holds(shown.includes(part), `"${part}" is not in "${shown}"`);
    holds(!shown.includes("Run"), `what needs JavaScript is shown: ${shown} ${links ?? ""}`);
    equal(plain.problems, [], "problems");
  } finally {
    await plain.close();
  }
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
