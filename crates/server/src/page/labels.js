// Where the labels of points go: beside their point, over no other label and no point, or nowhere.

const GAP = 8;
/** Whether two boxes `{x, y, w, h}` overlap. */
export const meets = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

/** The places tried, in order of how well they read: right, left, above, below, then the corners. */
const around = ({ x, y }, w, h) => [
  [x + GAP, y - h / 2], [x - GAP - w, y - h / 2], [x - w / 2, y - GAP - h], [x - w / 2, y + GAP],
  [x + GAP * 0.7, y - GAP * 0.6 - h], [x + GAP * 0.7, y + GAP * 0.6], [x - GAP * 0.7 - w, y - GAP * 0.6 - h], [x - GAP * 0.7 - w, y + GAP * 0.6],
].map(([left, top]) => ({ x: left, y: top, w, h }));

/**
 * `points` are `{x, y, w}` with `w` the width of the label; the answer has a box for each, or null where there is no room. Lonely points
 * choose first: their label says most, and where points crowd no choice helps.
 */
export function placeLabels(points, h, { width, height }) {
  const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
  const lonely = points.map((a, i) => points.reduce((near, b, j) => (i === j ? near : Math.min(near, distance(a, b))), Number.POSITIVE_INFINITY));
  const dots = points.map(({ x, y }) => ({ x: x - 6, y: y - 6, w: 12, h: 12 }));
  const boxes = points.map(() => null);
  const order = points.map((_, i) => i).sort((a, b) => lonely[b] - lonely[a] || a - b);
  for (const i of order) {
    boxes[i] = around(points[i], points[i].w, h).find((box) =>
      box.x >= 2 && box.y >= 2 && box.x + box.w <= width - 2 && box.y + box.h <= height - 2 &&
      !dots.some((dot, j) => j !== i && meets(box, dot)) && !boxes.some((other) => other && meets(box, other))) ?? null;
  }
  return boxes;
}
