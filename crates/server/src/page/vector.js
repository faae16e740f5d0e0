// Geometry of vectors, in f64.

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}

/** Cosine, which is no number where a vector is all zero. Rounding may not push it past 1. */
export function cosine(a, b) {
  const length = Math.sqrt(dot(a, a) * dot(b, b));
  return length > 0 ? Math.max(-1, Math.min(1, dot(a, b) / length)) : Number.NaN;
}

/** The `k` largest scores as `{index, score}`, equal ones in their order; what is no number comes last. */
export function best(scores, k) {
  const order = (score) => (Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score);
  return Array.from(scores, (score, index) => ({ index, score }))
    .sort((a, b) => order(b.score) - order(a.score) || a.index - b.index)
    .slice(0, k);
}
