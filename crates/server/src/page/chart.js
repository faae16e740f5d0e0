// A line chart of the last two minutes in SVG, with the numbers of now and the peak as text above it.

import { el, svg } from "./dom.js";

/** Seconds shown. */
export const SPAN = 120;
/** Seconds without a number after which a line is broken: what was not seen is not drawn. */
export const GAP = 3.5;
const WIDTH = 600;
const HEIGHT = 120;

/** The least of 1, 2, 5, 10, 20 … that is not below `value`. */
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
}

/** For bytes: quarters of a power of two, whose labels are short. */
export function roundUpBytes(value) {
  const power = 2 ** Math.floor(Math.log2(Math.max(value, 1024)));
  return power * [1, 1.25, 1.5, 1.75, 2].find((step) => step * power >= value);
}

/** The points of a series in pixels, one list for each stretch without a gap. */
function stretches(samples, of, now, top) {
  const found = [];
  let before = Number.NEGATIVE_INFINITY;
  for (const sample of samples) {
    const value = of(sample);
    if (value === null || value === undefined) continue;
    if (sample.at - before > GAP) found.push([]);
    before = sample.at;
    found.at(-1).push([WIDTH * (1 - (now - sample.at) / SPAN), HEIGHT * (1 - Math.min(1, value / top))].map((pixel) => pixel.toFixed(1)));
  }
  return found;
}

const line = (points) => `M${points.map((point) => point.join(" ")).join("L")}`;
const area = (points) => `${line([[points[0][0], HEIGHT], ...points, [points.at(-1)[0], HEIGHT]])}Z`;

/**
 * `series` are `{name, of}` with `of(sample)` a number or null; `format` writes a value, `ceiling` rounds the top of the axis up. Returns
 * `{element, draw(samples)}` with samples `{at}` in seconds, oldest first; the newest is drawn at the right edge.
 */
export function chart({ title, note, series, format, ceiling = roundUp }) {
  const lines = series.map((_, i) => svg("path", { class: `line line-${i}` }));
  const fill = svg("path", { class: "area" });
  const grid = [0, 0.5, 1].map((share) => svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * share, y2: HEIGHT * share }));
  const [top, middle] = [el("span"), el("span")];
  const values = series.map(() => el("b"));
  const peak = el("span", { class: "quiet peak" });
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title }, grid, fill, lines);
  const element = el("figure", { class: "chart" },
    el("figcaption", {}, el("h3", {}, title), note && el("p", { class: "quiet" }, note),
      el("p", { class: "now" }, series.map(({ name }, i) => el("span", { class: `series-${i}` }, name && `${name} `, values[i])), peak)),
    el("div", { class: "axes" }, el("div", { class: "up" }, top, middle, el("span", {}, "0")), plot,
      el("div", { class: "along" }, el("span", {}, "2 min ago"), el("span", {}, "1 min"), el("span", {}, "now"))));

  function draw(samples) {
    const now = samples.at(-1)?.at ?? 0;
    const drawn = samples.filter((sample) => now - sample.at <= SPAN);
    const all = drawn.flatMap((sample) => series.map(({ of }) => of(sample))).filter((value) => value !== null && value !== undefined);
    const most = Math.max(0, ...all);
    const high = ceiling(most);
    top.textContent = format(high);
    middle.textContent = format(high / 2);
    peak.textContent = all.length ? `peak ${format(most)}` : "";
    const parts = series.map(({ of }) => stretches(drawn, of, now, high));
    lines.forEach((path, i) => path.setAttribute("d", parts[i].map(line).join("")));
    fill.setAttribute("d", parts[0].map(area).join(""));
    series.forEach(({ of }, i) => (values[i].textContent = format(drawn.length ? of(drawn.at(-1)) : null)));
    const said = series.map(({ name }, i) => `${name ?? ""} ${values[i].textContent}`.trim()).join(", ");
    plot.setAttribute("aria-label", `${title}, the last two minutes: now ${said}; ${peak.textContent || "no number yet"}`);
  }
  return { element, draw };
}
