// Principal components of n vectors through their n x n Gram matrix, which is smaller than the d x d covariance for the few hundred
// texts a page shows: with the centred rows X, an eigenvector u of X X' with eigenvalue l gives the coordinates sqrt(l) u.

import { dot } from "./vector.js";

const ROUNDS = 3000;
/** Squared change of the direction at which it counts as found; f64 rounds at 2e-16. */
const SETTLED = 1e-24;

function centred(vectors) {
  const mean = new Float64Array(vectors[0].length);
  for (const vector of vectors) for (let i = 0; i < mean.length; i += 1) mean[i] += vector[i] / vectors.length;
  return vectors.map((vector) => Float64Array.from(vector, (value, i) => value - mean[i]));
}

/** Takes away what lies along the unit vectors `found`, then scales to length 1; zero where nothing is left. */
function unit(vector, found) {
  for (const other of found) {
    const along = dot(vector, other);
    vector = vector.map((value, i) => value - along * other[i]);
  }
  const length = Math.sqrt(dot(vector, vector));
  return vector.map((value) => (length > 0 ? value / length : 0));
}

/**
 * The next eigenvector by power iteration. Where two eigenvalues are all but equal it may end between their vectors, which turns the map
 * and leaves its distances as they are, since the second vector then is the rest of the same plane.
 */
function eigenvector(matrix, found) {
  // A fixed start, with no symmetry that an eigenvector could share: the same vectors give the same map every time.
  let vector = unit(Float64Array.from(matrix, (_, i) => Math.sin(1 + i * i)), found);
  for (let round = 0; round < ROUNDS; round += 1) {
    const next = unit(Float64Array.from(matrix, (row) => dot(row, vector)), found);
    const change = next.reduce((sum, value, i) => sum + (value - vector[i]) ** 2, 0);
    vector = next;
    if (change < SETTLED) break;
  }
  return vector;
}

/**
 * Coordinates along the first two components: `points[i]` is `[x, y]`, `explained` the share of the variance along each. The sign of a
 * component, which is arbitrary, is such that its largest coordinate is positive.
 */
export function pca(vectors) {
  const rows = centred(vectors);
  const matrix = rows.map((a) => Float64Array.from(rows, (b) => dot(a, b)));
  const total = matrix.reduce((sum, row, i) => sum + row[i], 0);
  const found = [];
  const axes = [0, 1].map(() => {
    const vector = eigenvector(matrix, found);
    found.push(vector);
    const value = Math.max(0, dot(vector, Float64Array.from(matrix, (row) => dot(row, vector))));
    const peak = vector.reduce((far, x) => (Math.abs(x) > Math.abs(far) * (1 + 1e-9) ? x : far), 0);
    return { share: total > 0 ? value / total : 0, along: vector.map((x) => x * Math.sqrt(value) * (peak < 0 ? -1 : 1)) };
  });
  return { points: vectors.map((_, i) => [axes[0].along[i], axes[1].along[i]]), explained: axes.map((axis) => axis.share), total };
}
