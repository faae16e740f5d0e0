// The answers the page is held to, computed in another way than the page does.

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

export const cosine = (a, b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

/** Eigenpairs of a symmetric matrix by Jacobi rotations: `{values, vectors}`, largest first. */
function jacobi(matrix) {
  const n = matrix.length;
  const a = matrix.map((row) => [...row]);
  const v = a.map((_, i) => a.map((__, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 100; sweep += 1) {
    let off = 0;
    for (let p = 0; p < n; p += 1) {
      for (let q = p + 1; q < n; q += 1) {
        off = Math.max(off, Math.abs(a[p][q]));
        if (a[p][q] === 0) continue;
        const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1);
        const s = t * c;
        for (let k = 0; k < n; k += 1) [a[k][p], a[k][q]] = [c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]];
        for (let k = 0; k < n; k += 1) {
          [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
          [v[p][k], v[q][k]] = [c * v[p][k] - s * v[q][k], s * v[p][k] + c * v[q][k]];
        }
      }
    }
    if (off < 1e-15) break;
  }
  const order = a.map((_, i) => i).sort((i, j) => a[j][j] - a[i][i]);
  return { values: order.map((i) => a[i][i]), vectors: order.map((i) => v[i]) };
}

/** The first two principal components by the full spectrum: `{axes: [[coordinate of each vector]], shares}`. */
export function components(vectors) {
  const mean = vectors[0].map((_, k) => vectors.reduce((sum, vector) => sum + vector[k], 0) / vectors.length);
  const rows = vectors.map((vector) => vector.map((value, k) => value - mean[k]));
  const { values, vectors: found } = jacobi(rows.map((a) => rows.map((b) => dot(a, b))));
  const total = values.reduce((sum, value) => sum + value, 0);
  return { axes: [0, 1].map((axis) => found[axis].map((u) => u * Math.sqrt(values[axis]))), shares: [0, 1].map((axis) => values[axis] / total) };
}

/** Contrast of two `[r, g, b]` of 0..255, as WCAG 2 defines it. */
export function contrast(one, other) {
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** A number as the page writes it. */
export const number = (text) => Number(text.replace("−", "-").replaceAll(",", "").match(/-?[\d.]+/)?.[0] ?? Number.NaN);
