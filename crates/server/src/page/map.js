// Vectors laid flat by their principal components. Choosing a point colours the others by their cosine to it in all dimensions, since two
// dimensions can draw far texts near each other.

import { embed } from "./api.js";
import { byId, el, lines, svg } from "./dom.js";
import { count, fixed, plural, short } from "./format.js";
import { costFacts, facts, job, wrongInput } from "./job.js";
import { meets, placeLabels } from "./labels.js";
import { pca } from "./pca.js";
import { settings } from "./settings.js";
import { best, cosine, dot } from "./vector.js";

/** Each pair of texts is a dot product in the browser: 500 texts are 125,000 of them. */
const MOST = 500;
const NEAREST = 3;
const FONT = 12;
const MARGIN = 26;
/** How near the pointer has to come to a point, in pixels. */
const REACH = 24;

const ruler = document.createElement("canvas").getContext("2d");
function widthOf(text, weight = 400) {
  ruler.font = `${weight} ${FONT}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

/** Data to pixels with one scale for both axes, so that distances can be read; `height` fits the data within bounds. */
function frame(points, width) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const [w, h] = [right - left || 1e-9, high - low || 1e-9];
  const height = Math.max(280, Math.min(560, (h / w) * (width - 2 * MARGIN) + 2 * MARGIN));
  const scale = Math.min((width - 2 * MARGIN) / w, (height - 2 * MARGIN) / h);
  return {
    width,
    height,
    at: ([x, y]) => ({ x: width / 2 + (x - (left + right) / 2) * scale, y: height / 2 - (y - (low + high) / 2) * scale }),
  };
}

/** The point next to `from` in the direction of an arrow key: near counts, and off the direction counts double. */
function neighbour(places, from, key) {
  const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[key] ?? [0, 0];
  let found = from;
  let least = Number.POSITIVE_INFINITY;
  places.forEach(({ x, y }, i) => {
    const [u, v] = [x - places[from].x, y - places[from].y];
    const along = u * dx + v * dy;
    const cost = along + 2 * Math.abs(u * dy - v * dx);
    if (i !== from && along > 0.01 && cost < least) [found, least] = [i, cost];
  });
  return found;
}

function picture(texts, items, points) {
  const cosines = (i) => items.map((item) => cosine(items[i].vector, item.vector));
  const links = svg("g", { class: "links" });
  const marks = texts.map((text, i) => svg("g", {
    role: "option", class: "point", tabindex: i === 0 ? "0" : "-1", "aria-selected": "false", "data-index": i, "aria-label": text,
  }, svg("circle", { r: 9, class: "ring" }), svg("circle", { r: 5, class: "dot" })));
  const names = texts.map(() => svg("text"));
  // The chosen point once more, over the labels of the others.
  const over = svg("g", { class: "over" });
  const chart = svg("svg", { class: "map", role: "listbox", "aria-label": "Map of the texts; arrow keys move between the points" }, links, marks,
    svg("g", { class: "names", "aria-hidden": "true" }, names, over));
  const detail = el("p", { class: "detail" }, "Choose a point, with the pointer or the arrow keys: colours show its cosine to the others and lines lead to the nearest, both in all dimensions.");
  const holder = el("div", { class: "plot" }, chart);
  let places = [];
  let boxes = [];
  let chosen = -1;

  function choose(i) {
    marks[chosen]?.setAttribute("aria-selected", "false");
    chart.classList.toggle("chosen", i >= 0);
    chosen = i;
    if (i < 0) {
      links.replaceChildren();
      over.replaceChildren();
      for (const name of names) name.classList.remove("covered");
      return;
    }
    marks[i].setAttribute("aria-selected", "true");
    const [x, y] = ["x", "y"].map((name) => Number(names[i].getAttribute(name)));
    const chip = { x: x - 4, y: y - FONT - 1, w: widthOf(names[i].textContent, 600) + 8, h: FONT + 7 };
    over.replaceChildren(svg("rect", { x: chip.x, y: chip.y, width: chip.w, height: chip.h, rx: 3 }),
      svg("circle", { r: 6, class: "dot", cx: places[i].x, cy: places[i].y }), svg("text", { x, y }, names[i].textContent));
    names.forEach((name, j) => name.classList.toggle("covered", Boolean(boxes[j]) && meets(chip, boxes[j])));
    const alike = cosines(i);
    const nearest = best(alike.map((value, j) => (j === i ? Number.NaN : value)), NEAREST).filter(({ score }) => !Number.isNaN(score));
    alike.forEach((value, j) => marks[j].style.setProperty("--t", Math.max(0, value || 0).toFixed(4)));
    names.forEach((name, j) => name.classList.toggle("near", nearest.some(({ index }) => index === j)));
    links.replaceChildren(...nearest.map(({ index }) => svg("line", { x1: places[i].x, y1: places[i].y, x2: places[index].x, y2: places[index].y })));
    const told = nearest.map(({ index, score }) => `“${short(texts[index], 40)}” ${fixed(score, 3)}`).join(", ");
    // Only of the chosen: for every point this would be each pair of texts once more.
    marks[i].setAttribute("aria-label", `${texts[i]}. Nearest: ${told}.`);
    detail.replaceChildren(el("b", {}, short(texts[i], 120)), ` ${plural(items[i].tokens, "token")}${items[i].truncated ? ", cut" : ""}. Nearest in all dimensions: ${told}.`);
  }

  function lay() {
    const { width, height, at } = frame(points, holder.clientWidth || 600);
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.setAttribute("height", height);
    places = points.map(at);
    const labels = texts.map((text) => short(text, width < 480 ? 18 : 26));
    boxes = placeLabels(places.map((place, i) => ({ ...place, w: widthOf(labels[i]) })), FONT + 3, { width, height });
    marks.forEach((mark, i) => {
      const { x, y } = places[i];
      mark.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
      names[i].classList.toggle("crowded", !boxes[i]);
      names[i].textContent = labels[i];
      // A label without room is shown when its point is chosen, on the side where the frame has more.
      const box = boxes[i] ?? { x: x < width / 2 ? x + 8 : x - 8 - widthOf(labels[i]), y: y - (FONT + 3) / 2 };
      names[i].setAttribute("x", box.x.toFixed(2));
      names[i].setAttribute("y", (box.y + FONT).toFixed(2));
    });
    if (chosen >= 0) choose(chosen);
  }

  const index = (node) => Number(node.closest(".point")?.dataset.index ?? -1);
  /** The point nearest to the pointer, for where points crowd the topmost need not be the one meant; -1 with none in reach. */
  function under(event) {
    const box = chart.getBoundingClientRect();
    const far = places.map(({ x, y }) => -Math.hypot(event.clientX - box.left - x, event.clientY - box.top - y));
    const [nearest] = best(far, 1);
    return nearest.score >= -REACH ? nearest.index : -1;
  }
  chart.addEventListener("pointermove", (event) => {
    const i = under(event);
    if (i >= 0 && i !== chosen) choose(i);
  });
  chart.addEventListener("click", (event) => marks[under(event)]?.focus());
  // Not on the drawing: Chromium makes an SVG element that listens to focus a tab stop of its own.
  holder.addEventListener("focusin", ({ target }) => {
    for (const mark of marks) mark.setAttribute("tabindex", mark === target ? "0" : "-1");
    choose(index(target));
  });
  chart.addEventListener("keydown", (event) => {
    const from = index(event.target);
    if (from < 0) return;
    if (event.key === "Escape") choose(-1);
    const to = { Home: 0, End: texts.length - 1 }[event.key] ?? neighbour(places, from, event.key);
    if (event.key.startsWith("Arrow") || to !== from) event.preventDefault();
    if (to !== from) marks[to].focus();
  });
  new ResizeObserver(lay).observe(holder);
  return [detail, holder];
}

const table = (texts, items, points) => el("details", {}, el("summary", {}, "The map as a table"),
  el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Coordinates" }, el("table", { class: "numbers" },
    el("thead", {}, el("tr", {}, ["Text", "First", "Second", "Tokens"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, texts.map((text, i) => el("tr", {}, el("th", { scope: "row" }, text, items[i].truncated && el("span", { class: "cut" }, "cut")),
      points[i].map((value) => el("td", {}, fixed(value, 4))), el("td", {}, count(items[i].tokens))))))));

export function map(panel) {
  const read = settings(panel.querySelector(".settings"), { types: { inputType: ["Input type", ""] } });
  job(panel, async (control) => {
    const texts = lines(byId("map-texts").value);
    if (texts.length < 3) throw wrongInput("A map needs at least three texts.");
    if (texts.length > MOST) throw wrongInput(`The map takes up to ${MOST} texts and there are ${count(texts.length)}.`);
    const { items, model, dimensions, cost } = await embed(texts, read(), control);
    const vectors = items.map((item) => item.vector);
    const { points, explained, total } = pca(vectors);
    // Below this the differences are rounding of f32, not meaning.
    if (total <= 1e-12 * vectors.reduce((sum, vector) => sum + dot(vector, vector), 0)) throw wrongInput("All the vectors are the same: there is nothing to lay apart.");
    const cut = items.filter((item) => item.truncated).length;
    const percent = (share) => `${fixed(100 * share, 1)}\u00a0%`;
    return {
      said: `${plural(texts.length, "text")} mapped. The map shows ${percent(explained[0] + explained[1])} of the variance: ${percent(explained[0])} across, ${percent(explained[1])} upwards.${
        cut ? ` ${plural(cut, "text was", "texts were")} longer than the model takes and cut.` : ""}`,
      nodes: [
        ...picture(texts, items, points),
        table(texts, items, points),
        facts([["Model", model], ["Dimensions", count(dimensions)], ...costFacts(cost)]),
      ],
    };
  });
}
