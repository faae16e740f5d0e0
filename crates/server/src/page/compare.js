// The similarity matrix of a few texts as a heat map that is also a table: values in the cells, arrows move between them.

import { embed } from "./api.js";
import { byId, el, lines } from "./dom.js";
import { count, fixed, plural, short } from "./format.js";
import { costFacts, facts, job, wrongInput } from "./job.js";
import { settings } from "./settings.js";
import { cosine } from "./vector.js";

/** More would be cells too small to read; the map takes more texts. */
const MOST = 40;

const cutMark = (item) => item.truncated && el("span", { class: "cut", title: "Longer than the model takes: the rest was cut" }, "cut");

const ramp = () => el("span", { class: "ramp", "aria-hidden": "true" }, Array.from({ length: 16 }, (_, i) => el("i", { "--t": i / 15 })));

/** Arrow keys, Home and End (with Ctrl: the whole grid) between the cells of a grid of `n` x `n`. */
function target({ key, ctrlKey }, row, column, n) {
  const within = (value) => Math.max(0, Math.min(n - 1, value));
  switch (key) {
    case "ArrowUp": return [within(row - 1), column];
    case "ArrowDown": return [within(row + 1), column];
    case "ArrowLeft": return [row, within(column - 1)];
    case "ArrowRight": return [row, within(column + 1)];
    case "Home": return [ctrlKey ? 0 : row, 0];
    case "End": return [ctrlKey ? n - 1 : row, n - 1];
    default: return null;
  }
}

function heatMap(texts, items, matrix) {
  const n = texts.length;
  const cells = matrix.map((row, i) => row.map((value, j) => el("td", {
    role: "gridcell", tabindex: i === 0 && j === 0 ? "0" : "-1", "data-row": i, "data-column": j,
  }, fixed(value, 2))));
  const rowHeads = texts.map((text, i) => el("th", { scope: "row", title: text },
    el("div", {}, el("span", { class: "number" }, i + 1), el("span", { class: "text" }, text), cutMark(items[i]), el("span", { class: "tokens" }, count(items[i].tokens)))));
  const columnHeads = texts.map((text, i) => el("th", { scope: "col", title: text, "aria-label": `${i + 1}: ${short(text, 60)}` }, i + 1));
  const grid = el("table", { role: "grid", class: n > 14 ? "heat dense" : "heat", "aria-label": "Cosine similarity of each pair of texts" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "corner" }, "Text ", el("span", {}, "tokens")), columnHeads)),
    el("tbody", {}, cells.map((row, i) => el("tr", {}, rowHeads[i], row))));
  const detail = el("p", { class: "detail" });
  const low = el("span");
  const high = el("span");
  const scale = el("select", { id: "compare-scale" }, el("option", { value: "fixed" }, "0 to 1"), el("option", { value: "spread" }, "spread over these values"));

  function paint() {
    const apart = matrix.flatMap((row, i) => row.filter((value, j) => i !== j && Number.isFinite(value)));
    const spread = scale.value === "spread" && apart.length > 0;
    const from = spread ? Math.min(...apart) : 0;
    const to = spread ? Math.max(...apart) : 1;
    low.textContent = spread ? fixed(from, 2) : "0 or less";
    high.textContent = spread ? `${fixed(to, 2)} or more` : fixed(to, 0);
    matrix.forEach((row, i) => row.forEach((value, j) => {
      const at = Number.isFinite(value) ? Math.max(0, Math.min(1, (value - from) / (to - from || 1))) : 0;
      cells[i][j].style.setProperty("--t", at.toFixed(4));
    }));
  }

  let marked = [];
  function show(i, j) {
    for (const node of marked) node.classList.remove("at");
    marked = [rowHeads[i], columnHeads[j]];
    for (const node of marked) node.classList.add("at");
    detail.replaceChildren(el("b", {}, fixed(matrix[i][j], 4)), ` ${i + 1}: “${short(texts[i], 90)}” and ${j + 1}: “${short(texts[j], 90)}”`);
  }
  const place = (node) => node.closest?.("td") && [Number(node.dataset.row), Number(node.dataset.column)];
  grid.addEventListener("pointerover", ({ target: node }) => place(node) && show(...place(node)));
  grid.addEventListener("focusin", ({ target: node }) => {
    if (!place(node)) return;
    grid.querySelector("td[tabindex='0']").tabIndex = -1;
    node.tabIndex = 0;
    show(...place(node));
  });
  grid.addEventListener("keydown", (event) => {
    const from = place(event.target);
    const to = from && target(event, ...from, n);
    if (!to) return;
    event.preventDefault();
    cells[to[0]][to[1]].focus();
  });
  scale.addEventListener("change", paint);
  paint();
  show(0, n > 1 ? 1 : 0);
  return [
    detail,
    el("div", { class: "scroll" }, grid),
    el("div", { class: "legend" }, el("label", { for: "compare-scale" }, "Colours"), scale, low, ramp(), high),
  ];
}

/** The nearest and the farthest pair, in words. */
function extremes(matrix) {
  const pairs = matrix.flatMap((row, i) => row.slice(0, i).map((value, j) => ({ value, i: j, j: i }))).filter((pair) => Number.isFinite(pair.value));
  if (pairs.length < 2) return "";
  pairs.sort((a, b) => b.value - a.value);
  const say = ({ value, i, j }) => `${i + 1} and ${j + 1} (${fixed(value, 2)})`;
  return ` Most alike: ${say(pairs[0])}. Least: ${say(pairs.at(-1))}.`;
}

export function compare(panel) {
  const read = settings(panel.querySelector(".settings"), { types: { inputType: ["Input type", ""] } });
  job(panel, async (control) => {
    const texts = lines(byId("compare-texts").value);
    if (texts.length === 0) throw wrongInput("There is no text to compare.");
    if (texts.length > MOST) throw wrongInput(`The matrix takes up to ${MOST} texts and there are ${count(texts.length)}. The map takes more.`);
    const { items, model, dimensions, cost } = await embed(texts, read(), control);
    const matrix = items.map((a) => items.map((b) => cosine(a.vector, b.vector)));
    const cut = items.filter((item) => item.truncated).length;
    return {
      said: `${plural(texts.length, "text")} compared.${extremes(matrix)}${cut ? ` ${plural(cut, "text was", "texts were")} longer than the model takes and cut.` : ""}`,
      nodes: [
        ...heatMap(texts, items, matrix),
        facts([["Model", model], ["Dimensions", count(dimensions)], ...costFacts(cost)]),
      ],
    };
  });
}
